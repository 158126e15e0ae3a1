//! Messages with made-up content, field by field as `schema/criu.json` has them.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::Proto;

/// Which fields to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Only those that are required.
    Required,
    /// All of them; lists get two elements.
    All,
}

/// The names of all messages, those of `rpc.proto` left out.
#[must_use]
pub fn message_names() -> Vec<&'static str> {
    messages()
        .iter()
        .filter(|(_, message)| message["file"] != "rpc.proto")
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Encodes a message with made-up content, canonically: by ascending field number.
///
/// # Panics
///
/// Panics if there is no such message.
#[must_use]
pub fn filled(name: &str, fill: Fill) -> Proto {
    fill_message(name, fill, 0)
}

fn fill_message(name: &str, fill: Fill, depth: u32) -> Proto {
    let message = &messages()[name];
    let mut fields: Vec<_> = message["fields"]
        .as_array()
        .expect("fields")
        .iter()
        .collect();
    fields.sort_by_key(|field| field["number"].as_u64());
    let mut out = Proto::new();
    for field in fields {
        let times = match (field["label"].as_str(), fill) {
            (Some("required"), _) => 1,
            (_, Fill::Required) => 0,
            (Some("optional"), Fill::All) => 1,
            // A message within itself ends somewhere.
            _ if depth > 2 => 0,
            _ => 2,
        };
        let number = u32::try_from(field["number"].as_u64().expect("a number")).expect("small");
        if field["packed"] == true && times > 0 {
            out = out.packed(number, &[u64::from(number), 300]);
            continue;
        }
        for time in 0..times {
            out = fill_field(out, field, number, time, fill, depth);
        }
    }
    out
}

fn fill_field(out: Proto, field: &Value, number: u32, time: u64, fill: Fill, depth: u32) -> Proto {
    // Different for every field, and sometimes of more than one byte.
    let value = u64::from(number) * 37 + time;
    let type_name = || field["type_name"].as_str().expect("a type name");
    match field["type"].as_str().expect("a type") {
        "bool" => out.varint(number, (value + 1) & 1),
        "uint32" => out.varint(number, 0xffff_ff00 + (value & 0xff)),
        "uint64" => out.varint(number, u64::MAX - value),
        "int32" | "int64" => out.int(number, -i64::try_from(value).expect("small")),
        "sint32" | "sint64" => out.zigzag(number, -i64::try_from(value).expect("small")),
        "fixed64" => out.fixed64(number, u64::MAX - value),
        "string" => out.bytes(number, format!("text {value}")),
        "bytes" => out.bytes(number, [0, 0xff, 10, 13, number.to_le_bytes()[0]]),
        "enum" => out.int(number, enum_number(type_name())),
        "message" => out.message(number, &fill_message(type_name(), fill, depth + 1)),
        other => panic!("unknown type {other}"),
    }
}

fn enum_number(name: &str) -> i64 {
    let schema = schema();
    let enums = schema["enums"].as_array().expect("enums");
    let found = enums
        .iter()
        .find(|one| one["name"] == name)
        .expect("a known enum");
    let values = found["values"].as_array().expect("values");
    values.last().expect("a value")["number"]
        .as_i64()
        .expect("a number")
}

fn messages() -> &'static BTreeMap<String, Value> {
    static MESSAGES: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let messages = schema()["messages"].as_array().expect("messages").iter();
        messages
            .map(|message| {
                let name = message["name"].as_str().expect("a name").to_owned();
                (name, message.clone())
            })
            .collect()
    })
}

fn schema() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        serde_json::from_str(include_str!("../../../../schema/criu.json")).expect("valid JSON")
    })
}
