//! CRIT JSON: images as text, and back.

mod decode;
mod encode;
mod error;
mod form;
mod info;
mod number;
pub(crate) mod quoted_printable;
mod text;
mod token;
mod walk;
mod words;

pub use self::decode::{DecodeOptions, Payloads, decode, decode_message};
pub(crate) use self::encode::encode_message_from;
pub use self::encode::{EncodeOptions, encode, encode_message};
pub use self::error::{DecodeError, EncodeError, EncodeErrorKind};
pub use self::form::MessageError;
pub use self::info::{Info, info};
pub use self::words::TaskStateWords;

/// How JSON text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// On one line, every number in decimal.
    #[default]
    Compact,
    /// Indented, with addresses in hexadecimal, bits and values by their names, device numbers and
    /// network addresses in their usual notation.
    Pretty,
}

/// What to do about members of an object that the schema does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnknownMembers {
    /// Refuse the text, since what they say would be lost.
    #[default]
    Refused,
    /// Pass over them.
    Ignored,
}

/// Holds what follows an entry.
const EXTRA_KEY: &str = "extra";

/// Holds the fields of a message that the schema does not have: their bytes, in base64.
const UNKNOWN_KEY: &str = "__unknown__";

/// Holds an entry as it stands in the image, in base64, where that is not what its other members
/// encode to.
const RAW_KEY: &str = "__raw__";

/// Holds what follows a payload up to a boundary, in base64, unless it is zeros.
const PADDING_KEY: &str = "__padding__";

/// Holds what stands in front of the entries, where that is not what follows from the magic.
const HEADER_KEY: &str = "__header__";
