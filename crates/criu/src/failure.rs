//! Everything that is known of an operation that failed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::diagnose::{Diagnosis, Verdict, diagnose};
use crate::log::{Limits, Log};
use crate::notify::Hook;
use crate::operation::Operation;
use crate::request::LogPlace;
use crate::rpc::CriuResp;
use crate::worker::WorkerExit;

/// An error number CRIU reports beside its refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CriuErrno(pub i32);

impl CriuErrno {
    /// Returns its name in `errno.h`, if it is one of those CRIU sends.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            3 => "ESRCH",
            10 => "ECHILD",
            12 => "ENOMEM",
            13 => "EACCES",
            16 => "EBUSY",
            17 => "EEXIST",
            22 => "EINVAL",
            28 => "ENOSPC",
            38 => "ENOSYS",
            56 => "EBADRQC",
            95 => "ENOTSUP",
            _ => return None,
        })
    }

    /// Says what CRIU means by it.
    pub const fn meaning(self) -> Option<&'static str> {
        Some(match self.0 {
            3 => "there is no such process",
            17 => "the process id is taken",
            56 => "CRIU could not make use of the options",
            95 => "not supported by this kernel, processor or build of CRIU",
            _ => return None,
        })
    }
}

impl fmt::Display for CriuErrno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name}")?,
            None => write!(f, "errno {}", self.0)?,
        }
        self.meaning()
            .map_or(Ok(()), |meaning| write!(f, ": {meaning}"))
    }
}

/// What has become of the process that was to be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetState {
    /// It runs, or sleeps as a running process does.
    Running,
    /// It is stopped by a signal.
    Stopped,
    /// It is held by a tracer.
    Traced,
    /// It is frozen by its control group or waits uninterruptibly.
    Blocked,
    /// It has ended.
    Gone,
    /// It cannot be seen from here.
    Unknown,
}

impl fmt::Display for TargetState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "keeps running",
            Self::Stopped => "is left stopped (SIGCONT resumes it)",
            Self::Traced => "is still held by a tracer",
            Self::Blocked => "is blocked in the kernel or frozen by its control group",
            Self::Gone => "is gone",
            Self::Unknown => "cannot be seen from here",
        })
    }
}

/// CRIU's log of a failed operation.
#[non_exhaustive]
pub struct LogReport {
    /// Where the log is, if it is a file whose path is known.
    pub path: Option<PathBuf>,
    /// What it says.
    pub log: Log,
}

impl fmt::Debug for LogReport {
    /// Shows the errors only: a whole log is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors: Vec<_> = self.log.errors().map(crate::log::Entry::text).collect();
        f.debug_struct("LogReport")
            .field("path", &self.path)
            .field("errors", &errors)
            .finish()
    }
}

/// Everything that is known of an operation that failed.
///
/// Displays as one line: what failed, the root cause, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    /// What was being done.
    pub operation: Operation,
    /// CRIU's error number.
    pub errno: Option<CriuErrno>,
    /// The first error line CRIU kept.
    pub message: Option<String>,
    /// The last notification before the failure.
    pub last_hook: Option<Hook>,
    /// How the worker ended, if it is ours and has ended.
    pub worker_exit: Option<WorkerExit>,
    /// What the worker printed outside its log.
    pub stderr: String,
    /// CRIU's log.
    pub log: Option<LogReport>,
    /// The root cause found in the log, and the remedy.
    pub diagnosis: Option<Diagnosis>,
    /// The process to be dumped, and what has become of it.
    pub target: Option<(i32, TargetState)>,
}

impl Failure {
    /// Adds what CRIU says of it in its answer.
    pub(crate) fn add_answer(&mut self, answer: &CriuResp) {
        let errno = answer.cr_errno.filter(|errno| *errno != 0);
        self.errno = errno.map(CriuErrno);
        self.message = answer.cr_errmsg.as_ref().map(ToString::to_string);
        if self.diagnosis.is_none()
            && let Some(message) = &self.message
        {
            self.diagnosis = root_cause(&Log::parse(message.as_bytes()));
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first line CRIU keeps can be one that it writes in every run.
        let message = self.message.as_ref().filter(|text| !is_harmless(text));
        write!(f, "{} failed", self.operation)?;
        if let Some(diagnosis) = &self.diagnosis {
            write!(f, ": {}; {}", diagnosis.cause, diagnosis.remedy)?;
            write!(f, " [{}]", diagnosis.root.text().trim())?;
        } else if let Some(message) = message {
            write!(f, ": {}", message.trim())?;
        } else if !self.stderr.is_empty() {
            write!(f, ": {}", self.stderr.lines().next().unwrap_or_default())?;
        }
        if let Some(errno) = self.errno {
            write!(f, " ({errno})")?;
        }
        if let Some(exit) = self
            .worker_exit
            .filter(|exit| matches!(exit, WorkerExit::Signal(_)))
        {
            write!(f, "; CRIU {exit}")?;
        } else if self.errno.is_none() && message.is_none() && self.diagnosis.is_none() {
            match self.worker_exit {
                Some(exit) => write!(f, "; CRIU {exit} without saying why")?,
                None => f.write_str("; CRIU did not say why")?,
            }
        }
        if let Some(hook) = self.last_hook {
            write!(f, "; last hook: {hook}")?;
        }
        if let Some((pid, state)) = self.target {
            write!(f, "; process {pid} {state}")?;
        }
        if let Some(path) = self.log.as_ref().and_then(|report| report.path.as_ref()) {
            write!(f, "; full log: {}", path.display())?;
        }
        Ok(())
    }
}

/// What a worker says outside its log is cut here.
const STDERR_LIMIT_BYTES: u64 = 8 << 10;

/// What is watched while an operation runs, to explain it if it fails.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) operation: Operation,
    log: LogPlace,
    /// The log file as it was before, which a failed request may never have touched.
    log_before: Option<FileIdentity>,
    target: Option<(i32, Option<OwnedFd>)>,
}

impl Witness {
    pub(crate) fn new(operation: Operation, log: LogPlace, target: Option<i32>) -> Self {
        let log_before = open_log(&log)
            .ok()
            .flatten()
            .and_then(|file| FileIdentity::of(&file));
        let target = target.map(|pid| {
            let handle =
                Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
            (pid, handle)
        });
        Self {
            operation,
            log,
            log_before,
            target,
        }
    }

    /// Puts together what is known now.
    pub(crate) fn failure(
        &self,
        last_hook: Option<Hook>,
        worker_exit: Option<WorkerExit>,
        stderr: Option<File>,
    ) -> Failure {
        let (log, stderr) = match (&self.log, stderr) {
            (LogPlace::Stderr, stderr) => (stderr.and_then(log_on_stderr), String::new()),
            (_, stderr) => (self.read_log(), stderr.map(head).unwrap_or_default()),
        };
        let diagnosis = match &log {
            Some(report) => root_cause(&report.log),
            // What goes wrong before there is a log CRIU prints, as do loader and wrapper.
            None => root_cause(&Log::parse(stderr.as_bytes())),
        };
        Failure {
            operation: self.operation,
            errno: None,
            message: None,
            last_hook,
            worker_exit,
            stderr,
            log,
            diagnosis,
            target: self
                .target
                .as_ref()
                .map(|(pid, handle)| (*pid, target_state(*pid, handle))),
        }
    }

    fn read_log(&self) -> Option<LogReport> {
        match &self.log {
            LogPlace::Nowhere | LogPlace::Stderr => None,
            LogPlace::File { path, .. } => {
                let file = open_log(&self.log).ok().flatten()?;
                if self.log_before.is_some() && FileIdentity::of(&file) == self.log_before {
                    return None;
                }
                let log = Log::read(file, Limits::default()).ok()?;
                Some(LogReport {
                    path: path.clone(),
                    log,
                })
            }
        }
    }
}

fn root_cause(log: &Log) -> Option<Diagnosis> {
    match diagnose(log) {
        Verdict::Failure(diagnosis) => Some(*diagnosis),
        _ => None,
    }
}

fn is_harmless(message: &str) -> bool {
    match diagnose(&Log::parse(message.as_bytes())) {
        Verdict::NoFailure(good) => !good.harmless.is_empty(),
        _ => false,
    }
}

fn log_on_stderr(file: File) -> Option<LogReport> {
    let log = Log::read(file, Limits::default()).ok()?;
    Some(LogReport { path: None, log })
}

/// Reads what a worker said outside its log: the dynamic loader, a wrapper script.
fn head(file: File) -> String {
    let mut text = Vec::new();
    let _ = file.take(STDERR_LIMIT_BYTES).read_to_end(&mut text);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// Enough of a file's identity to tell whether it was written since.
#[derive(Debug, PartialEq, Eq)]
struct FileIdentity(u64, u64, u64, std::time::SystemTime);

impl FileIdentity {
    fn of(file: &File) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = file.metadata().ok()?;
        Some(Self(
            metadata.dev(),
            metadata.ino(),
            metadata.len(),
            metadata.modified().ok()?,
        ))
    }
}

fn open_log(place: &LogPlace) -> io::Result<Option<File>> {
    let LogPlace::File {
        directory,
        path,
        name,
    } = place
    else {
        return Ok(None);
    };
    match (directory, path) {
        (Some(directory), _) => open_in(directory, Path::new(name)).map(Some),
        (None, Some(path)) => File::open(path).map(Some),
        (None, None) => Ok(None),
    }
}

/// Opens a regular file of a directory for reading, without waiting for a writer if it is none.
pub(crate) fn open_in(directory: impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

fn target_state(pid: i32, handle: &Option<OwnedFd>) -> TargetState {
    // The handle tells apart the process and another that got its id since.
    let ended = handle.as_ref().map(|handle| {
        let now = Some(std::time::Instant::now());
        crate::transport::wait(&[(handle.as_fd(), rustix::event::PollFlags::IN)], now)
    });
    match ended {
        Some(Ok(true)) => TargetState::Gone,
        Some(_) => state_in_proc(pid),
        None => match state_in_proc(pid) {
            TargetState::Gone => TargetState::Gone,
            _ => TargetState::Unknown,
        },
    }
}

fn state_in_proc(pid: i32) -> TargetState {
    // `PID (COMM) STATE ...`, where COMM may hold parentheses and spaces itself (proc_pid_stat(5)).
    let stat = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return TargetState::Gone,
        Err(_) => return TargetState::Unknown,
    };
    let state = stat
        .iter()
        .rposition(|&byte| byte == b')')
        .and_then(|end| stat.get(end + 2));
    match state {
        Some(b'R' | b'S' | b'I') => TargetState::Running,
        Some(b'T') => TargetState::Stopped,
        Some(b't') => TargetState::Traced,
        Some(b'D') => TargetState::Blocked,
        Some(b'Z' | b'X') => TargetState::Gone,
        _ => TargetState::Unknown,
    }
}
