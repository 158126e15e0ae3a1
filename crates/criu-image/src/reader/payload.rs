//! What follows an entry, handed out piece by piece as it streams by.

use std::io::{self, Read};

use crate::error::{ErrorKind, Result};
use crate::payload::{PayloadKind, PieceLen, Plan, Role, ipc_messages};
use crate::stream::{Stream, clamp};
use crate::writer::ImageWriter;

/// What follows an entry, piece by piece.
#[derive(Debug)]
pub struct Payload<'a, R> {
    pub(super) stream: &'a mut Stream<R>,
    pub(super) pending: &'a mut Pending,
}

/// A piece of a payload, which is read as it streams by.
#[derive(Debug)]
pub struct Part<'a, R> {
    role: Role,
    len: Option<u64>,
    stream: &'a mut Stream<R>,
    pending: &'a mut Pending,
}

/// What is still to come of the payload of the entry at hand.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: PayloadKind,
    pub(super) plan: Plan,
    piece: PieceLen,
    /// Bytes lent out of the buffer and not consumed yet.
    lent: usize,
    /// The message header at hand, and how much of it has been read.
    message: Vec<u8>,
    message_read: usize,
}

impl<R: Read> Payload<'_, R> {
    /// Reads on to the next piece; what was left of the one before is passed over.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read, or a piece is longer than what is left of it.
    pub fn next_part(&mut self) -> Result<Option<Part<'_, R>>> {
        self.finish_piece()?;
        let Some(piece) = self.pending.plan.next_piece() else {
            return self.next_message();
        };
        let len = match piece.len {
            PieceLen::Bytes(len) => {
                self.stream.check_left("payload", len)?;
                Some(len)
            }
            PieceLen::ToEnd => self.stream.left(),
        };
        self.pending.piece = piece.len;
        Ok(Some(Part {
            role: piece.role,
            len,
            stream: self.stream,
            pending: self.pending,
        }))
    }

    /// Passes over what is left.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or ends before the payload does.
    pub fn skip(&mut self) -> Result<()> {
        while self.next_part()?.is_some() {}
        Ok(())
    }

    /// Writes what is left, byte for byte.
    ///
    /// # Errors
    ///
    /// Fails when either side fails.
    pub fn copy_to<W: io::Write>(&mut self, writer: &mut ImageWriter<W>) -> Result<()> {
        while let Some(mut part) = self.next_part()? {
            if part.role == Role::MessageHeader {
                writer.message_header(part.message())?;
                continue;
            }
            while let Some(chunk) = part.next_chunk()? {
                writer.data(chunk)?;
            }
        }
        Ok(())
    }

    fn next_message(&mut self) -> Result<Option<Part<'_, R>>> {
        if !self.pending.plan.next_message() {
            return Ok(None);
        }
        let size = u64::from(self.stream.word("size of a message header")?);
        let limit = ipc_messages::HEADER_LIMIT;
        if size > limit {
            return Err(self.stream.error(ErrorKind::EntryTooLarge { size, limit }));
        }
        self.pending.message.clear();
        self.pending.message_read = 0;
        self.stream
            .append(&mut self.pending.message, size, "message header")?;
        let data = ipc_messages::data_len(&self.pending.message)
            .map_err(|error| self.stream.error(ErrorKind::Malformed(error)))?;
        self.pending.plan.announce(data, ipc_messages::ALIGNMENT);
        let (role, len) = (Role::MessageHeader, Some(size));
        Ok(Some(Part {
            role,
            len,
            stream: self.stream,
            pending: self.pending,
        }))
    }

    fn finish_piece(&mut self) -> Result<()> {
        self.pending.settle(self.stream);
        match self.pending.piece {
            PieceLen::Bytes(0) => {}
            PieceLen::Bytes(left) => self.stream.skip(left, "payload")?,
            PieceLen::ToEnd => {
                if let Some(left) = self.stream.left() {
                    self.stream.skip(left, "payload")?;
                }
                loop {
                    let count = self.stream.buffer()?.len();
                    if count == 0 {
                        break;
                    }
                    self.stream.consume(count);
                }
            }
        }
        self.pending.piece = PieceLen::Bytes(0);
        Ok(())
    }
}

impl<R: Read> Part<'_, R> {
    /// What the piece is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Bytes of the whole piece. Unknown only for content up to the end of a source of unknown
    /// length.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        self.len
    }

    /// Returns whether the piece is known to hold nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == Some(0)
    }

    /// The encoded `ipc_msg` of a [`Role::MessageHeader`]; nothing for the other roles.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        match self.role {
            Role::MessageHeader => &self.pending.message,
            _ => &[],
        }
    }

    /// Lends the next bytes straight from the read buffer, as many as are at hand; `None` at the
    /// end of the piece.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or ends before the piece does.
    pub fn next_chunk(&mut self) -> Result<Option<&[u8]>> {
        if self.role == Role::MessageHeader {
            let rest = &self.pending.message[self.pending.message_read..];
            self.pending.message_read = self.pending.message.len();
            return Ok((!rest.is_empty()).then_some(rest));
        }
        self.pending.settle(self.stream);
        let wanted = match self.pending.piece {
            PieceLen::Bytes(0) => return Ok(None),
            PieceLen::Bytes(left) => left,
            PieceLen::ToEnd => u64::MAX,
        };
        let there = self.stream.buffer()?.len();
        if there == 0 {
            if self.pending.piece == PieceLen::ToEnd {
                return Ok(None);
            }
            let expected = self.len.unwrap_or(wanted);
            let found = expected - wanted;
            let what = "payload";
            return Err(self.stream.error(ErrorKind::Truncated {
                what,
                expected,
                found,
            }));
        }
        self.pending.lent = clamp(wanted, there);
        Ok(Some(&self.stream.buffer()?[..self.pending.lent]))
    }

    /// Reads the rest of the piece into memory, which grows only as bytes come.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or ends before the piece does.
    pub fn to_vec(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while let Some(chunk) = self.next_chunk()? {
            out.extend_from_slice(chunk);
        }
        Ok(out)
    }
}

impl<R: Read> Read for Part<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.role == Role::MessageHeader {
            let rest = &self.pending.message[self.pending.message_read..];
            let count = rest.len().min(out.len());
            out[..count].copy_from_slice(&rest[..count]);
            self.pending.message_read += count;
            return Ok(count);
        }
        let Some(chunk) = self.next_chunk()? else {
            return Ok(0);
        };
        let count = chunk.len().min(out.len());
        out[..count].copy_from_slice(&chunk[..count]);
        self.pending.lent = count;
        Ok(count)
    }
}

impl Pending {
    /// Nothing but the plan for what is still to come.
    pub(super) fn new(kind: PayloadKind, plan: Plan) -> Self {
        Self {
            kind,
            plan,
            piece: PieceLen::Bytes(0),
            lent: 0,
            message: Vec::new(),
            message_read: 0,
        }
    }

    /// Consumes what was lent.
    fn settle<R: Read>(&mut self, stream: &mut Stream<R>) {
        let lent = std::mem::take(&mut self.lent);
        if lent > 0 {
            stream.consume(lent);
            if let PieceLen::Bytes(left) = &mut self.piece {
                *left -= lent as u64;
            }
        }
    }
}
