//! CRIT JSON: against Python CRIT, and against itself.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "synthetic images take the low bits of any number"
)]

mod accepted;
mod base64;
mod corrected;
mod lossless;
mod oracle;
mod refused;
mod synthetic;

use criu_image::ImageReader;
use criu_inspect::json::{self, DecodeError, DecodeOptions, EncodeError, EncodeOptions, Style};

fn open(image: &[u8]) -> ImageReader<&[u8]> {
    ImageReader::new(image).expect("it is an image")
}

fn decode(image: &[u8], options: DecodeOptions) -> Result<Vec<u8>, DecodeError> {
    let mut text = Vec::new();
    json::decode(&mut ImageReader::new(image)?, &mut text, options)?;
    Ok(text)
}

fn encode(text: impl AsRef<[u8]>) -> Result<Vec<u8>, EncodeError> {
    let mut image = Vec::new();
    json::encode(text.as_ref(), &mut image, EncodeOptions::default())?;
    Ok(image)
}

/// The image as compact text.
#[track_caller]
fn compact(image: &[u8]) -> String {
    let text = decode(image, DecodeOptions::new(Style::Compact)).expect("the image can be decoded");
    String::from_utf8(text).expect("text is ASCII")
}

/// The image as pretty text.
#[track_caller]
fn pretty(image: &[u8]) -> String {
    let text = decode(image, DecodeOptions::new(Style::Pretty)).expect("the image can be decoded");
    String::from_utf8(text).expect("text is ASCII")
}

/// Both texts of the image encode to the image, to the byte.
#[track_caller]
fn check_lossless(image: &[u8]) {
    for text in [compact(image), pretty(image)] {
        match encode(&text) {
            Ok(back) => assert_eq!(back, image, "{text}"),
            Err(error) => panic!("{error}\n{text}"),
        }
    }
}
