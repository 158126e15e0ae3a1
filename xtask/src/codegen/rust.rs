//! Writes the schema as Rust source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use super::model::{Crit, Enum, Field, Label, Message, Schema};
use super::naming::{alias, capitalised, identifier, module, static_name, type_name, variant};

/// The directory of the image messages.
pub(super) const MESSAGES: &str = "crates/criu-image/src/message";

/// Generates every file, as path and text.
pub(super) fn generate(schema: &Schema) -> Result<Vec<(PathBuf, String)>, String> {
    let definitions: BTreeSet<&str> = schema
        .messages
        .iter()
        .map(|message| message.file.as_str())
        .chain(schema.enums.iter().map(|one| one.file.as_str()))
        .collect();
    let mut files = Vec::new();
    for &definition in definitions.iter().filter(|name| **name != RPC) {
        let path = format!("{MESSAGES}/{}.rs", module(definition));
        files.push((path.into(), image_file(schema, definition)?));
    }
    files.push((
        format!("{MESSAGES}/mod.rs").into(),
        index(schema, &definitions),
    ));
    files.push(("crates/criu/src/rpc.rs".into(), rpc_file(schema)?));
    files.push((
        "crates/criu-image/tests/schema/messages.rs".into(),
        test_file(schema),
    ));
    Ok(files)
}

/// The file of one definition's image messages.
fn image_file(schema: &Schema, definition: &str) -> Result<String, String> {
    let mut out = header(&format!("The messages of `{definition}`."));
    out.push_str(
        "use crate::schema::{DeviceEncoding, EnumDescriptor, EnumValueDescriptor, \
         FieldDescriptor, FieldKind, MessageDescriptor};\n\
         use crate::wire::{DecodeError, Field, Message, UnknownFields, slot};\n",
    );
    let mut imports: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for message in schema
        .messages
        .iter()
        .filter(|message| message.file == definition)
    {
        for field in &message.fields {
            let Some(name) = &field.type_name else {
                continue;
            };
            let home = home_of(schema, name)?;
            if home != definition {
                let names = imports.entry(home).or_default();
                names.insert(type_name(name));
                names.insert(static_name(name));
            }
        }
    }
    for (home, names) in imports {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "use super::{}::{{{names}}};", module(home));
    }
    definitions(schema, definition, "pub(super)", &mut out)?;
    Ok(without_unused_imports(out))
}

/// The file of the requests and replies.
fn rpc_file(schema: &Schema) -> Result<String, String> {
    let mut out = header(
        "The messages of `rpc.proto`: what CRIU is asked and what it answers, as on the wire.",
    );
    out.push_str(
        "use criu_image::schema::{DeviceEncoding, EnumDescriptor, \
         EnumValueDescriptor, FieldDescriptor, FieldKind, MessageDescriptor};\n\
         use criu_image::wire::{DecodeError, Field, Message, UnknownFields, slot};\n",
    );
    definitions(schema, RPC, "pub", &mut out)?;
    tables(schema, |file| file == RPC, &mut out);
    Ok(without_unused_imports(out))
}

/// For tests: each image message by name, as a function that decodes and encodes it.
fn test_file(schema: &Schema) -> String {
    let mut out = header("Every image message by name.");
    out.push_str(
        "use super::{Recode, recode};\n\nuse criu_image::message;\n\n\
         pub(super) const MESSAGES: &[(&str, Recode)] = &[",
    );
    for message in schema.messages.iter().filter(|message| message.file != RPC) {
        let name = &message.name;
        let _ = writeln!(out, "({name:?}, recode::<message::{}>),", type_name(name));
    }
    out.push_str("];\n");
    out
}

/// The module file: one flat list of names, and the tables of all messages and enums.
fn index(schema: &Schema, files: &BTreeSet<&str>) -> String {
    let mut out = header(
        "Every image message as a Rust struct.\n\n\
         Required fields are plain, optional ones `Option`, repeated ones `Vec`; messages within\n\
         an optional field are boxed, since most are absent. Text is `BString`, because CRIU\n\
         stores paths, which need not be UTF-8. Enums keep numbers that have no name, and every\n\
         struct keeps the fields it does not know. A struct is made with `..Default::default()`,\n\
         since newer CRIU adds fields.",
    );
    for file in files.iter().filter(|file| **file != RPC) {
        let _ = writeln!(out, "mod {};", module(file));
    }
    out.push_str("use crate::schema::{EnumDescriptor, MessageDescriptor};\n");
    for file in files.iter().filter(|file| **file != RPC) {
        let names: Vec<_> = schema
            .messages
            .iter()
            .filter(|message| message.file == *file)
            .map(|message| type_name(&message.name))
            .chain(
                schema
                    .enums
                    .iter()
                    .filter(|one| one.file == *file)
                    .map(|one| type_name(&one.name)),
            )
            .collect();
        let _ = writeln!(
            out,
            "pub use self::{}::{{{}}};",
            module(file),
            names.join(", ")
        );
    }
    tables(schema, |file| file != RPC, &mut out);
    out
}

/// The lists of all messages and enums whose file is wanted, by ascending name.
fn tables(schema: &Schema, wanted: impl Fn(&str) -> bool, out: &mut String) {
    let path = |file: &str, name: &str| match file {
        RPC => static_name(name),
        _ => format!("{}::{}", module(file), static_name(name)),
    };
    let mut messages: Vec<_> = schema
        .messages
        .iter()
        .filter(|message| wanted(&message.file))
        .collect();
    messages.sort_by(|left, right| left.name.cmp(&right.name));
    out.push_str("\n/// Every message, by ascending name.\n");
    out.push_str("pub static MESSAGES: &[&MessageDescriptor] = &[");
    for message in messages {
        let _ = write!(out, "&{},", path(&message.file, &message.name));
    }
    out.push_str("];\n");
    let mut enums: Vec<_> = schema
        .enums
        .iter()
        .filter(|one| wanted(&one.file))
        .collect();
    enums.sort_by(|left, right| left.name.cmp(&right.name));
    out.push_str("\n/// Every enum, by ascending name.\n");
    out.push_str("pub static ENUMS: &[&EnumDescriptor] = &[");
    for one in enums {
        let _ = write!(out, "&{},", path(&one.file, &one.name));
    }
    out.push_str("];\n");
}

fn definitions(
    schema: &Schema,
    definition: &str,
    visibility: &str,
    out: &mut String,
) -> Result<(), String> {
    for message in schema
        .messages
        .iter()
        .filter(|message| message.file == definition)
    {
        write_struct(message, out)?;
        write_descriptor(message, visibility, out)?;
    }
    for one in schema.enums.iter().filter(|one| one.file == definition) {
        write_enum(one, visibility, out);
    }
    Ok(())
}

fn write_struct(message: &Message, out: &mut String) -> Result<(), String> {
    let name = type_name(&message.name);
    let _ = writeln!(
        out,
        "\n/// `{}` of `{}`.{}\n#[derive(Clone, Debug, PartialEq, Eq{})]\n\
         {}pub struct {name} {{",
        message.name,
        message.file,
        since(message.since.as_deref()),
        if needs_default(message) {
            ""
        } else {
            ", Default"
        },
        alias(&message.name),
    );
    for field in &message.fields {
        let _ = writeln!(
            out,
            "/// Field {} of `{}`.{}{}{}\npub {}: {},",
            field.number,
            message.name,
            label_note(field),
            default_note(field),
            since(field.since.as_deref()),
            identifier(&field.name),
            field_type(field)?,
        );
    }
    out.push_str("/// Fields that this version does not know.\npub unknown: UnknownFields,\n}\n");
    if needs_default(message) {
        write_default(message, out)?;
    }
    write_accessors(message, out)?;
    write_message_impl(message, out)
}

fn write_default(message: &Message, out: &mut String) -> Result<(), String> {
    let name = type_name(&message.name);
    let _ = writeln!(
        out,
        "\nimpl Default for {name} {{\nfn default() -> Self {{\nSelf {{"
    );
    for field in &message.fields {
        let value = match (&field.default, field.label) {
            (Some(default), Label::Required) => literal(field, default)?,
            _ => "Default::default()".to_owned(),
        };
        let _ = writeln!(out, "{}: {value},", identifier(&field.name));
    }
    out.push_str("unknown: UnknownFields::default(),\n}\n}\n}\n");
    Ok(())
}

/// A method for each optional field that has a default of its own.
fn write_accessors(message: &Message, out: &mut String) -> Result<(), String> {
    let defaults: Vec<_> = message
        .fields
        .iter()
        .filter(|field| field.label == Label::Optional)
        .filter_map(|field| field.default.as_deref().map(|default| (field, default)))
        .collect();
    if defaults.is_empty() {
        return Ok(());
    }
    let _ = writeln!(out, "\nimpl {} {{", type_name(&message.name));
    for (field, default) in defaults {
        let _ = writeln!(
            out,
            "/// `{}`, or its default if it is absent.\n#[must_use]\n\
             pub fn {}_or_default(&self) -> {} {{\nself.{}.unwrap_or({})\n}}",
            field.name,
            field.name,
            item_type(field)?,
            identifier(&field.name),
            literal(field, default)?,
        );
    }
    out.push_str("}\n");
    Ok(())
}

fn write_message_impl(message: &Message, out: &mut String) -> Result<(), String> {
    let required = by_number(message)
        .filter(|field| field.label == Label::Required)
        .count();
    if required > 64 {
        return Err(format!("{}: more than 64 required fields", message.name));
    }
    let has_required = required > 0;
    let _ = writeln!(
        out,
        "\nimpl Message for {} {{\n\
         const DESCRIPTOR: &'static MessageDescriptor = &{};\n\n\
         fn merge_field(&mut self, field: &Field<'_>, {}seen: &mut slot::Seen) \
         -> Result<(), DecodeError> {{\nmatch field.number() {{",
        type_name(&message.name),
        static_name(&message.name),
        if has_required { "" } else { "_" },
    );
    let mut index = 0;
    for field in by_number(message) {
        let label = match field.label {
            Label::Required => "required",
            Label::Optional => "optional",
            Label::Repeated => "repeated",
        };
        let function = match field.kind.as_str() {
            "message" => format!("slot::take_{label}_message"),
            _ => format!("slot::take_{label}::<slot::{}>", codec(field)?),
        };
        let place = match field.label {
            Label::Required => {
                index += 1;
                format!(", seen, {}", index - 1)
            }
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "{} => {function}(&mut self.{}, field{place})?,",
            field.number,
            identifier(&field.name)
        );
    }
    out.push_str("_ => self.unknown.push(field),\n}\nOk(())\n}\n\n");
    out.push_str("fn encode_to(&self, out: &mut Vec<u8>) {\n");
    for field in by_number(message) {
        let (number, name) = (field.number, identifier(&field.name));
        if field.kind == "message" {
            match field.label {
                Label::Required => {
                    let _ = writeln!(out, "slot::put_message({number}, &self.{name}, out);");
                }
                Label::Optional => {
                    let _ = writeln!(
                        out,
                        "if let Some(item) = &self.{name} {{\n\
                         slot::put_message({number}, &**item, out);\n}}"
                    );
                }
                Label::Repeated => {
                    let _ = writeln!(
                        out,
                        "for item in &self.{name} {{\nslot::put_message({number}, item, out);\n}}"
                    );
                }
            }
            continue;
        }
        let (function, argument) = match field.label {
            Label::Required => ("put", format!("&self.{name}")),
            Label::Optional => ("put_optional", format!("self.{name}.as_ref()")),
            Label::Repeated if field.packed => ("put_packed", format!("&self.{name}")),
            Label::Repeated => ("put_repeated", format!("&self.{name}")),
        };
        let _ = writeln!(
            out,
            "slot::{function}::<slot::{}>({number}, {argument}, out);",
            codec(field)?
        );
    }
    out.push_str(
        "self.unknown.encode_to(out);\n}\n\n\
         fn unknown_mut(&mut self) -> &mut UnknownFields {\n&mut self.unknown\n}\n}\n",
    );
    Ok(())
}

fn write_descriptor(message: &Message, visibility: &str, out: &mut String) -> Result<(), String> {
    let _ = write!(
        out,
        "\n/// Describes `{}`.\n{visibility} static {}: MessageDescriptor = MessageDescriptor {{\n\
         name: {:?},\nfile: {:?},\nsince: {:?},\nfields: &[",
        message.name,
        static_name(&message.name),
        message.name,
        message.file,
        message.since,
    );
    let mut names = Vec::new();
    for (index, field) in by_number(message).enumerate() {
        names.push((field.name.as_str(), index));
        let declared_at = message
            .fields
            .iter()
            .position(|other| other.number == field.number)
            .unwrap_or(0);
        let label = match field.label {
            Label::Required => "required",
            Label::Optional => "optional",
            Label::Repeated => "repeated",
        };
        let _ = write!(
            out,
            "FieldDescriptor::{label}({:?}, {}, {})",
            field.name,
            field.number,
            kind(field)?
        );
        if declared_at != index {
            let _ = write!(out, ".declared_at({declared_at})");
        }
        if field.packed {
            out.push_str(".packed()");
        }
        for (name, value) in [("default", &field.default), ("since", &field.since)] {
            if let Some(value) = value {
                let _ = write!(out, ".{name}({value:?})");
            }
        }
        write_crit(&field.crit, out);
        out.push_str(",\n");
    }
    names.sort_unstable();
    let names: Vec<_> = names.iter().map(|(_, index)| index.to_string()).collect();
    let _ = writeln!(out, "],\nby_name: &[{}],\n}};", names.join(", "));
    Ok(())
}

fn write_enum(one: &Enum, visibility: &str, out: &mut String) {
    let name = type_name(&one.name);
    let _ = writeln!(
        out,
        "\n/// `{}` of `{}`.{}\n#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]\n\
         {}#[non_exhaustive]\npub enum {name} {{",
        one.name,
        one.file,
        since(one.since.as_deref()),
        alias(&one.name),
    );
    for (index, value) in one.values.iter().enumerate() {
        let _ = writeln!(
            out,
            "/// `{}`, {}.{}\n{}{},",
            value.name,
            value.number,
            since(value.since.as_deref()),
            if index == 0 { "#[default]\n" } else { "" },
            variant(&value.name),
        );
    }
    out.push_str("/// A number that has no name here.\nUnrecognized(i32),\n}\n");
    let _ = writeln!(
        out,
        "\nimpl slot::OpenEnum for {name} {{\n\
         const DESCRIPTOR: &'static EnumDescriptor = &{};\n\n\
         fn from_number(number: i32) -> Self {{\nmatch number {{",
        static_name(&one.name)
    );
    for value in &one.values {
        let _ = writeln!(out, "{} => Self::{},", value.number, variant(&value.name));
    }
    out.push_str("other => Self::Unrecognized(other),\n}\n}\n\n");
    out.push_str("fn number(self) -> i32 {\nmatch self {\n");
    for value in &one.values {
        let _ = writeln!(out, "Self::{} => {},", variant(&value.name), value.number);
    }
    out.push_str("Self::Unrecognized(number) => number,\n}\n}\n}\n");
    let _ = writeln!(
        out,
        "\n/// Describes `{}`.\n{visibility} static {}: EnumDescriptor = EnumDescriptor {{\n\
         name: {:?},\nvalues: &[",
        one.name,
        static_name(&one.name),
        one.name
    );
    let mut values: Vec<_> = one.values.iter().collect();
    values.sort_by_key(|value| value.number);
    for value in values {
        let _ = writeln!(
            out,
            "EnumValueDescriptor {{ name: {:?}, number: {} }},",
            value.name, value.number
        );
    }
    out.push_str("],\n};\n");
}

fn by_number(message: &Message) -> impl Iterator<Item = &Field> {
    let mut fields: Vec<_> = message.fields.iter().collect();
    fields.sort_by_key(|field| field.number);
    fields.into_iter()
}

/// Whether `derive(Default)` would give a required field the wrong value.
fn needs_default(message: &Message) -> bool {
    message.fields.iter().any(|field| {
        let default = field.default.as_deref();
        field.label == Label::Required
            && default.is_some_and(|value| !["false", "0"].contains(&value))
    })
}

fn field_type(field: &Field) -> Result<String, String> {
    let item = item_type(field)?;
    Ok(match field.label {
        Label::Required => item,
        Label::Optional if field.kind == "message" => format!("Option<Box<{item}>>"),
        Label::Optional => format!("Option<{item}>"),
        Label::Repeated => format!("Vec<{item}>"),
    })
}

fn item_type(field: &Field) -> Result<String, String> {
    Ok(match field.kind.as_str() {
        "uint32" => "u32".to_owned(),
        "uint64" | "fixed64" => "u64".to_owned(),
        "int32" | "sint32" => "i32".to_owned(),
        "int64" | "sint64" => "i64".to_owned(),
        "bool" => "bool".to_owned(),
        "string" => "bstr::BString".to_owned(),
        "bytes" => "Vec<u8>".to_owned(),
        "enum" | "message" => type_name(type_of(field)?),
        other => return Err(format!("{}: unsupported type `{other}`", field.name)),
    })
}

fn codec(field: &Field) -> Result<String, String> {
    Ok(match field.kind.as_str() {
        "enum" => format!("Enum<{}>", type_name(type_of(field)?)),
        "string" => "Text".to_owned(),
        "bytes" => "Blob".to_owned(),
        other => capitalised(other),
    })
}

fn kind(field: &Field) -> Result<String, String> {
    Ok(match field.kind.as_str() {
        "enum" => format!("FieldKind::Enum(&{})", static_name(type_of(field)?)),
        "message" => format!("FieldKind::Message(&{})", static_name(type_of(field)?)),
        other => format!("FieldKind::{}", capitalised(other)),
    })
}

fn write_crit(crit: &Crit, out: &mut String) {
    for (name, set) in [("hex", crit.hex), ("ipadd", crit.ipadd)] {
        if set {
            let _ = write!(out, ".{name}()");
        }
    }
    if crit.dev {
        let encoding = if crit.odev { "LibC" } else { "Kernel" };
        let _ = write!(out, ".dev(DeviceEncoding::{encoding})");
    }
    for (name, value) in [
        ("flags", &crit.flags),
        ("dict", &crit.dict),
        ("conv", &crit.conv),
    ] {
        if let Some(value) = value {
            let _ = write!(out, ".{name}({value:?})");
        }
    }
}

fn literal(field: &Field, default: &str) -> Result<String, String> {
    match field.kind.as_str() {
        "enum" => Ok(format!(
            "{}::{}",
            type_name(type_of(field)?),
            variant(default)
        )),
        "string" | "bytes" | "message" => {
            Err(format!("{}: unsupported default {default}", field.name))
        }
        _ => Ok(default.to_owned()),
    }
}

fn home_of<'a>(schema: &'a Schema, name: &str) -> Result<&'a str, String> {
    schema
        .messages
        .iter()
        .map(|message| (&message.name, &message.file))
        .chain(schema.enums.iter().map(|one| (&one.name, &one.file)))
        .find(|(known, _)| *known == name)
        .map(|(_, file)| file.as_str())
        .ok_or_else(|| format!("unknown type `{name}`"))
}

fn type_of(field: &Field) -> Result<&str, String> {
    field
        .type_name
        .as_deref()
        .ok_or_else(|| format!("{}: no type name", field.name))
}

fn header(about: &str) -> String {
    let mut out = String::from("// @generated by `cargo xtask codegen` from schema/criu.json.\n\n");
    for line in about.lines() {
        out.push_str(if line.is_empty() { "//!" } else { "//! " });
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
    out
}

/// Drops the names of the first two imports that the rest of the file does not use.
fn without_unused_imports(text: String) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let names = line
            .strip_suffix("};")
            .filter(|line| line.starts_with("use "))
            .and_then(|line| line.split_once('{'));
        if let Some((path, names)) = names {
            let used: Vec<_> = names
                .split(", ")
                .filter(|name| {
                    text.lines()
                        .filter(|line| !line.starts_with("use "))
                        .any(|line| {
                            line.split(|c: char| !c.is_alphanumeric() && c != '_')
                                .any(|w| w == *name)
                                && !line.starts_with("//")
                        })
                })
                .collect();
            if !used.is_empty() {
                let _ = writeln!(out, "{path}{{{}}};", used.join(", "));
            }
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn since(version: Option<&str>) -> String {
    match version {
        Some("4.2") => " In no schema before CRIU 4.".to_owned(),
        Some(version) => format!(" Since CRIU {version}."),
        None => String::new(),
    }
}

fn default_note(field: &Field) -> String {
    match &field.default {
        Some(default) => format!(" Default `{}`.", default),
        None => String::new(),
    }
}

fn label_note(field: &Field) -> String {
    match field.label {
        Label::Required => String::new(),
        Label::Optional => " Optional.".to_owned(),
        Label::Repeated => " Repeated.".to_owned(),
    }
}

const RPC: &str = "rpc.proto";
