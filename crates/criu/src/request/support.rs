//! Which CRIU release brought each option.

use criu_image::wire::{Fields, Message};

use crate::rpc::CriuOpts;
use crate::version::Version;

/// An option and the release that brought it to RPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OptionSupport {
    /// Number of its field in `criu_opts`.
    pub(crate) field: u32,
    /// Its name on CRIU's command line, or in the message if it has none there.
    pub(crate) option: &'static str,
    pub(crate) since: Version,
}

const fn option(
    field: u32,
    option: &'static str,
    major: u32,
    minor: u32,
    sublevel: u32,
) -> OptionSupport {
    OptionSupport {
        field,
        option,
        since: Version::new(major, minor, sublevel),
    }
}

/// Every field of `criu_opts`. Releases read off the `rpc.proto` of CRIU's tags; 4.3 from its schema.
pub(crate) const OPTIONS: &[OptionSupport] = &[
    option(1, "--images-dir", 0, 8, 0),
    option(2, "--tree", 0, 8, 0),
    option(3, "--leave-running", 0, 8, 0),
    option(4, "--ext-unix-sk", 0, 8, 0),
    option(5, "--tcp-established", 0, 8, 0),
    option(6, "--evasive-devices", 0, 8, 0),
    option(7, "--shell-job", 0, 8, 0),
    option(8, "--file-locks", 0, 8, 0),
    option(9, "--verbosity", 0, 8, 0),
    option(10, "--log-file", 0, 8, 0),
    option(11, "--page-server", 1, 2, 0),
    option(12, "notify_scripts", 1, 2, 0),
    option(13, "--root", 1, 2, 0),
    option(14, "--prev-images-dir", 1, 2, 0),
    option(15, "--track-mem", 1, 2, 0),
    option(16, "--auto-dedup", 1, 2, 0),
    option(17, "--work-dir", 1, 2, 0),
    option(18, "--link-remap", 1, 2, 0),
    option(19, "--veth-pair", 1, 2, 0),
    option(20, "--cpu-cap", 1, 3, 0),
    option(21, "--force-irmap", 1, 3, 0),
    option(22, "--exec-cmd", 1, 3, 0),
    option(23, "--ext-mount-map", 1, 3, 0),
    option(24, "--manage-cgroups", 1, 3, 0),
    option(25, "--cgroup-root", 1, 3, 0),
    option(26, "--restore-sibling", 1, 3, 1),
    option(27, "--inherit-fd", 1, 5, 1),
    option(28, "--ext-mount-map auto", 1, 6, 0),
    option(29, "--enable-external-sharing", 1, 6, 0),
    option(30, "--enable-external-masters", 1, 6, 0),
    option(31, "--skip-mnt", 1, 6, 0),
    option(32, "--enable-fs", 1, 6, 0),
    option(33, "--ext-unix-sk=INODE", 1, 7, 0),
    option(34, "--manage-cgroups=MODE", 1, 7, 0),
    option(35, "--ghost-limit", 1, 7, 0),
    option(36, "--irmap-scan-path", 1, 8, 0),
    option(37, "--external", 2, 0, 0),
    option(38, "--empty-ns", 2, 0, 0),
    option(39, "--join-ns", 2, 3, 0),
    option(41, "--cgroup-props", 2, 4, 0),
    option(42, "--cgroup-props-file", 2, 4, 0),
    option(43, "--cgroup-dump-controller", 2, 4, 0),
    option(44, "--freeze-cgroup", 2, 4, 0),
    option(45, "--timeout", 2, 4, 0),
    option(46, "--skip-in-flight", 2, 4, 0),
    option(47, "--weak-sysctls", 2, 9, 0),
    option(48, "--lazy-pages", 3, 5, 0),
    option(49, "--status-fd", 2, 11, 0),
    option(50, "--orphan-pts-master", 2, 12, 0),
    option(51, "--config", 3, 11, 0),
    option(52, "--tcp-close", 3, 12, 0),
    option(53, "--lsm-profile", 3, 12, 0),
    option(54, "--tls-cacert", 3, 13, 0),
    option(55, "--tls-cacrl", 3, 13, 0),
    option(56, "--tls-cert", 3, 13, 0),
    option(57, "--tls-key", 3, 13, 0),
    option(58, "--tls", 3, 13, 0),
    option(59, "--tls-no-cn-verify", 3, 13, 0),
    option(60, "--cgroup-yard", 3, 14, 0),
    option(61, "--pre-dump-mode", 3, 14, 0),
    option(62, "pidfd_store_sk", 3, 16, 0),
    option(63, "--lsm-mount-context", 3, 16, 0),
    option(64, "--network-lock", 3, 16, 0),
    option(65, "--mntns-compat-mode", 3, 17, 0),
    option(66, "--skip-file-rwx-check", 3, 18, 0),
    option(67, "--unprivileged", 3, 18, 0),
    option(68, "images_dir", 3, 19, 0),
    option(69, "--leave-stopped", 3, 19, 0),
    option(70, "--display-stats", 3, 19, 0),
    option(71, "log_to_stderr", 3, 19, 0),
    option(72, "--image-io-mode", 4, 3, 0),
    option(73, "--compress", 4, 3, 0),
    option(74, "--compress=ACCELERATION", 4, 3, 0),
    option(75, "--compress-block-size", 4, 3, 0),
    option(76, "--decompress-threads", 4, 3, 0),
    option(77, "--plugin-option", 4, 3, 0),
    option(78, "--stream", 4, 3, 0),
];

/// Returns the newest option that a message sets, to compare with the CRIU it goes to.
pub(crate) fn newest_option(opts: &CriuOpts) -> Option<&'static OptionSupport> {
    let bytes = opts.encode();
    let mut newest: Option<&'static OptionSupport> = None;
    for field in Fields::new(&bytes) {
        let Ok(field) = field else { break };
        let known = OPTIONS.iter().find(|option| option.field == field.number());
        newest = [newest, known]
            .into_iter()
            .flatten()
            .max_by_key(|option| option.since.as_integer());
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_schema_has_its_release_and_no_other_is_listed() {
        let listed: Vec<u32> = OPTIONS.iter().map(|option| option.field).collect();
        let described: Vec<u32> = CriuOpts::DESCRIPTOR
            .fields
            .iter()
            .map(|field| field.number)
            .collect();
        assert_eq!(listed, described);
    }
}
