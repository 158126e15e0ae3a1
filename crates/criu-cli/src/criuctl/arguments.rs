//! Options several verbs share, under CRIU's own names, and their way into requests.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use criu::External;
use criu::request::{
    CgroupMode, CgroupRoot, Compression, CpuCapabilities, DumpCgroups, DumpMounts, ExternalMount,
    ExternalUnixSockets, ImageIo, Irmap, LogLevel, LogTo, NetworkLock, Pages, RestoreCgroups,
    Settings, Sockets, Tls,
};

use super::report::Problem;

/// The process a dump is of.
#[derive(Debug, Args)]
pub(super) struct TargetArguments {
    /// The process, with all its children
    #[arg(value_name = "PID", required_unless_present = "tree",
        value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// The same, as CRIU's own command takes it
    #[arg(short = 't', long, value_name = "PID", conflicts_with = "pid",
        value_parser = clap::value_parser!(i32).range(1..))]
    tree: Option<i32>,
}

impl TargetArguments {
    pub(super) fn pid(&self) -> Result<i32, Problem> {
        let pid = self.pid.or(self.tree);
        pid.ok_or_else(|| Problem::Usage("which process? Give its PID".to_owned()))
    }
}

/// Options of every request.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log and settings")]
pub(super) struct SettingsArguments {
    /// Directory for CRIU's log and statistics [default: the images directory]
    #[arg(short = 'W', long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// Name of the log file in the working directory
    #[arg(short = 'o', long, value_name = "NAME", default_value = "criu.log")]
    log_file: PathBuf,
    /// How much to log, 0 (nothing) to 4 (everything)
    #[arg(
        short = 'v', long = "verbosity", value_name = "LEVEL", default_value_t = 4,
        num_args = 0..=1, default_missing_value = "4", require_equals = false,
        value_parser = clap::value_parser!(u8).range(0..=4)
    )]
    verbosity: u8,
    /// A configuration file of CRIU's whose settings win over these
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// CRIU runs without root, on CAP_CHECKPOINT_RESTORE alone
    #[arg(long)]
    unprivileged: bool,
    #[command(flatten)]
    processor: ProcessorArguments,
    /// An option of a plugin (since CRIU 4.3; can be repeated)
    #[arg(long, value_name = "PLUGIN.NAME[=VALUE]")]
    plugin_option: Vec<String>,
    /// A program to run at each stage, with CRTOOLS_SCRIPT_ACTION in its environment (can be repeated)
    #[arg(long, value_name = "PROGRAM")]
    pub(super) action_script: Vec<PathBuf>,
}

/// A word of `--cpu-cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CpuCap {
    /// The floating point unit
    Fpu,
    /// Every feature of the processor
    Cpu,
    /// The instruction set
    Ins,
    /// All of these
    All,
    /// Compare nothing
    None,
}

impl SettingsArguments {
    pub(super) fn apply(&self, settings: &mut Settings) {
        settings.work_dir = self.work_dir.as_ref().map(Into::into);
        settings.log_to = LogTo::File(self.log_file.clone().into());
        settings.log_level = match self.verbosity {
            0 => LogLevel::Message,
            1 => LogLevel::Error,
            2 => LogLevel::Warning,
            3 => LogLevel::Info,
            _ => LogLevel::Debug,
        };
        settings.config_file.clone_from(&self.config);
        settings.unprivileged = self.unprivileged;
        settings.plugin_options.clone_from(&self.plugin_option);
        self.processor.apply(settings);
    }
}

/// How processors are compared.
#[derive(Debug, Args)]
pub(super) struct ProcessorArguments {
    /// Processor features that must match (can be repeated)
    #[arg(long, value_name = "CAP", value_enum, value_delimiter = ',')]
    cpu_cap: Vec<CpuCap>,
}

impl ProcessorArguments {
    pub(super) fn apply(&self, settings: &mut Settings) {
        if self.cpu_cap.is_empty() {
            return;
        }
        let mut capabilities = CpuCapabilities::NONE;
        for word in &self.cpu_cap {
            match word {
                CpuCap::Fpu => capabilities.fpu = true,
                CpuCap::Cpu => capabilities.cpu = true,
                CpuCap::Ins => capabilities.instructions = true,
                CpuCap::All => capabilities = CpuCapabilities::ALL,
                CpuCap::None => capabilities = CpuCapabilities::NONE,
            }
        }
        settings.cpu_capabilities = Some(capabilities);
    }
}

/// Connections.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections")]
pub(super) struct SocketArguments {
    /// Take along established TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Leave out TCP connections that are still being made
    #[arg(long)]
    skip_in_flight: bool,
    /// Restore TCP connections as closed
    #[arg(long)]
    tcp_close: bool,
    /// Accept UNIX sockets connected to the outside: all, or those with these inode numbers
    #[arg(short = 'x', long, value_name = "INODE,...", num_args = 0..=1, require_equals = true,
        default_missing_value = "")]
    ext_unix_sk: Option<String>,
}

impl SocketArguments {
    pub(super) fn sockets(&self) -> Result<Sockets, Problem> {
        let mut sockets = Sockets::default();
        sockets.tcp_established = self.tcp_established;
        sockets.tcp_skip_in_flight = self.skip_in_flight;
        sockets.tcp_close = self.tcp_close;
        sockets.external_unix = match self.ext_unix_sk.as_deref() {
            None => ExternalUnixSockets::Refused,
            Some("") => ExternalUnixSockets::All,
            Some(inodes) => {
                let inodes: Result<Vec<u32>, _> = inodes.split(',').map(str::parse).collect();
                ExternalUnixSockets::Inodes(inodes.map_err(|_| {
                    Problem::Usage(
                        "--ext-unix-sk takes inode numbers separated by commas".to_owned(),
                    )
                })?)
            }
        };
        Ok(sockets)
    }
}

/// How the network is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum NetworkLockWord {
    /// Rules of iptables
    Iptables,
    /// Rules of nftables
    Nftables,
    /// No lock
    Skip,
}

impl From<NetworkLockWord> for NetworkLock {
    fn from(word: NetworkLockWord) -> Self {
        match word {
            NetworkLockWord::Iptables => Self::Iptables,
            NetworkLockWord::Nftables => Self::Nftables,
            NetworkLockWord::Skip => Self::Skip,
        }
    }
}

/// What a namespace left out can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EmptyNamespace {
    /// The network namespace
    Net,
}

/// Mounts and other resources of the outside.
#[derive(Debug, Args)]
#[command(next_help_heading = "Mounts and external resources")]
pub(super) struct MountArguments {
    /// A resource of the outside, such as mnt[/etc/hosts]:hosts or unix[4711] (can be repeated)
    #[arg(long, value_name = "TYPE[ID]:NAME")]
    external: Vec<External>,
    /// An external mount, or `auto` to find them (can be repeated)
    #[arg(short = 'M', long, value_name = "KEY:VALUE")]
    ext_mount_map: Vec<String>,
    /// Let `auto` also find mounts shared with the outside
    #[arg(long)]
    enable_external_sharing: bool,
    /// Let `auto` also find mounts that are slaves of the outside
    #[arg(long)]
    enable_external_masters: bool,
    /// A mount point to leave out (can be repeated)
    #[arg(long, value_name = "PATH")]
    skip_mnt: Vec<PathBuf>,
    /// Accept a file system CRIU does not know, or `all` (can be repeated)
    #[arg(long, value_name = "NAME")]
    enable_fs: Vec<String>,
}

impl MountArguments {
    pub(super) fn mounts(&self) -> Result<DumpMounts, Problem> {
        let mut mounts = DumpMounts::default();
        mounts.external.clone_from(&self.external);
        for entry in &self.ext_mount_map {
            if entry == "auto" {
                mounts.auto_detect = true;
            } else {
                mounts.ext_mount_map.push(mount_pair(entry)?);
            }
        }
        mounts.external_sharing = self.enable_external_sharing;
        mounts.external_masters = self.enable_external_masters;
        mounts.skip.clone_from(&self.skip_mnt);
        mounts.enable_fs.clone_from(&self.enable_fs);
        Ok(mounts)
    }
}

/// Reads `KEY:VALUE` of `--ext-mount-map`.
pub(super) fn mount_pair(entry: &str) -> Result<ExternalMount, Problem> {
    entry
        .split_once(':')
        .map(|(key, value)| ExternalMount::new(key, value))
        .ok_or_else(|| {
            Problem::Usage(format!(
                "--ext-mount-map takes KEY:VALUE or `auto`, not `{entry}`"
            ))
        })
}

/// A mode of `--manage-cgroups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CgroupModeWord {
    /// Do not look at them
    Ignore,
    /// Put tasks back into groups that must exist
    None,
    /// Restore properties of groups that must exist
    Props,
    /// Make missing groups and set their properties
    Soft,
    /// Make missing groups and set the properties of all
    Full,
    /// Make all groups; none may exist
    Strict,
}

impl From<CgroupModeWord> for CgroupMode {
    fn from(word: CgroupModeWord) -> Self {
        match word {
            CgroupModeWord::Ignore => Self::Ignore,
            CgroupModeWord::None => Self::None,
            CgroupModeWord::Props => Self::Props,
            CgroupModeWord::Soft => Self::Soft,
            CgroupModeWord::Full => Self::Full,
            CgroupModeWord::Strict => Self::Strict,
        }
    }
}

/// Control groups of a dump.
#[derive(Debug, Args)]
#[command(next_help_heading = "Control groups")]
pub(super) struct DumpCgroupArguments {
    /// What to do with the control groups of the tasks
    #[arg(long, value_name = "MODE", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "soft")]
    manage_cgroups: Option<CgroupModeWord>,
    /// Properties to save, in CRIU's notation
    #[arg(long, value_name = "TEXT")]
    cgroup_props: Option<String>,
    /// A file with properties to save
    #[arg(long, value_name = "FILE")]
    cgroup_props_file: Option<PathBuf>,
    /// Dump only this controller (can be repeated)
    #[arg(long, value_name = "NAME")]
    cgroup_dump_controller: Vec<String>,
    /// A directory where the hierarchies are mounted already
    #[arg(long, value_name = "DIR")]
    cgroup_yard: Option<PathBuf>,
    /// A group all tasks are in, to freeze them by
    #[arg(long, value_name = "DIR")]
    freeze_cgroup: Option<PathBuf>,
}

impl DumpCgroupArguments {
    pub(super) fn cgroups(&self) -> DumpCgroups {
        let mut cgroups = DumpCgroups::default();
        cgroups.mode = self.manage_cgroups.map(Into::into);
        cgroups.props.clone_from(&self.cgroup_props);
        cgroups.props_file.clone_from(&self.cgroup_props_file);
        cgroups.controllers.clone_from(&self.cgroup_dump_controller);
        cgroups.freeze.clone_from(&self.freeze_cgroup);
        cgroups.yard.clone_from(&self.cgroup_yard);
        cgroups
    }
}

/// Control groups of a restore.
#[derive(Debug, Args)]
#[command(next_help_heading = "Control groups")]
pub(super) struct RestoreCgroupArguments {
    /// What to do with the control groups of the tasks
    #[arg(long, value_name = "MODE", value_enum, num_args = 0..=1, require_equals = true,
        default_missing_value = "soft")]
    manage_cgroups: Option<CgroupModeWord>,
    /// A new root for the groups, of all controllers or of one (can be repeated)
    #[arg(long, value_name = "[CONTROLLER:]PATH")]
    cgroup_root: Vec<String>,
    /// A directory where the hierarchies are mounted already
    #[arg(long, value_name = "DIR")]
    cgroup_yard: Option<PathBuf>,
}

impl RestoreCgroupArguments {
    pub(super) fn cgroups(&self) -> RestoreCgroups {
        let mut cgroups = RestoreCgroups::default();
        cgroups.mode = self.manage_cgroups.map(Into::into);
        cgroups.roots = self
            .cgroup_root
            .iter()
            .map(|root| cgroup_root(root))
            .collect();
        cgroups.yard.clone_from(&self.cgroup_yard);
        cgroups
    }
}

fn cgroup_root(root: &str) -> CgroupRoot {
    match root.split_once(':') {
        // A path may hold a colon; a controller's name holds no slash.
        Some((controller, path)) if !controller.contains('/') => {
            CgroupRoot::of_controller(controller, path)
        }
        _ => CgroupRoot::new(root),
    }
}

/// Where pages go, and in which form.
#[derive(Debug, Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct MemoryArguments {
    /// The images of the round before, relative to the images directory
    #[arg(long, value_name = "DIR")]
    pub(super) prev_images_dir: Option<PathBuf>,
    /// Remove from the earlier images the pages that these images have
    #[arg(long)]
    pub(super) auto_dedup: bool,
    /// Send pages to the page server at --address and --port
    #[arg(long, requires = "address", requires = "port")]
    page_server: bool,
    /// Host name or address of the page server
    #[arg(long, value_name = "HOST")]
    address: Option<String>,
    /// TCP port of the page server, or to serve lazy pages on
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Compress pages, 1 (best) to 65537 (fastest) (since CRIU 4.3, in builds with LZ4)
    #[arg(long, value_name = "ACCELERATION", num_args = 0..=1, require_equals = true,
        default_missing_value = "1")]
    compress: Option<u32>,
    /// Bytes compressed at a time, such as 64K (since CRIU 4.3)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "compress")]
    compress_block_size: Option<u32>,
    /// How image files are written (since CRIU 4.3)
    #[arg(long, value_name = "MODE", value_enum)]
    image_io_mode: Option<ImageIoWord>,
    #[command(flatten)]
    tls: TlsArguments,
}

/// How image files are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ImageIoWord {
    /// Through the page cache
    Writeback,
    /// Past the page cache
    Direct,
}

impl From<ImageIoWord> for ImageIo {
    fn from(word: ImageIoWord) -> Self {
        match word {
            ImageIoWord::Writeback => Self::Writeback,
            ImageIoWord::Direct => Self::Direct,
        }
    }
}

impl MemoryArguments {
    pub(super) fn pages(&self) -> Pages {
        match (&self.address, self.port) {
            (Some(address), Some(port)) if self.page_server => Pages::Server {
                address: address.clone(),
                port,
            },
            _ => Pages::Images,
        }
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.port
    }

    pub(super) fn compression(&self) -> Option<Compression> {
        self.compress.map(|acceleration| {
            let mut compression = Compression::default();
            compression.acceleration = Some(acceleration);
            compression.block_size_bytes = self.compress_block_size;
            compression
        })
    }

    pub(super) fn image_io(&self) -> Option<ImageIo> {
        self.image_io_mode.map(Into::into)
    }

    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.tls()
    }
}

/// TLS of a page server connection.
#[derive(Debug, Args)]
pub(super) struct TlsArguments {
    /// Use TLS for the page server connection
    #[arg(long)]
    tls: bool,
    /// Certificates of the authorities trusted
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_cacert: Option<PathBuf>,
    /// Revocation list
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_cacrl: Option<PathBuf>,
    /// Our certificate
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_cert: Option<PathBuf>,
    /// Key of our certificate
    #[arg(long, value_name = "FILE", requires = "tls")]
    tls_key: Option<PathBuf>,
    /// Do not compare the peer's name with its address
    #[arg(long, requires = "tls")]
    tls_no_cn_verify: bool,
}

impl TlsArguments {
    pub(super) fn tls(&self) -> Option<Tls> {
        self.tls.then(|| {
            let mut tls = Tls::default();
            tls.ca_cert.clone_from(&self.tls_cacert);
            tls.ca_crl.clone_from(&self.tls_cacrl);
            tls.cert.clone_from(&self.tls_cert);
            tls.key.clone_from(&self.tls_key);
            tls.accept_any_name = self.tls_no_cn_verify;
            tls
        })
    }
}

/// Finding paths by file handle.
#[derive(Debug, Args)]
pub(super) struct IrmapArguments {
    /// Search for the paths of watched files even where they can be opened by handle
    #[arg(long)]
    force_irmap: bool,
    /// One more path to search for watched files (can be repeated)
    #[arg(long, value_name = "PATH")]
    irmap_scan_path: Vec<PathBuf>,
}

impl IrmapArguments {
    pub(super) fn irmap(&self) -> Irmap {
        let mut irmap = Irmap::default();
        irmap.force = self.force_irmap;
        irmap.scan_paths.clone_from(&self.irmap_scan_path);
        irmap
    }
}

/// A time in whole seconds.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("not a positive number of seconds".to_owned()),
    }
}

/// A size in bytes, with K, M or G for powers of 1024 as CRIU takes them.
pub(super) fn parse_size(text: &str) -> Result<u32, String> {
    let bytes = parse_large_size(text)?;
    u32::try_from(bytes).map_err(|_| "not a size below 4G".to_owned())
}

/// As [`parse_size`], without a limit.
pub(super) fn parse_large_size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let factor = match unit {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err("not a size such as 512, 64K, 2M or 1G".to_owned()),
    };
    let bytes = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor));
    bytes.ok_or_else(|| "not a size such as 512, 64K, 2M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_the_units_of_criu() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("2m"), Ok(2 << 20));
        for bad in ["", "K", "4G", "1T", "-1", "1.5M", "99999999999999999999"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cgroup_root_may_name_its_controller() {
        assert_eq!(cgroup_root("/a"), CgroupRoot::new("/a"));
        assert_eq!(
            cgroup_root("cpu:/a"),
            CgroupRoot::of_controller("cpu", "/a")
        );
        assert_eq!(cgroup_root("/a:b"), CgroupRoot::new("/a:b"));
    }
}
