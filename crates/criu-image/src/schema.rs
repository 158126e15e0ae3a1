//! The tables that describe every message: what its fields are called, how they are encoded, and
//! what CRIT makes of them.
//!
//! They are generated from `schema/criu.json` by `cargo xtask codegen`, next to the structs in
//! [`message`](crate::message). Whoever turns messages into text and back works from these tables
//! alone, without the structs.

pub use crate::message::{ENUMS, MESSAGES};

/// Describes a message.
#[derive(Debug)]
pub struct MessageDescriptor {
    /// Its name, such as `pagemap_entry`.
    pub name: &'static str,
    /// The `.proto` file that defines it.
    pub file: &'static str,
    /// The CRIU version that brought it, unless it is older than 4.2.
    pub since: Option<&'static str>,
    /// The fields, by ascending number.
    pub fields: &'static [FieldDescriptor],
    /// Indices into `fields`, by ascending name.
    pub by_name: &'static [u16],
}

/// Describes a field of a message.
#[derive(Debug)]
pub struct FieldDescriptor {
    /// Its name, such as `nr_pages`.
    pub name: &'static str,
    /// Its number on the wire.
    pub number: u32,
    /// How often it occurs.
    pub label: Label,
    /// Its type.
    pub kind: FieldKind,
    /// Whether a list is written as one piece.
    pub packed: bool,
    /// Its place in the message's definition, if that is not its place by number.
    pub declared_at: Option<u16>,
    /// The value it has when it is absent, as the definition spells it.
    pub default: Option<&'static str>,
    /// The CRIU version that brought it, unless it is older than 4.2 or as old as its message.
    pub since: Option<&'static str>,
    /// How CRIT prints it.
    pub crit: CritOptions,
}

/// How often a field occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// Exactly once.
    Required,
    /// At most once.
    Optional,
    /// Any number of times.
    Repeated,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum FieldKind {
    /// Varint of 32 bits.
    Uint32,
    /// Varint of 64 bits.
    Uint64,
    /// Varint of 32 bits; negative numbers are sign-extended to 64.
    Int32,
    /// Varint of 64 bits, two's complement.
    Int64,
    /// Zigzag varint of 32 bits.
    Sint32,
    /// Zigzag varint of 64 bits.
    Sint64,
    /// Eight bytes.
    Fixed64,
    /// Varint, 0 or not.
    Bool,
    /// Text, though CRIU stores any bytes in it.
    String,
    /// Bytes.
    Bytes,
    /// The number of a value of the enum.
    Enum(&'static EnumDescriptor),
    /// A message.
    Message(&'static MessageDescriptor),
}

/// Describes an enum.
#[derive(Debug)]
pub struct EnumDescriptor {
    /// Its name, such as `fd_types`; one defined within a message is `message.enum`.
    pub name: &'static str,
    /// The values, by ascending number.
    pub values: &'static [EnumValueDescriptor],
}

/// Describes a value of an enum.
#[derive(Debug)]
pub struct EnumValueDescriptor {
    /// Its name, such as `REG`.
    pub name: &'static str,
    /// Its number.
    pub number: i32,
}

/// How CRIT prints a field: the `(criu)` options of its definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CritOptions {
    /// As hexadecimal; on a message, all integers within it.
    pub hex: bool,
    /// As a device number, `major:minor`.
    pub dev: Option<DeviceEncoding>,
    /// Words that are an IPv4 or IPv6 address.
    pub ipadd: bool,
    /// Bits by their names, from the table of this name (such as `mmap.prot`).
    pub flags: Option<&'static str>,
    /// Numbers by their names, from the group of tables of this name (`gen` or `sk`).
    pub dict: Option<&'static str>,
    /// Bytes converted in a way of their own; only `unix_name` exists.
    pub conv: Option<&'static str>,
}

/// How a device number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceEncoding {
    /// As within the kernel: the low 20 bits are the minor number.
    Kernel,
    /// As the C library's `dev_t` (the `odev` option).
    LibC,
}

impl FieldDescriptor {
    /// Describes a field that occurs exactly once.
    #[must_use]
    pub const fn required(name: &'static str, number: u32, kind: FieldKind) -> Self {
        Self::new(name, number, Label::Required, kind)
    }

    /// Describes a field that occurs at most once.
    #[must_use]
    pub const fn optional(name: &'static str, number: u32, kind: FieldKind) -> Self {
        Self::new(name, number, Label::Optional, kind)
    }

    /// Describes a field that occurs any number of times.
    #[must_use]
    pub const fn repeated(name: &'static str, number: u32, kind: FieldKind) -> Self {
        Self::new(name, number, Label::Repeated, kind)
    }

    const fn new(name: &'static str, number: u32, label: Label, kind: FieldKind) -> Self {
        let crit = CritOptions::NONE;
        Self {
            name,
            number,
            label,
            kind,
            packed: false,
            declared_at: None,
            default: None,
            since: None,
            crit,
        }
    }

    /// Written as one piece.
    #[must_use]
    pub const fn packed(mut self) -> Self {
        self.packed = true;
        self
    }

    /// Defined out of order, at this place.
    #[must_use]
    pub const fn declared_at(mut self, place: u16) -> Self {
        self.declared_at = Some(place);
        self
    }

    /// With a default.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// Brought by this version of CRIU.
    #[must_use]
    pub const fn since(mut self, version: &'static str) -> Self {
        self.since = Some(version);
        self
    }

    /// Printed in hexadecimal.
    #[must_use]
    pub const fn hex(mut self) -> Self {
        self.crit.hex = true;
        self
    }

    /// Printed as an address.
    #[must_use]
    pub const fn ipadd(mut self) -> Self {
        self.crit.ipadd = true;
        self
    }

    /// Printed as a device number.
    #[must_use]
    pub const fn dev(mut self, encoding: DeviceEncoding) -> Self {
        self.crit.dev = Some(encoding);
        self
    }

    /// Printed as names of bits.
    #[must_use]
    pub const fn flags(mut self, table: &'static str) -> Self {
        self.crit.flags = Some(table);
        self
    }

    /// Printed as a name.
    #[must_use]
    pub const fn dict(mut self, group: &'static str) -> Self {
        self.crit.dict = Some(group);
        self
    }

    /// Printed in a way of its own.
    #[must_use]
    pub const fn conv(mut self, conversion: &'static str) -> Self {
        self.crit.conv = Some(conversion);
        self
    }
}

impl MessageDescriptor {
    /// The field with the given number.
    #[must_use]
    #[inline]
    pub fn field(&self, number: u32) -> Option<&'static FieldDescriptor> {
        self.field_index(number).map(|index| &self.fields[index])
    }

    /// The place in `fields` of the field with the given number.
    #[must_use]
    #[inline]
    pub fn field_index(&self, number: u32) -> Option<usize> {
        // Most messages number their fields from 1 without gaps.
        let guess = (number as usize).wrapping_sub(1);
        match self.fields.get(guess) {
            Some(field) if field.number == number => Some(guess),
            _ => self
                .fields
                .binary_search_by_key(&number, |field| field.number)
                .ok(),
        }
    }

    /// The field with the given name.
    #[must_use]
    pub fn field_named(&self, name: &str) -> Option<&'static FieldDescriptor> {
        let found = self
            .by_name
            .binary_search_by(|&index| self.fields[usize::from(index)].name.cmp(name))
            .ok()?;
        Some(&self.fields[usize::from(self.by_name[found])])
    }
}

impl EnumDescriptor {
    /// The name of the value with the given number.
    #[must_use]
    pub fn name_of(&self, number: i32) -> Option<&'static str> {
        let found = self
            .values
            .binary_search_by_key(&number, |value| value.number)
            .ok()?;
        Some(self.values[found].name)
    }

    /// The number of the value with the given name.
    #[must_use]
    pub fn number_of(&self, name: &str) -> Option<i32> {
        self.values
            .iter()
            .find(|value| value.name == name)
            .map(|value| value.number)
    }
}

impl CritOptions {
    /// Prints as plain numbers and text.
    pub const NONE: Self = Self {
        hex: false,
        dev: None,
        ipadd: false,
        flags: None,
        dict: None,
        conv: None,
    };
}

/// The message with the given name, such as `pagemap_entry`.
#[must_use]
pub fn message(name: &str) -> Option<&'static MessageDescriptor> {
    let found = MESSAGES
        .binary_search_by(|message| message.name.cmp(name))
        .ok()?;
    Some(MESSAGES[found])
}
