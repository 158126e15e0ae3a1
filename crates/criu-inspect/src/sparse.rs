//! Writes files with holes where there are zeros.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Writes a file front to back and leaves holes for long runs of zeros.
///
/// [`finish`](Self::finish) must be called, or a hole at the end is missing.
#[derive(Debug)]
pub struct SparseWriter<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Bytes of zeros behind the buffer that nothing was written for.
    hole: u64,
    position: u64,
    /// Whether zeros are written like other bytes.
    is_dense: bool,
}

impl<'a> SparseWriter<'a> {
    /// Begins at the start of an empty file.
    #[must_use]
    pub fn new(file: &'a File) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_LEN),
            hole: 0,
            position: 0,
            is_dense: false,
        }
    }

    /// Writes every byte, for pipes and devices.
    #[must_use]
    pub fn dense(file: &'a File) -> Self {
        Self {
            is_dense: true,
            ..Self::new(file)
        }
    }

    /// Bytes so far, holes included.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes; blocks of zeros among them become holes.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for block in bytes.chunks(HOLE_LEN) {
            if block.len() == HOLE_LEN && block.iter().all(|&byte| byte == 0) {
                self.zeros(HOLE_LEN as u64)?;
            } else {
                self.data(block)?;
            }
        }
        Ok(())
    }

    /// Appends zeros.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn zeros(&mut self, count: u64) -> io::Result<()> {
        if self.is_dense {
            let mut left = count;
            while left > 0 {
                let len = left.min(HOLE_LEN as u64);
                self.data(&[0; HOLE_LEN][..usize::try_from(len).unwrap_or(HOLE_LEN)])?;
                left -= len;
            }
            return Ok(());
        }
        if self.hole == 0 {
            self.flush()?;
        }
        self.hole += count;
        self.position += count;
        Ok(())
    }

    /// Writes what is buffered and gives the file its length.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        if self.hole > 0 {
            self.file.set_len(self.position)?;
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.hole > 0 {
            // Nothing is buffered behind a hole.
            self.file
                .seek(SeekFrom::Start(self.position))
                .map(|_| self.hole = 0)?;
        }
        self.buffer.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_LEN {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Bytes gathered before they are written.
const BUFFER_LEN: usize = 512 * 1024;

/// Least length of a hole in bytes, which is what file systems allocate at once.
const HOLE_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn zeros_become_holes_and_the_bytes_are_the_same() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut expected = Vec::new();
        let mut writer = SparseWriter::new(&file);
        for (byte, len) in [(1, 5000), (0, 100_000), (2, 4096), (0, 1 << 20)] {
            let bytes = vec![byte; len];
            writer.write(&bytes).expect("written");
            expected.extend(bytes);
        }
        writer.zeros(1 << 20).expect("written");
        expected.resize(expected.len() + (1 << 20), 0);
        assert_eq!(writer.position(), expected.len() as u64);
        writer.finish().expect("written");
        let metadata = file.metadata().expect("known");
        assert_eq!(metadata.len(), expected.len() as u64);
        assert!(metadata.blocks() * 512 < 100_000, "no holes");
        let mut bytes = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut bytes).expect("read");
        assert!(bytes == expected);
    }
}
