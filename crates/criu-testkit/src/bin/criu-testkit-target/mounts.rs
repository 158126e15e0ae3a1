//! Mounts with a state of their own, for a process with a mount namespace.

use std::ffi::CString;
use std::fs;
use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsRawFd;

use rustix::mount::{MountFlags, mount};

use crate::Failure;
use crate::parts::{Part, expect};

/// A binary format registered in the process's own user namespace.
pub(crate) struct BinaryFormat;

impl BinaryFormat {
    const PLACE: &str = "/proc/sys/fs/binfmt_misc";

    pub(crate) fn new() -> Result<Self, Failure> {
        mount(
            "binfmt_misc",
            BinaryFormat::PLACE,
            "binfmt_misc",
            MountFlags::empty(),
            None,
        )?;
        fs::write(
            format!("{}/register", BinaryFormat::PLACE),
            ":fixture:M:2:fixture\\x00magic::/target:",
        )?;
        Ok(BinaryFormat)
    }
}

impl Part for BinaryFormat {
    fn verify(&mut self) -> Result<(), Failure> {
        let entry = fs::read_to_string(format!("{}/fixture", BinaryFormat::PLACE))?;
        expect(&entry.contains("interpreter /target"), &true)
    }
}

/// A mount that asks this process, by a pipe, for what is not there yet.
pub(crate) struct Automount {
    _reader: PipeReader,
    _writer: PipeWriter,
}

impl Automount {
    pub(crate) fn new() -> Result<Self, Failure> {
        let (reader, writer) = std::io::pipe()?;
        fs::create_dir_all("/tmp/automount")?;
        let group = rustix::process::getpgrp().as_raw_nonzero();
        let options = format!(
            "fd={},pgrp={group},minproto=5,maxproto=5,indirect",
            writer.as_raw_fd()
        );
        mount(
            "fixture",
            "/tmp/automount",
            "autofs",
            MountFlags::empty(),
            CString::new(options)?.as_c_str(),
        )?;
        Ok(Automount {
            _reader: reader,
            _writer: writer,
        })
    }
}

impl Part for Automount {
    fn verify(&mut self) -> Result<(), Failure> {
        expect(
            &fs::read_to_string("/proc/self/mountinfo")?.contains("autofs"),
            &true,
        )
    }
}
