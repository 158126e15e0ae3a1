//! Network namespaces of the tests' own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A network namespace with its loopback interface up, held by a process and gone with it.
#[derive(Debug)]
pub struct NetworkNamespace {
    holder: Child,
    path: PathBuf,
}

impl NetworkNamespace {
    /// Makes one. Needs root, `unshare`, `nsenter` and `ip`.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run unshare: {error}"));
        let path = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        let own = std::fs::read_link("/proc/self/ns/net").ok();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(&path).ok() == own {
            let ended = holder.try_wait().ok().flatten();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "unshare --net failed: {ended:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let namespace = NetworkNamespace { holder, path };
        let status = namespace
            .command("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot set the loopback interface up"
        );
        namespace
    }

    /// The namespace's file, for as long as this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs inside; `nsenter` and not `ip netns exec`, which changes the mount namespace too.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path.display()))
            .arg("--")
            .arg(program)
            .stdin(Stdio::null());
        command
    }
}

impl Default for NetworkNamespace {
    fn default() -> Self {
        NetworkNamespace::new()
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
