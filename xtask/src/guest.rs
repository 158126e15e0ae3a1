//! A guest machine whose kernel tracks memory changes, for the tests that this machine's kernel cannot run.
//!
//! Plain qemu without hardware help, the distribution's own kernel unpacked beside the build, and this machine's file
//! system as the guest's root, read-only. What runs in the guest is what was built here, at the same paths.
//!
//! ```text
//! target/guest/boot/      the kernel and its modules, from the distribution's package
//! target/guest/initrd     busybox, the modules, and the script that mounts this machine's root
//! target/guest/shared/    the only place the guest writes to that is seen here
//! ```

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::apt::{PrivateApt, Source, os_release_field};
use crate::criu::{Lock, target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::packages::{self, Needed};
use crate::tool;

const QEMU: Needed = Needed {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    purpose: "runs a kernel with memory tracking for the tests of pre-dumps",
};

/// Modules the guest's root needs before anything else, then those CRIU asks for: socket diagnosis, and what a network
/// namespace is locked and dumped with: netfilter needs a checksum that its modules do not name. The last makes a link
/// as slow as a bench wants it.
const MODULES: [&str; 22] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "unix_diag",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "af_packet_diag",
    "netlink_diag",
    "tun",
    "veth",
    "overlay",
    "crc32c_generic",
    "nf_tables",
    "iptable_filter",
    "ip6table_filter",
    "nfnetlink",
    "nf_conntrack_netlink",
    "nft_compat",
    "xt_mark",
    "sch_tbf",
];

/// How long a guest may run. Without hardware help it is some twenty times slower than this machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// What tests whose waits are short are told: not every part of the guest is as slow as its processor.
const SLOWNESS: u32 = 4;

/// That, or what whoever runs this says of a machine that is busy with other things.
pub(crate) fn slowness() -> u32 {
    let said = std::env::var("CRIU_TEST_SLOWNESS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(SLOWNESS)
}

/// `cargo xtask guest PROGRAM [ARGUMENT...]`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if arguments.is_empty() {
        return Err(Failure::new(
            "usage: cargo xtask guest PROGRAM [ARGUMENT...]",
        ));
    }
    let guest = Guest::obtain()?;
    let script = arguments
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ");
    let code = guest.run(&script, |line| println!("{line}"))?;
    if code == 0 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the program ended with code {code} in the guest"
    )))
}

/// A guest ready to boot.
pub(crate) struct Guest {
    qemu: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    shared: PathBuf,
    busybox: PathBuf,
}

impl Guest {
    /// Finds or makes what the guest boots from.
    pub(crate) fn obtain() -> Outcome<Self> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Failure::new(
                "the guest is an x86_64 machine, and this one is not",
            ));
        }
        packages::ensure(&[QEMU])?;
        let qemu = tool::find(QEMU.program).ok_or_else(|| Failure::new("qemu is missing"))?;
        let place = target_directory().join("guest");
        let _lock = Lock::take(&place)?;
        let guest = Guest {
            qemu,
            kernel: place.join("boot/vmlinuz"),
            initrd: place.join("initrd"),
            shared: place.join("shared"),
            busybox: place.join("boot/busybox"),
        };
        if !guest.kernel.exists() || !guest.busybox.exists() {
            unpack(&place)?;
        }
        // Made anew each time: it holds paths of this workspace, and takes less than a second.
        make_initrd(&place, &guest.shared)?;
        Ok(guest)
    }

    /// The directories of the programs in one of the distribution's packages, which is unpacked for the guest.
    pub(crate) fn programs_of(&self, package: &str) -> Outcome<Vec<PathBuf>> {
        let place = target_directory().join("guest");
        let _lock = Lock::take(&place)?;
        let tree = place.join(package);
        if !tree.exists() {
            let draft = place.join(format!(".draft.{}", std::process::id()));
            let _ = fs::remove_dir_all(&draft);
            distribution(&place)?.unpack_alone(package, &draft)?;
            rename(&draft, &tree)?;
        }
        let places = ["sbin", "usr/sbin", "bin", "usr/bin"].map(|name| tree.join(name));
        Ok(places.into_iter().filter(|place| place.exists()).collect())
    }

    /// The directory the guest can write to.
    pub(crate) fn shared(&self) -> &Path {
        &self.shared
    }

    /// Boots, runs a shell script as root, hands over each line it prints, and gives its exit code.
    pub(crate) fn run(&self, script: &str, line: impl FnMut(&str)) -> Outcome<i32> {
        self.run_within(script, PATIENCE, line)
    }

    /// As [`Guest::run`], with another limit.
    pub(crate) fn run_within(
        &self,
        script: &str,
        patience: Duration,
        mut line: impl FnMut(&str),
    ) -> Outcome<i32> {
        let _ = fs::remove_dir_all(&self.shared);
        fs::create_dir_all(&self.shared)
            .doing(format_args!("cannot create {}", self.shared.display()))?;
        let busybox = self.busybox.display();
        let shared = self.shared.display();
        write(
            &self.shared.join("run"),
            &format!(
                "cd /tmp\n( {script}\n) </dev/null 2>&1\necho $? >{shared}/code\n{busybox} sync\n{busybox} poweroff -f\n"
            ),
        )?;
        let mut child = self.command().spawn().doing("cannot start qemu")?;
        let deadline = Instant::now() + patience;
        let watchdog = watch(child.id(), deadline);
        if let Some(console) = child.stdout.take() {
            for text in BufReader::new(console).split(b'\n') {
                let text = text.doing("cannot read the guest's console")?;
                line(String::from_utf8_lossy(&text).trim_end_matches('\r'));
            }
        }
        let status = child.wait().doing("cannot wait for qemu")?;
        drop(watchdog);
        let code = fs::read_to_string(self.shared.join("code")).unwrap_or_default();
        code.trim().parse().map_err(|_| {
            if Instant::now() >= deadline {
                Failure::new(format!("the guest did not end within {patience:?}"))
            } else {
                Failure::new(format!(
                    "the guest ended before the program did (qemu: {status})"
                ))
            }
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.qemu);
        command
            .args([
                "--accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-m",
                "2048",
                "-smp",
                "2",
            ])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .args([
                "-virtfs",
                "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap",
            ])
            .arg("-virtfs")
            .arg(format!(
                "local,path={},mount_tag=shared,security_model=none",
                self.shared.display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}

/// A word as the shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Kills qemu when the deadline passes; dropping the sender calls it off.
fn watch(pid: u32, deadline: Instant) -> std::sync::mpsc::Sender<()> {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = receiver.recv_timeout(left)
            && let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    sender
}

/// The packages of this machine's own suite.
fn distribution(place: &Path) -> Outcome<PrivateApt> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let suite = os_release_field(&release, "VERSION_CODENAME")
        .ok_or_else(|| Failure::new("/etc/os-release does not name this machine's suite"))?;
    let mut apt = PrivateApt::create(&place.join("apt"), Source::of_distribution()?)?;
    println!("fetching packages of {suite} for the guest");
    apt.update(&[&suite])?;
    Ok(apt)
}

/// Fetches the distribution's kernel and a busybox that needs no libraries; nothing is installed.
fn unpack(place: &Path) -> Outcome<()> {
    let apt = distribution(place)?;
    let draft = place.join(format!(".draft.{}", std::process::id()));
    let _ = fs::remove_dir_all(&draft);
    let made = fill(&apt, &draft, &place.join("boot"));
    let _ = fs::remove_dir_all(&draft);
    made
}

fn fill(apt: &PrivateApt, draft: &Path, boot: &Path) -> Outcome<()> {
    // A package of no content that always depends on the newest kernel, under Debian's name or Ubuntu's.
    let kernels: Vec<String> = ["linux-image-amd64", "linux-image-generic"]
        .iter()
        .filter_map(|package| apt.dependencies(package).ok())
        .flatten()
        .filter(|name| name.starts_with("linux-image-") || name.starts_with("linux-modules-"))
        .collect();
    if kernels.is_empty() {
        return Err(Failure::new(
            "this distribution has no kernel package known to us",
        ));
    }
    for package in &kernels {
        apt.unpack_alone(package, draft)?;
    }
    apt.unpack_alone("busybox-static", draft)?;

    let _ = fs::remove_dir_all(boot);
    fs::create_dir_all(boot).doing(format_args!("cannot create {}", boot.display()))?;
    let kernel = first(&draft.join("boot"), "vmlinuz-")?;
    let modules = first(&draft.join("lib/modules"), "")
        .or_else(|_| first(&draft.join("usr/lib/modules"), ""))?;
    let busybox = [draft.join("bin/busybox"), draft.join("usr/bin/busybox")]
        .into_iter()
        .find(|path| path.exists())
        .ok_or_else(|| Failure::new("the package busybox-static holds no busybox"))?;
    let version = modules.file_name().unwrap_or_default().to_owned();
    let tree = boot.join("lib/modules");
    fs::create_dir_all(&tree).doing(format_args!("cannot create {}", tree.display()))?;
    rename(&modules, &tree.join(&version))?;
    tool::output(
        Command::new(&busybox)
            .arg("depmod")
            .arg("-b")
            .arg(boot)
            .arg(&version),
    )?;
    rename(&busybox, &boot.join("busybox"))?;
    // Last: the kernel's presence says that all is there.
    rename(&kernel, &boot.join("vmlinuz"))
}

/// Packs the first root file system.
fn make_initrd(place: &Path, shared: &Path) -> Outcome<()> {
    let boot = place.join("boot");
    let root = place.join(format!(".initrd.{}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    let packed = (|| {
        for directory in ["bin", "proc", "sys", "dev", "root", "workspace"] {
            let directory = root.join(directory);
            fs::create_dir_all(&directory)
                .doing(format_args!("cannot create {}", directory.display()))?;
        }
        let busybox = root.join("bin/busybox");
        fs::copy(boot.join("busybox"), &busybox)
            .doing(format_args!("cannot copy {}", busybox.display()))?;
        copy_modules(&boot.join("lib/modules"), &root.join("lib/modules"))?;
        write(&root.join("init"), &init_script(shared))?;
        tool::output(Command::new("chmod").arg("755").arg(root.join("init")))?;
        let archive = place.join("initrd");
        tool::output(
            Command::new("sh")
                .arg("-c")
                .arg(r#"cd "$1" && "$0" find . | "$0" cpio -o -H newc >"$2" 2>/dev/null"#)
                .arg(boot.join("busybox"))
                .arg(&root)
                .arg(&archive),
        )
        .map(drop)
    })();
    let _ = fs::remove_dir_all(&root);
    packed
}

/// Copies the modules wanted with all they depend on, by the list `depmod` made.
fn copy_modules(from: &Path, to: &Path) -> Outcome<()> {
    let from = first(from, "")?;
    let to = to.join(from.file_name().unwrap_or_default());
    let list = from.join("modules.dep");
    let text = fs::read_to_string(&list).doing(format_args!("cannot read {}", list.display()))?;
    fs::create_dir_all(&to).doing(format_args!("cannot create {}", to.display()))?;
    for (module, needed) in text.lines().filter_map(|line| line.split_once(':')) {
        let name = module.rsplit('/').next().unwrap_or_default();
        let name = name.split('.').next().unwrap_or_default().replace('-', "_");
        if !MODULES.contains(&name.as_str()) {
            continue;
        }
        for path in std::iter::once(module).chain(needed.split_whitespace()) {
            let target = to.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)
                    .doing(format_args!("cannot create {}", parent.display()))?;
            }
            fs::copy(from.join(path), &target)
                .doing(format_args!("cannot copy the module {path}"))?;
        }
    }
    write(&to.join("modules.dep"), &text)
}

/// What the guest does first: it loads the modules, takes this machine's root for its own, and gives CRIU the places it
/// writes to. The workspace is kept in sight even where it lies below one of those.
fn init_script(shared: &Path) -> String {
    let modules = MODULES.join(" ");
    let workspace = workspace_directory().display().to_string();
    let workspace = quoted(&workspace);
    let shared = quoted(&shared.display().to_string());
    format!(
        r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in {modules}; do modprobe $module 2>/dev/null; done
ip link set lo up
options=trans=virtio,version=9p2000.L,msize=262144,cache=loose
mount -t 9p -o ro,$options root /root || exec poweroff -f
mount --bind /root{workspace} /workspace
mount -t tmpfs tmpfs /root/tmp
mount -t tmpfs tmpfs /root/run
# Podman keeps what it works with in these, whatever storage it is given.
mount -t tmpfs tmpfs /root/var/tmp
mount -t tmpfs tmpfs /root/var/cache
mkdir -p /root{workspace}
mount --bind /workspace /root{workspace}
mount -t 9p -o $options shared /root{shared} || exec poweroff -f
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
# Whole huge pages would count as written to, and hide what the tests look at.
echo never > /sys/kernel/mm/transparent_hugepage/enabled
echo 4194304 > /proc/sys/fs/pipe-max-size
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec switch_root /root /bin/sh {shared}/run
"#
    )
}

/// The first entry of a directory whose name begins so.
fn first(directory: &Path, start: &str) -> Outcome<PathBuf> {
    fs::read_dir(directory)
        .doing(format_args!("cannot read {}", directory.display()))?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .ok_or_else(|| Failure::new(format!("{} holds no {start}…", directory.display())))
}

fn rename(from: &Path, to: &Path) -> Outcome<()> {
    fs::rename(from, to).doing(format_args!("cannot move {}", from.display()))
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    fs::write(path, text).doing(format_args!("cannot write {}", path.display()))
}
