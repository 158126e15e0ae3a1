//! The schema as it stands in `schema/criu.json`.

use serde_json::Value;

pub(super) struct Schema {
    pub(super) enums: Vec<Enum>,
    pub(super) messages: Vec<Message>,
}

pub(super) struct Enum {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) since: Option<String>,
    pub(super) values: Vec<EnumValue>,
}

pub(super) struct EnumValue {
    pub(super) name: String,
    pub(super) number: i64,
    pub(super) since: Option<String>,
}

pub(super) struct Message {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) since: Option<String>,
    /// In the order of the definition.
    pub(super) fields: Vec<Field>,
}

pub(super) struct Field {
    pub(super) name: String,
    pub(super) number: u64,
    pub(super) label: Label,
    pub(super) kind: String,
    /// The enum or message.
    pub(super) type_name: Option<String>,
    pub(super) default: Option<String>,
    pub(super) packed: bool,
    pub(super) since: Option<String>,
    pub(super) crit: Crit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Required,
    Optional,
    Repeated,
}

#[derive(Default)]
pub(super) struct Crit {
    pub(super) hex: bool,
    pub(super) dev: bool,
    pub(super) odev: bool,
    pub(super) ipadd: bool,
    pub(super) flags: Option<String>,
    pub(super) dict: Option<String>,
    pub(super) conv: Option<String>,
}

impl Schema {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let schema = Self {
            enums: list(&json, "enums")?
                .iter()
                .map(parse_enum)
                .collect::<Result<_, _>>()?,
            messages: list(&json, "messages")?
                .iter()
                .map(parse_message)
                .collect::<Result<_, _>>()?,
        };
        for message in &schema.messages {
            for field in &message.fields {
                let name = field.type_name.as_deref();
                let known = match field.kind.as_str() {
                    "enum" => schema.enums.iter().any(|other| Some(&*other.name) == name),
                    "message" => schema
                        .messages
                        .iter()
                        .any(|other| Some(&*other.name) == name),
                    _ => name.is_none(),
                };
                if !known {
                    return Err(format!(
                        "{}.{}: unknown type {name:?}",
                        message.name, field.name
                    ));
                }
            }
        }
        Ok(schema)
    }
}

fn parse_enum(json: &Value) -> Result<Enum, String> {
    Ok(Enum {
        name: text(json, "name")?,
        file: text(json, "file")?,
        since: optional_text(json, "since")?,
        values: list(json, "values")?
            .iter()
            .map(|value| {
                Ok(EnumValue {
                    name: text(value, "name")?,
                    number: value["number"]
                        .as_i64()
                        .ok_or("enum value without a number")?,
                    since: optional_text(value, "since")?,
                })
            })
            .collect::<Result<_, String>>()?,
    })
}

fn parse_message(json: &Value) -> Result<Message, String> {
    Ok(Message {
        name: text(json, "name")?,
        file: text(json, "file")?,
        since: optional_text(json, "since")?,
        fields: list(json, "fields")?
            .iter()
            .map(parse_field)
            .collect::<Result<_, _>>()?,
    })
}

fn parse_field(json: &Value) -> Result<Field, String> {
    let name = text(json, "name")?;
    let mut crit = Crit::default();
    for (option, value) in json["criu"].as_object().into_iter().flatten() {
        let words = || value.as_str().map(str::to_owned);
        match option.as_str() {
            "hex" => crit.hex = true,
            "dev" => crit.dev = true,
            "odev" => crit.odev = true,
            "ipadd" => crit.ipadd = true,
            "flags" => crit.flags = words(),
            "dict" => crit.dict = words(),
            "conv" => crit.conv = words(),
            _ => return Err(format!("{name}: unknown option `{option}`")),
        }
    }
    Ok(Field {
        number: json["number"]
            .as_u64()
            .ok_or_else(|| format!("{name}: no number"))?,
        label: match text(json, "label")?.as_str() {
            "required" => Label::Required,
            "optional" => Label::Optional,
            "repeated" => Label::Repeated,
            other => return Err(format!("{name}: unknown label `{other}`")),
        },
        kind: text(json, "type")?,
        type_name: optional_text(json, "type_name")?,
        default: optional_text(json, "default")?,
        packed: json["packed"].as_bool().unwrap_or(false),
        since: optional_text(json, "since")?,
        crit,
        name,
    })
}

fn list<'a>(json: &'a Value, key: &str) -> Result<&'a [Value], String> {
    json[key]
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| format!("no list `{key}` in {json}"))
}

fn text(json: &Value, key: &str) -> Result<String, String> {
    optional_text(json, key)?.ok_or_else(|| format!("no `{key}` in {json}"))
}

fn optional_text(json: &Value, key: &str) -> Result<Option<String>, String> {
    match json.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{key}` is {other}, not text")),
    }
}
