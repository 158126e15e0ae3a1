//! Settings every operation has.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use super::Directory;
use super::prepared::{LogPlace, Prepared};
use crate::error::Result;
use crate::rpc::CriuOpts;

/// CRIU's own default name for the log.
const DEFAULT_LOG_FILE: &str = "criu.log";

/// How much CRIU writes to its log (`-v`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum LogLevel {
    /// Only results.
    Message,
    /// Errors.
    Error,
    /// Warnings too.
    Warning,
    /// The course of the work too.
    Info,
    /// Everything. The default: only a full log explains a failure well.
    #[default]
    Debug,
}

impl LogLevel {
    pub(crate) const fn number(self) -> i32 {
        match self {
            Self::Message => 0,
            Self::Error => 1,
            Self::Warning => 2,
            Self::Info => 3,
            Self::Debug => 4,
        }
    }
}

/// Where CRIU writes its log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogTo {
    /// A file of this name in the working directory.
    File(OsString),
    /// The worker's standard error. Kept for error reports like a file, but in memory.
    Stderr,
}

impl Default for LogTo {
    fn default() -> Self {
        Self::File(DEFAULT_LOG_FILE.into())
    }
}

/// Which processor features must match between dump and restore (`--cpu-cap`).
///
/// Left unset, CRIU compares the floating point unit and the instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CpuCapabilities {
    /// The floating point unit (`fpu`).
    pub fpu: bool,
    /// Every feature (`cpu`).
    pub cpu: bool,
    /// Every instruction set feature (`ins`).
    pub instructions: bool,
}

impl CpuCapabilities {
    /// The floating point unit only.
    pub const FPU: Self = Self {
        fpu: true,
        cpu: false,
        instructions: false,
    };
    /// Nothing is compared.
    pub const NONE: Self = Self {
        fpu: false,
        cpu: false,
        instructions: false,
    };
    /// Every feature.
    pub const ALL: Self = Self {
        fpu: true,
        cpu: true,
        instructions: true,
    };

    // Bit values: CPU_CAP_* of CRIU.
    const fn bits(self) -> u32 {
        (self.fpu as u32) | ((self.cpu as u32) << 1) | ((self.instructions as u32) << 2)
    }
}

/// What every operation with options can be given.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// Where CRIU works: its log and the statistics are written here. The images directory unless set.
    pub work_dir: Option<Directory>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Where the log goes.
    pub log_to: LogTo,
    /// A configuration file of CRIU's whose settings win over this request's (`--config`).
    pub config_file: Option<PathBuf>,
    /// CRIU has only `CAP_CHECKPOINT_RESTORE` and not the whole of root (`--unprivileged`).
    pub unprivileged: bool,
    /// Processor features to record and compare.
    pub cpu_capabilities: Option<CpuCapabilities>,
    /// CRIU prints the statistics to its standard output as well (`--display-stats`).
    pub display_stats: bool,
    /// Options of plugins, each `PLUGIN.NAME` or `PLUGIN.NAME=VALUE` (`--plugin-option`).
    pub plugin_options: Vec<String>,
    /// A descriptor that gets one zero byte when CRIU is ready. Obsolete: react to
    /// [`crate::Event::StatusReady`].
    pub status_fd: Option<OwnedFd>,
    /// The message the other settings are written over: for options newer than this crate. Fields it
    /// does not know can be put into its `unknown` fields.
    pub raw: CriuOpts,
}

impl Settings {
    /// Copies them for another request; the status descriptor stays with this one.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when there are no descriptors left.
    pub fn try_clone(&self) -> Result<Self> {
        let work_dir = self.work_dir.as_ref().map(Directory::try_clone);
        Ok(Self {
            work_dir: work_dir.transpose()?,
            log_level: self.log_level,
            log_to: self.log_to.clone(),
            config_file: self.config_file.clone(),
            unprivileged: self.unprivileged,
            cpu_capabilities: self.cpu_capabilities,
            display_stats: self.display_stats,
            plugin_options: self.plugin_options.clone(),
            status_fd: None,
            raw: self.raw.clone(),
        })
    }

    /// Starts the message of a request on `images`.
    pub(super) fn apply<'a>(
        &'a self,
        prepared: &mut Prepared<'a>,
        images: Option<&'a Directory>,
    ) -> Result<()> {
        prepared.opts = self.raw.clone();
        let work_dir = self.work_dir.as_ref();

        prepared.opts.images_dir_fd = -1;
        let images_fd = images.map(Directory::open).transpose()?.flatten();
        match (&images_fd, images) {
            (Some(fd), _) => prepared.opts.images_dir_fd = fd.as_raw_fd(),
            (None, Some(Directory::AtCriu(path))) => prepared.opts.images_dir = Some(text(path)),
            (None, _) => {}
        }
        let work_fd = work_dir.map(Directory::open).transpose()?.flatten();
        if let Some(fd) = &work_fd {
            prepared.opts.work_dir_fd = Some(fd.as_raw_fd());
        }

        prepared.opts.log_level = Some(self.log_level.number());
        prepared.log = match &self.log_to {
            LogTo::File(name) => {
                prepared.opts.log_file = Some(text(name));
                let place = work_dir.or(images);
                LogPlace::File {
                    directory: match (&work_fd, &images_fd) {
                        (Some(fd), _) | (None, Some(fd)) => fd.try_clone().ok(),
                        (None, None) => None,
                    },
                    path: place.and_then(Directory::path).map(|path| path.join(name)),
                    name: name.clone(),
                }
            }
            LogTo::Stderr => {
                prepared.opts.log_to_stderr = Some(true);
                LogPlace::Stderr
            }
        };
        prepared.held.extend(images_fd.into_iter().chain(work_fd));

        let opts = &mut prepared.opts;
        set(&mut opts.config_file, self.config_file.as_ref().map(text));
        set_flag(&mut opts.unprivileged, self.unprivileged);
        set(
            &mut opts.cpu_cap,
            self.cpu_capabilities.map(CpuCapabilities::bits),
        );
        set_flag(&mut opts.display_stats, self.display_stats);
        opts.plugin_options
            .extend(self.plugin_options.iter().map(text));
        set(
            &mut opts.status_fd,
            self.status_fd.as_ref().map(AsRawFd::as_raw_fd),
        );
        Ok(())
    }
}

/// Writes a value that is set over what the raw message holds.
pub(super) fn set<T>(field: &mut Option<T>, value: Option<T>) {
    if value.is_some() {
        *field = value;
    }
}

/// Sets a flag that is on; one that is off stays as the raw message has it.
pub(super) fn set_flag(field: &mut Option<bool>, value: bool) {
    if value {
        *field = Some(true);
    }
}

/// The bytes of a path or text, as CRIU takes them.
pub(super) fn text<T: AsRef<std::ffi::OsStr> + ?Sized>(value: &T) -> bstr::BString {
    use std::os::unix::ffi::OsStrExt;
    value.as_ref().as_bytes().into()
}
