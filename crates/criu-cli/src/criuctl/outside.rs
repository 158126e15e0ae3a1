//! What processes find around them when they are restored, here or at the end of a migration.

use std::path::PathBuf;

use criu::request::{DescriptorKey, JoinNamespace, NamespaceKind, VethPair};
use criu::{External, InheritFd, Restore};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::arguments::mount_pair;
use super::report::Problem;

/// The options that also decide what a comparison before the restore finds in the way.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ComparedArguments {
    /// New root directory for the processes
    #[arg(short = 'r', long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A resource of the outside, by the name the dump gave it, such as mnt[hosts]:/etc/hosts (can be repeated)
    #[arg(long, value_name = "TYPE[NAME]:WHAT")]
    external: Vec<External>,
    /// An external mount, by the name the dump gave it (can be repeated)
    #[arg(short = 'M', long, value_name = "KEY:PATH")]
    ext_mount_map: Vec<String>,
    /// A mount point to leave out (can be repeated)
    #[arg(long, value_name = "PATH")]
    skip_mnt: Vec<PathBuf>,
    /// Security profile for the tasks
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Do not compare the permissions of files
    #[arg(long)]
    skip_file_rwx_check: bool,
}

impl ComparedArguments {
    pub(super) fn apply(&self, restore: &mut Restore) -> Result<(), Problem> {
        restore.root.clone_from(&self.root);
        restore.external.clone_from(&self.external);
        for entry in &self.ext_mount_map {
            restore.ext_mount_map.push(mount_pair(entry)?);
        }
        restore.skip_mounts.clone_from(&self.skip_mnt);
        restore.lsm_profile.clone_from(&self.lsm_profile);
        restore.skip_file_rwx_check = self.skip_file_rwx_check;
        Ok(())
    }
}

/// Options for what lies outside the processes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct OutsideArguments {
    #[command(flatten)]
    compared: ComparedArguments,
    /// A descriptor of this command that replaces a dumped file (can be repeated)
    #[arg(long, value_name = "fd[N]:KEY")]
    inherit_fd: Vec<String>,
    /// Name the outer end of a veth device (can be repeated)
    #[arg(long, value_name = "INNER=OUTER")]
    veth_pair: Vec<String>,
    /// A namespace to join: net, uts, ipc, time, mnt or user, by PID or file (can be repeated)
    #[arg(short = 'J', long, value_name = "KIND:PID|FILE[,UID,GID]")]
    join_ns: Vec<String>,
    /// Skip system settings that cannot be restored
    #[arg(long)]
    weak_sysctls: bool,
    /// Security context for mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// Restore mounts in the older way
    #[arg(long)]
    mntns_compat_mode: bool,
}

impl OutsideArguments {
    pub(super) fn apply(&self, restore: &mut Restore) -> Result<(), Problem> {
        self.compared.apply(restore)?;
        for entry in &self.inherit_fd {
            restore.inherit_fds.push(inherit_fd(entry)?);
        }
        for entry in &self.veth_pair {
            let (inner, outer) = entry.split_once('=').ok_or_else(|| {
                Problem::Usage(format!("--veth-pair takes INNER=OUTER, not `{entry}`"))
            })?;
            restore.veths.push(VethPair::new(inner, outer));
        }
        for entry in &self.join_ns {
            restore.join_namespaces.push(join_namespace(entry)?);
        }
        restore.weak_sysctls = self.weak_sysctls;
        restore
            .lsm_mount_context
            .clone_from(&self.lsm_mount_context);
        restore.mntns_compat_mode = self.mntns_compat_mode;
        Ok(())
    }
}

/// Reads `fd[N]:KEY` and takes hold of our descriptor N.
fn inherit_fd(entry: &str) -> Result<InheritFd, Problem> {
    let usage = || Problem::Usage(format!("--inherit-fd takes fd[N]:KEY, not `{entry}`"));
    let (number, key) = entry
        .strip_prefix("fd[")
        .and_then(|rest| rest.split_once("]:"))
        .ok_or_else(usage)?;
    let number: i32 = number.parse().map_err(|_| usage())?;
    // A copy made through a handle to ourselves needs no claim on a descriptor we did not open.
    let descriptor = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()))
        .map_err(|errno| {
            Problem::io(format!("use descriptor {number} of --inherit-fd"))(errno.into())
        })?;
    InheritFd::new(DescriptorKey::Key(key.to_owned()), descriptor)
        .map_err(Problem::io(format!("duplicate descriptor {number}")))
}

/// Reads `KIND:PID|FILE[,UID,GID]`.
fn join_namespace(entry: &str) -> Result<JoinNamespace, Problem> {
    let usage = || {
        Problem::Usage(format!(
            "--join-ns takes net, uts, ipc, time, mnt or user, then `:` and a PID or a file, not `{entry}`"
        ))
    };
    let (kind, place) = entry.split_once(':').ok_or_else(usage)?;
    let (kind, place) = match kind {
        "net" => (NamespaceKind::Net, place),
        "uts" => (NamespaceKind::Uts, place),
        "ipc" => (NamespaceKind::Ipc, place),
        "time" => (NamespaceKind::Time, place),
        "mnt" => (NamespaceKind::Mnt, place),
        "user" => {
            let mut parts = place.splitn(3, ',');
            let place = parts.next().unwrap_or_default();
            let id = |part: Option<&str>| part.map(str::parse).transpose().map_err(|_| usage());
            let (uid, gid) = (id(parts.next())?, id(parts.next())?);
            (NamespaceKind::User { uid, gid }, place)
        }
        _ => return Err(usage()),
    };
    Ok(match place.parse::<i32>() {
        Ok(pid) => JoinNamespace::of_process(kind, pid),
        Err(_) => JoinNamespace::new(kind, place),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_named_by_process_or_file() {
        let joined = join_namespace("net:12").unwrap();
        assert_eq!(
            joined,
            JoinNamespace::new(NamespaceKind::Net, "/proc/12/ns/net")
        );
        let joined = join_namespace("user:/ns,7,8").unwrap();
        let kind = NamespaceKind::User {
            uid: Some(7),
            gid: Some(8),
        };
        assert_eq!(joined, JoinNamespace::new(kind, "/ns"));
        for bad in ["net", "pid:1", ":1", "user:/ns,x"] {
            assert!(join_namespace(bad).is_err(), "{bad:?}");
        }
    }
}
