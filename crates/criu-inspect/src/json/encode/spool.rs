//! Holds the data of a payload until the entry before it can be written.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

/// Data in memory, or in a file without a name once it is too much.
#[derive(Debug, Default)]
pub(super) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
}

impl Spool {
    /// Whether there is so much that it should be written if it can be.
    pub(super) fn is_full(&self) -> bool {
        self.file.is_some() || self.memory.len() >= MEMORY_LEN
    }

    /// Keeps more data.
    pub(super) fn put(&mut self, data: &[u8]) -> io::Result<()> {
        if !self.is_full() {
            self.memory.extend_from_slice(data);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        file.write_all(&self.memory)?;
        self.memory.clear();
        file.write_all(data)
    }

    /// Hands all data on, in pieces, and keeps none.
    pub(super) fn release<E: From<io::Error>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(mut file) = self.file.take() {
            file.rewind()?;
            let mut piece = vec![0; PIECE_LEN];
            loop {
                match file.read(&mut piece) {
                    Ok(0) => break,
                    Ok(count) => take(&piece[..count])?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        take(&self.memory)?;
        self.memory.clear();
        Ok(())
    }
}

/// Bytes that are kept in memory.
const MEMORY_LEN: usize = 1 << 20;

const PIECE_LEN: usize = 64 << 10;
