//! Every message of the schema, against bytes made from the schema by other code.

mod messages;

use criu_image::schema::{self, FieldKind};
use criu_image::wire::{DecodeError, Message};
use criu_testkit::synthetic::{Fill, Proto, filled, message_names};

use self::messages::MESSAGES;

type Recode = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

fn recode<M: Message>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let message = M::decode(bytes)?;
    assert_eq!(M::decode(&message.encode()).as_ref(), Ok(&message));
    Ok(message.encode())
}

#[test]
fn every_message_is_here_once() {
    let mut names: Vec<_> = MESSAGES.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(names, message_names());
    let listed: Vec<_> = schema::MESSAGES
        .iter()
        .map(|message| message.name)
        .collect();
    assert_eq!(listed, names);
}

#[test]
fn every_message_comes_back_as_it_was() {
    for (name, recode) in MESSAGES {
        for fill in [Fill::Required, Fill::All] {
            let bytes = filled(name, fill).into_bytes();
            assert_eq!(
                recode(&bytes).as_deref(),
                Ok(&*bytes),
                "{name} with {fill:?}"
            );
        }
    }
}

#[test]
fn every_message_keeps_what_it_does_not_know() {
    let unknown = Proto::new()
        .varint(2000, 1)
        .bytes(2001, b"\xff")
        .fixed64(2002, 2)
        .group(2003, &Proto::new().fixed32(1, 3));
    for (name, recode) in MESSAGES {
        let bytes = filled(name, Fill::All).then(&unknown).into_bytes();
        assert_eq!(recode(&bytes).as_deref(), Ok(&*bytes), "{name}");
    }
}

#[test]
fn every_message_survives_truncation_at_every_byte() {
    for (name, recode) in MESSAGES {
        let bytes = filled(name, Fill::All).into_bytes();
        // Long ones repeat themselves; what happens in the first part happens everywhere.
        for end in 0..bytes.len().min(600) {
            if let Ok(recoded) = recode(&bytes[..end]) {
                assert!(recoded.len() <= end, "{name} cut at {end}");
            }
        }
    }
}

#[test]
fn fields_in_any_order_give_the_same_message() {
    for (name, recode) in MESSAGES {
        let bytes = filled(name, Fill::All).into_bytes();
        let mut fields: Vec<_> = criu_image::wire::Fields::new(&bytes)
            .map(|field| field.expect("well-formed").as_bytes())
            .collect();
        // Elements of a list keep their order among themselves.
        fields.sort_by_key(|field| std::cmp::Reverse(tag(field)));
        assert_eq!(recode(&fields.concat()).as_deref(), Ok(&*bytes), "{name}");
    }
}

#[test]
fn every_enum_keeps_numbers_it_has_no_name_for() {
    let mut seen = 0;
    for message in schema::MESSAGES {
        let (_, recode) = MESSAGES
            .iter()
            .find(|(name, _)| *name == message.name)
            .expect("listed");
        for field in message.fields {
            if let FieldKind::Enum(of) = field.kind {
                let bytes = filled(message.name, Fill::Required);
                let bytes = bytes.int(field.number, -77).into_bytes();
                let recoded = recode(&bytes).expect("decodes");
                let mut kept = criu_image::wire::Fields::new(&recoded);
                let number = Proto::new().int(field.number, -77).into_bytes();
                assert!(
                    kept.any(|field| field.expect("well-formed").as_bytes() == number),
                    "{}.{}",
                    message.name,
                    field.name
                );
                assert_eq!(of.name_of(-77), None);
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "only {seen} enum fields");
}

fn tag(field: &[u8]) -> u32 {
    let mut fields = criu_image::wire::Fields::new(field);
    fields
        .next()
        .expect("a field")
        .expect("well-formed")
        .number()
}
