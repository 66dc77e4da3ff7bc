//! Texts to calibrate on: lines, lists, archives and what looks like them.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use mcmoe_mixtral::dataset::{DataFormat, DataSource, DataSpec};
use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::attack::{answer, changed, changes, on_cases};
use super::{every_seed, memory};

/// Bytes of text asked for.
const LIMIT: usize = 1 << 16;
/// Bytes that any file may take: a line may have 64 MiB, and its buffer grows by doubling.
const FIXED: usize = 512 << 20;
/// The piece that archives repeat.
const PIECE: usize = 1 << 20;

const PLAIN: &[u8] = "The ship was late. Überall war Eis.\n\n = A heading = \n\n".as_bytes();
const LINES: &[u8] = br#"{"text": "The ship was late.", "url": null}

{"text": "\u00dcberall \"war\" Eis.", "numbers": [1, 2.5e3]}
"#;
const LIST: &[u8] =
    br#"[{"problem": "1 + 1?", "solution": "2"}, "a text", {"question": "Why?", "answer": "\n"}]"#;

#[test]
fn seeds_are_survived() {
    let _alone = memory::alone();
    for (seed, file) in every_seed() {
        println!("{seed}");
        survive(&file);
        println!("{seed}, compressed");
        survive(&gz(&file));
    }
}

#[test]
fn changed_texts_are_survived() {
    let _alone = memory::alone();
    let archive = gz(LINES);
    for file in [PLAIN, LINES, LIST, &archive[..]] {
        println!("{}", String::from_utf8_lossy(file));
        on_cases(300, &changes(), |changes| survive(&changed(file, &changes)));
    }
}

#[test]
fn any_bytes_are_survived() {
    let _alone = memory::alone();
    on_cases(300, &prop::collection::vec(any::<u8>(), 0..200), |file| survive(&file));
}

/// Kilobytes that are hundreds of megabytes.
#[test]
fn bombs_are_survived() {
    let _alone = memory::alone();
    let bombs = [
        ("zeros", bomb(b"\0", &[0], 128)),
        ("blank lines", bomb(b"\n", b"\n", 8)),
        ("a line without an end", bomb(br#"{"text": ""#, b"a", 100)),
        ("a line of numbers", bomb(br#"{"text": "a", "numbers": [0"#, b",0", 24)),
        ("a list of nothing", bomb(b"[", b" ", 300)),
        ("a list of numbers", bomb(b"[0", b",0", 24)),
    ];
    for (name, file) in bombs {
        println!("{name}: {} bytes", file.len());
        survive(&file);
    }
}

/// Reads a start of `file` as every kind of data.
fn survive(file: &[u8]) {
    let mut stored = NamedTempFile::new().unwrap();
    stored.write_all(file).unwrap();
    for format in DataFormat::ALL {
        let spec = DataSpec::from(DataSource::new(format, stored.path()));
        let documents = memory::within(file.len(), FIXED, || answer(spec.documents(Some(LIMIT))));
        let bytes: usize = documents.unwrap_or_default().iter().map(String::len).sum();
        assert!(bytes < LIMIT + 4, "{bytes} bytes of text");
    }
}

fn gz(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// An archive of `start` and so many pieces of nothing but `repeated`.
fn bomb(start: &[u8], repeated: &[u8], pieces: usize) -> Vec<u8> {
    let piece = repeated.repeat(PIECE / repeated.len());
    [gz(start), gz(&piece).repeat(pieces)].concat()
}
