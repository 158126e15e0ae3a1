//! What kinds of images there are, and everything that tells them apart.

mod table;

use std::fmt;

use crate::payload::PayloadKind;
use crate::schema::MessageDescriptor;
use crate::wire::Message;

pub use self::table::ImageKind;

/// How an image's file is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileName {
    /// Always the same.
    Fixed(&'static str),
    /// One of a few.
    OneOf(&'static [&'static str]),
    /// An id in decimal between the two parts.
    Decimal(&'static str, &'static str),
    /// An id in lower-case hexadecimal, without `0x`, between the two parts.
    Hexadecimal(&'static str, &'static str),
}

/// The word in front of an image's magic, since images of version 1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FirstWord {
    /// There is none: the inventory, every image of version 1.0, and images without a magic.
    Absent,
    /// Images of the checkpoint.
    Common,
    /// Images in the work directory: statistics and caches.
    Service,
}

/// What an image holds behind its magic.
#[derive(Clone, Copy, Debug)]
pub enum Entries {
    /// Not entries but the output of another program, or pages.
    Raw,
    /// A single entry.
    One(&'static MessageDescriptor),
    /// Entries up to the end of the file.
    Many(&'static MessageDescriptor),
    /// One entry of a type, then entries of another up to the end of the file.
    Headed {
        /// The first entry.
        head: &'static MessageDescriptor,
        /// The others.
        entry: &'static MessageDescriptor,
    },
}

/// Where CRIU keeps an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In the images directory, or streamed.
    Images,
    /// In the work directory, which may be another one; never streamed.
    Work,
}

impl ImageKind {
    /// CRIU's name of the kind, such as `PAGEMAP`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The magic word, unless the kind has none.
    #[must_use]
    pub fn magic(self) -> Option<u32> {
        self.row().magic
    }

    /// The kind's name in CRIT's JSON, which is that of the first kind with the same magic.
    #[must_use]
    pub fn crit_name(self) -> Option<&'static str> {
        let row = self.row();
        row.magic.map(|_| row.alias_of.map_or(row.name, Self::name))
    }

    /// The kind that this one shares its magic with, and by which CRIT goes.
    #[must_use]
    pub fn alias_of(self) -> Option<Self> {
        self.row().alias_of
    }

    /// Returns whether the file has neither magic nor entries.
    #[must_use]
    pub fn is_raw(self) -> bool {
        self.row().magic.is_none()
    }

    /// How the file is called.
    #[must_use]
    pub fn file_name(self) -> FileName {
        self.row().file_name
    }

    /// The word in front of the magic, in images of version 1.1 and later.
    #[must_use]
    pub fn first_word(self) -> FirstWord {
        self.row().first_word
    }

    /// What stands behind the magic.
    #[must_use]
    pub fn entries(self) -> Entries {
        self.row().entries
    }

    /// The message of the entry with the given index, unless the kind has no entries.
    #[must_use]
    pub fn entry(self, index: u64) -> Option<&'static MessageDescriptor> {
        match self.row().entries {
            Entries::Raw => None,
            Entries::One(entry) | Entries::Many(entry) => Some(entry),
            Entries::Headed { head, .. } if index == 0 => Some(head),
            Entries::Headed { entry, .. } => Some(entry),
        }
    }

    /// What follows each entry.
    #[must_use]
    pub fn payload(self) -> PayloadKind {
        self.row().payload
    }

    /// Where CRIU keeps the file.
    #[must_use]
    pub fn location(self) -> Location {
        match self.row().first_word {
            FirstWord::Service => Location::Work,
            FirstWord::Absent | FirstWord::Common => Location::Images,
        }
    }

    /// The kind with the given magic. Of several, the one that CRIT names.
    #[must_use]
    pub fn from_magic(magic: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.magic() == Some(magic) && kind.alias_of().is_none())
    }

    /// The kind with the given name in CRIT's JSON.
    #[must_use]
    pub fn from_crit_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.name() == name && kind.magic().is_some() && kind.alias_of().is_none())
    }

    /// The kind of the file with the given name, and the id in it.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<(Self, Option<u64>)> {
        // A name without a kind of its own goes by the first that fits, which is the current one:
        // `pages-1.img` was once the name of a legacy image too.
        let fits = |legacy: bool| {
            Self::ALL
                .iter()
                .filter(move |kind| kind.is_legacy_pages() == legacy)
                .find_map(|&kind| kind.file_name().parse(name).map(|id| (kind, id)))
        };
        fits(false).or_else(|| fits(true))
    }

    /// The name of this kind's file with the given id; the id is ignored where there is none.
    #[must_use]
    pub fn file(self, id: u64) -> String {
        match self.file_name() {
            FileName::Fixed(name) => name.to_owned(),
            FileName::OneOf(names) => names.first().copied().unwrap_or_default().to_owned(),
            FileName::Decimal(prefix, suffix) => format!("{prefix}{id}{suffix}"),
            FileName::Hexadecimal(prefix, suffix) => format!("{prefix}{id:x}{suffix}"),
        }
    }

    fn is_legacy_pages(self) -> bool {
        matches!(self.entries(), Entries::Raw) && self.magic().is_some()
    }
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FileName {
    /// Takes a file's name apart: `None` if it does not fit, else the id, if there is one.
    #[must_use]
    pub fn parse(self, name: &str) -> Option<Option<u64>> {
        let id = |prefix, suffix| name.strip_prefix(prefix)?.strip_suffix(suffix);
        match self {
            Self::Fixed(fixed) => (fixed == name).then_some(None),
            Self::OneOf(names) => names.contains(&name).then_some(None),
            Self::Decimal(prefix, suffix) => {
                let id: &str = id(prefix, suffix)?;
                let number = id.parse::<u64>().ok()?;
                (number.to_string() == id).then_some(Some(number))
            }
            Self::Hexadecimal(prefix, suffix) => {
                let id: &str = id(prefix, suffix)?;
                let number = u64::from_str_radix(id, 16).ok()?;
                (format!("{number:x}") == id).then_some(Some(number))
            }
        }
    }
}

impl FirstWord {
    /// The word itself.
    #[must_use]
    pub fn value(self) -> Option<u32> {
        match self {
            Self::Absent => None,
            Self::Common => Some(IMG_COMMON),
            Self::Service => Some(IMG_SERVICE),
        }
    }
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    name: &'static str,
    magic: Option<u32>,
    file_name: FileName,
    first_word: FirstWord,
    entries: Entries,
    payload: PayloadKind,
    alias_of: Option<ImageKind>,
}

impl Row {
    const fn image(name: &'static str, magic: u32, file_name: FileName) -> Self {
        let mut row = Self::raw(name, file_name);
        row.magic = Some(magic);
        row.first_word = FirstWord::Common;
        row
    }

    const fn raw(name: &'static str, file_name: FileName) -> Self {
        Self {
            name,
            magic: None,
            file_name,
            first_word: FirstWord::Absent,
            entries: Entries::Raw,
            payload: PayloadKind::None,
            alias_of: None,
        }
    }

    const fn one<M: Message>(mut self) -> Self {
        self.entries = Entries::One(M::DESCRIPTOR);
        self
    }

    const fn many<M: Message>(mut self) -> Self {
        self.entries = Entries::Many(M::DESCRIPTOR);
        self
    }

    const fn headed<H: Message, M: Message>(mut self) -> Self {
        self.entries = Entries::Headed {
            head: H::DESCRIPTOR,
            entry: M::DESCRIPTOR,
        };
        self
    }

    const fn payload(mut self, payload: PayloadKind) -> Self {
        self.payload = payload;
        self
    }

    const fn bare(mut self) -> Self {
        self.first_word = FirstWord::Absent;
        self
    }

    const fn service(mut self) -> Self {
        self.first_word = FirstWord::Service;
        self
    }

    const fn alias_of(mut self, kind: ImageKind) -> Self {
        self.alias_of = Some(kind);
        self
    }
}

/// First word of the checkpoint's images (`IMG_COMMON_MAGIC`).
pub const IMG_COMMON: u32 = 0x5456_4319;
/// First word of images in the work directory (`IMG_SERVICE_MAGIC`).
pub const IMG_SERVICE: u32 = 0x5510_5940;
