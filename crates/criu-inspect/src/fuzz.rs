//! What the fuzzers do with bytes: print images and read text, and ask every question.
//!
//! Each function takes any bytes and must come back: no panic, no hang, no memory beyond what the
//! bytes account for. The fuzz targets only call these; so do the tests, with damaged input.

use criu_image::{ImageReader, fuzz};

use crate::explore::Explorer;
use crate::json::{DecodeOptions, EncodeOptions, Payloads, Style, decode, encode};
use crate::verify::verify;

/// Prints bytes as an image in every style, and makes the image of the text again.
///
/// # Panics
///
/// Panics when an image that can be printed does not come back byte for byte.
pub fn json_round_trip(bytes: &[u8]) {
    for style in [Style::Compact, Style::Pretty] {
        let options = DecodeOptions::new(style);
        if let Some(text) = print(bytes, options.payloads(Payloads::Size)) {
            drop(text);
        }
        let Some(text) = print(bytes, options) else {
            continue;
        };
        let mut image = Vec::new();
        if let Err(error) = encode(&text[..], &mut image, EncodeOptions::default()) {
            panic!("{error} in {}", text.escape_ascii());
        }
        assert!(image == bytes, "lost by way of {}", text.escape_ascii());
    }
}

/// Reads bytes as JSON text, and prints the image of it.
///
/// # Panics
///
/// Panics when the text of an image is not one of the same image.
pub fn json_text(bytes: &[u8]) {
    let mut image = Vec::new();
    if encode(bytes, &mut image, EncodeOptions::default()).is_ok() {
        json_round_trip(&image);
    }
}

/// Takes bytes for the files of a checkpoint and asks every question about it, also
/// whether it is whole.
///
/// # Panics
///
/// Panics when an answer is another when it is streamed.
pub fn explore(bytes: &[u8]) {
    let mut explorer = Explorer::new(fuzz::checkpoint_of(bytes));
    let mut text = Vec::new();
    drop(explorer.processes().value.write_text(&mut text));
    drop(explorer.open_files().value.write_text(&mut text));
    streams_say_the_same(bytes);
    drop(explorer.sockets());
    drop((
        explorer.threads(),
        explorer.arguments(),
        explorer.environment(),
    ));
    drop((
        explorer.mounts(),
        explorer.namespaces(),
        explorer.networks(),
    ));
    drop((explorer.cgroups(), explorer.credentials()));
    drop((explorer.signals(), explorer.timers()));
    drop(verify(explorer.checkpoint(), &()));
}

/// Writes answers once when they are whole and once while they are worked out, each asked of an explorer that was asked
/// nothing else: what is amiss is told once.
fn streams_say_the_same(bytes: &[u8]) {
    const SAME: &str = "an answer is the same when it is streamed";
    let explorer = || Explorer::new(fuzz::checkpoint_of(bytes));
    let (mut whole, mut streamed) = (Vec::new(), Vec::new());

    let answer = explorer().mappings();
    drop(answer.value.write_text(&mut whole));
    let mut asked = explorer();
    let mut stream = asked.stream_mappings();
    drop(stream.write_text(&mut streamed));
    assert_eq!(
        stream.into_warnings().len(),
        answer.warnings.len(),
        "{SAME}"
    );
    assert!(whole == streamed, "{SAME}");

    whole.clear();
    streamed.clear();
    let answer = explorer().resident();
    drop(answer.value.write_text(&mut whole));
    let mut asked = explorer();
    let mut stream = asked.stream_resident();
    drop(stream.write_text(&mut streamed));
    assert_eq!(
        stream.into_warnings().len(),
        answer.warnings.len(),
        "{SAME}"
    );
    assert!(whole == streamed, "{SAME}");
}

fn print(bytes: &[u8], options: DecodeOptions) -> Option<Vec<u8>> {
    let mut image = ImageReader::new(bytes).ok()?;
    let mut text = Vec::new();
    decode(&mut image, &mut text, options).ok()?;
    Some(text)
}
