//! What follows the entries of some images: queued bytes, map contents, file contents.
//!
//! A payload is a sequence of [`Piece`]s. Which ones, and how long they are, follows from the
//! entry alone ([`Plan`]), but for message queues, where every message says it for itself. The
//! modules here say how for each [`PayloadKind`]; [`ImageReader`](crate::ImageReader) hands the
//! pieces out as they stream by, and [`ImageWriter`](crate::ImageWriter) takes them.

pub mod bpf_map;
pub mod ghost_file;
pub mod ipc_messages;
pub mod ipc_semaphores;
pub mod ipc_shared_memory;
pub mod pipe;
pub mod socket_packet;
pub mod tcp_stream;

use crate::wire::DecodeError;

/// How the bytes that follow an entry are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadKind {
    /// Nothing follows.
    None,
    /// See [`pipe`].
    Pipe,
    /// See [`socket_packet`].
    SocketPacket,
    /// See [`tcp_stream`].
    TcpStream,
    /// See [`bpf_map`].
    BpfMap,
    /// See [`ipc_semaphores`].
    IpcSemaphores,
    /// See [`ipc_messages`].
    IpcMessages,
    /// See [`ipc_shared_memory`].
    IpcSharedMemory,
    /// See [`ghost_file`].
    GhostFile,
}

/// What a piece of a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The only data that there is: pipe contents, a packet, shared memory, file contents, or all
    /// of a raw image.
    Data,
    /// Bytes received by a TCP connection and not read.
    Inbound,
    /// Bytes written to a TCP connection and not acknowledged.
    Outbound,
    /// Keys of a BPF map, one behind the other.
    Keys,
    /// Values of a BPF map, one behind the other.
    Values,
    /// Values of semaphores, 16 bits each in the image's byte order.
    Semaphores,
    /// An `ipc_msg`, which says how long the message behind it is; framed like an entry.
    MessageHeader,
    /// The bytes of a message.
    MessageData,
    /// What fills up to a boundary. CRIU writes zeros, but any bytes are kept.
    Padding,
}

/// How long a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceLen {
    /// That many bytes.
    Bytes(u64),
    /// Up to the end of the file.
    ToEnd,
}

/// A piece of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub role: Role,
    /// How long it is.
    pub len: PieceLen,
}

/// The pieces that an entry announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pieces: [Option<Piece>; 2],
    messages: u32,
}

impl PayloadKind {
    /// Finds out what follows an entry; `index` is the entry's place in the image.
    ///
    /// # Errors
    ///
    /// Fails when the entry cannot be decoded.
    pub fn plan(self, index: u64, entry: &[u8]) -> Result<Plan, DecodeError> {
        match self {
            Self::None => Ok(Plan::default()),
            Self::Pipe => pipe::plan(entry),
            Self::SocketPacket => socket_packet::plan(entry),
            Self::TcpStream => tcp_stream::plan(entry),
            Self::BpfMap => bpf_map::plan(entry),
            Self::IpcSemaphores => ipc_semaphores::plan(entry),
            Self::IpcMessages => ipc_messages::plan(entry),
            Self::IpcSharedMemory => ipc_shared_memory::plan(entry),
            Self::GhostFile if index == 0 => ghost_file::plan_head(entry),
            Self::GhostFile => ghost_file::plan_chunk(entry),
        }
    }

    /// The boundary up to which data is padded, in bytes.
    #[must_use]
    pub fn alignment(self) -> u64 {
        match self {
            Self::IpcSemaphores => ipc_semaphores::ALIGNMENT,
            Self::IpcMessages => ipc_messages::ALIGNMENT,
            Self::IpcSharedMemory => ipc_shared_memory::ALIGNMENT,
            _ => 1,
        }
    }
}

impl Plan {
    /// The pieces, in order, without those of message queues.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + use<> {
        self.pieces.into_iter().flatten()
    }

    /// How many messages follow, each a header, data and padding.
    #[must_use]
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// The content of an image without entries.
    pub(crate) fn body() -> Self {
        Self::of([
            Some(Piece {
                role: Role::Data,
                len: PieceLen::ToEnd,
            }),
            None,
        ])
    }

    fn data(len: u64) -> Self {
        Self::of([Some(Piece::bytes(Role::Data, len)), None])
    }

    fn of(pieces: [Option<Piece>; 2]) -> Self {
        Self {
            pieces,
            messages: 0,
        }
    }

    fn padded(role: Role, len: u64, alignment: u64) -> Self {
        Self::of([
            Some(Piece::bytes(role, len)),
            Piece::padding(len, alignment),
        ])
    }

    /// Takes the next piece off the plan.
    pub(crate) fn next_piece(&mut self) -> Option<Piece> {
        self.pieces[0].take().or_else(|| self.pieces[1].take())
    }

    /// Takes the next message off the plan.
    pub(crate) fn next_message(&mut self) -> bool {
        let more = self.messages > 0;
        self.messages = self.messages.saturating_sub(1);
        more
    }

    /// Puts what a message header announces in front.
    pub(crate) fn announce(&mut self, len: u64, alignment: u64) {
        self.pieces = Self::padded(Role::MessageData, len, alignment).pieces;
    }
}

impl Piece {
    fn bytes(role: Role, len: u64) -> Self {
        Self {
            role,
            len: PieceLen::Bytes(len),
        }
    }

    fn padding(len: u64, alignment: u64) -> Option<Self> {
        match padding(len, alignment) {
            0 => None,
            padding => Some(Self::bytes(Role::Padding, padding)),
        }
    }
}

/// Bytes from `len` to the next boundary; none at a boundary, and none after nothing.
#[must_use]
pub fn padding(len: u64, alignment: u64) -> u64 {
    (alignment - len % alignment) % alignment
}
