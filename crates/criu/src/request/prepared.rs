//! A request made ready to send: its message, and what must stay open until it is answered.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::rpc::{CriuOpts, CriuReqType};
use crate::worker::{Streams, descriptor_number};

/// Where the log of a request is found.
#[derive(Debug)]
pub(crate) enum LogPlace {
    /// Nothing is logged that could be read.
    Nowhere,
    /// The worker's standard error.
    Stderr,
    /// A file, by the directory it is in (if it could be opened) and by path (if known).
    File {
        directory: Option<OwnedFd>,
        path: Option<PathBuf>,
        name: OsString,
    },
}

/// A request made ready to send.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) operation: Operation,
    pub(crate) kind: CriuReqType,
    pub(crate) opts: CriuOpts,
    /// Descriptors the worker is to have open.
    pub(crate) handed_over: Vec<BorrowedFd<'a>>,
    /// Descriptors of ours that CRIU opens through `/proc/PID/fd`.
    pub(crate) held: Vec<OwnedFd>,
    pub(crate) log: LogPlace,
    pub(crate) streams: Streams,
    /// The process whose fate an error tells.
    pub(crate) target: Option<i32>,
    /// Options that only a worker of our own can take.
    pub(crate) worker_only: Option<&'static str>,
    /// The process asks to be dumped itself.
    pub(crate) dumps_caller: bool,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(operation: Operation, kind: CriuReqType) -> Self {
        Self {
            operation,
            kind,
            opts: CriuOpts::default(),
            handed_over: Vec::new(),
            held: Vec::new(),
            log: LogPlace::Nowhere,
            streams: Streams::Quiet,
            target: None,
            worker_only: None,
            dumps_caller: false,
        }
    }

    /// Opens CRIU's working directory, where it leaves its statistics.
    pub(crate) fn work_dir(&self) -> Option<OwnedFd> {
        let number = self.opts.work_dir_fd.unwrap_or(self.opts.images_dir_fd);
        self.held
            .iter()
            .find(|fd| fd.as_raw_fd() == number)?
            .try_clone()
            .ok()
    }

    /// Has the worker started with `fd` open; returns its number there.
    pub(crate) fn hand_over(&mut self, fd: &'a OwnedFd, option: &'static str) -> Result<i32> {
        let number = descriptor_number(self.handed_over.len()).ok_or(Error::Misuse {
            problem: "too many descriptors in one request",
        })?;
        self.handed_over.push(fd.as_fd());
        self.worker_only = self.worker_only.or(Some(option));
        Ok(number)
    }

    /// Gives CRIU options that its requests do not have, by a configuration file behind the caller's own.
    pub(crate) fn configure(&mut self, lines: &str) -> Result<()> {
        let failed = |source| Error::Io {
            doing: "write a configuration file for CRIU",
            source,
        };
        let memfd = memfd_create("criu-config", MemfdFlags::CLOEXEC).map_err(io::Error::from);
        let mut file = File::from(memfd.map_err(failed)?);
        if let Some(path) = &self.opts.config_file {
            let mut own = File::open(OsStr::from_bytes(path)).map_err(failed)?;
            io::copy(&mut own, &mut file).map_err(failed)?;
            file.write_all(b"\n").map_err(failed)?;
        }
        file.write_all(lines.as_bytes()).map_err(failed)?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        self.opts.config_file = Some(path.into());
        self.held.push(file.into());
        Ok(())
    }
}
