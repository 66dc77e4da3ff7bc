//! Text to calibrate on or to evaluate.

use std::fs;

use crate::common::{Workplace, ask};

/// Writes `bytes` to a file and checks that neither calibration nor evaluation gets along with it.
#[track_caller]
fn refused(kind: &str, bytes: &[u8], names: &[&str]) {
    let workplace = Workplace::dense();
    let file = workplace.root().join("the.data");
    fs::write(&file, bytes).unwrap();
    let spec = format!("{kind}:{}", file.display());
    let names = [&["the.data"], names].concat();
    workplace.refuses_with(&format!("--calibration {spec} --samples 2 --seq-len 64"), &names);
    ask("eval", &workplace.model(), &format!("--dataset {spec} --seq-len 64 --json")).failed(&names);
}

#[test]
fn nothing_in_it() {
    refused("text", b"", &["empty"]);
    refused("text", b" \n\n ", &["no text"]);
    refused("c4", b"", &["empty"]);
    refused("c4", b"{\"text\": \"\"}\n", &["no text"]);
}

#[test]
fn too_little_in_it() {
    refused("text", b"A few words only.", &["64 are needed"]);
}

#[test]
fn not_text() {
    refused("text", &[b'a', b'\n', 0xFF, 0xFE, 0x00], &["UTF-8", "line 2"]);
    refused("wikitext2", &(0..=255).collect::<Vec<u8>>(), &["UTF-8"]);
    refused("c4", b"{\"text\": \"fine\"}\n{\"text\": \"cut", &["line 2", "JSON"]);
    refused("c4", b"{\"words\": \"fine\"}\n", &["line 1", "no text"]);
}

#[test]
fn not_what_its_first_bytes_say() {
    refused("text", b"\x1f\x8b\x08 and no more", &["cannot be read"]);
    refused("text", b"PAR1 but not a parquet file", &["parquet"]);
}

#[test]
fn not_there() {
    let workplace = Workplace::dense();
    for (path, names) in [("nowhere.txt", ["nowhere.txt", "no such file"]), ("", ["model", "directory"])] {
        let spec = format!("text:{}", workplace.model().join(path).display());
        workplace.refuses_with(&format!("--calibration {spec}"), &names);
        ask("eval", &workplace.model(), &format!("--dataset {spec}")).failed(&names);
    }
}

#[test]
fn a_part_of_a_mix_that_is_not_there() {
    let workplace = Workplace::dense();
    let folder = workplace.model().display().to_string();
    let spec = format!("mix:text:{folder}/calibration.txt,text:{folder}/nowhere.txt");
    workplace.refuses_with(&format!("--calibration {spec} --samples 2 --seq-len 64"), &["nowhere.txt"]);
}
