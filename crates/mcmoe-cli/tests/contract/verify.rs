//! `verify`: a whole folder against its checksums and its format.

use std::fs;
use std::process::Command;

use super::{compressed, number};
use crate::common::{DEMO, Workplace, ask, files_of, patch_at};

/// A byte of codes, which no invariant of the format speaks of.
fn flip_a_code(workplace: &Workplace) {
    patch_at(&workplace.model(), "model.layers.1.block_sparse_moe.experts.5.w2.packed", 100, &[0x5A, 0xA5]);
}

#[test]
fn a_sound_folder_is_sound() {
    let verified = ask("verify", compressed(), "--json").json();
    let files = files_of(compressed());
    let bytes: usize =
        files.iter().filter(|(name, _)| *name != "checksums.sha256").map(|(_, f)| f.len()).sum();
    assert_eq!(
        (number(&verified, "files"), number(&verified, "bytes")),
        (files.len() as f64 - 1.0, bytes as f64)
    );
    // Embedding, norm, head; in each layer 4 projections, 24 matrices of experts, 2 norms, a gate.
    assert_eq!(number(&verified, "tensors"), 3.0 + 3.0 * 31.0);
    let text = ask("verify", compressed(), "").done();
    assert!(text.contains("equal their checksums") && text.contains("96 tensors are sound"), "{text}");
}

#[test]
fn checksums_are_those_of_sha256sum() {
    match Command::new("sha256sum")
        .args(["--check", "--strict", "checksums.sha256"])
        .current_dir(compressed())
        .output()
    {
        Ok(ended) => assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout)),
        Err(e) => eprintln!("SKIPPED: sha256sum: {e}"),
    }
}

#[test]
fn a_changed_code_is_found_on_request() {
    let workplace = Workplace::with(compressed());
    flip_a_code(&workplace);
    let shard = "model-00003-of-00004.safetensors";
    ask("verify", &workplace.model(), "").failed(&[shard, "checksum"]);
    let eval = format!("--dataset text:{DEMO}/evaluation.txt --seq-len 32 --windows 1");
    ask("eval", &workplace.model(), &eval).done();
    ask("eval", &workplace.model(), &format!("{eval} --verify")).failed(&[shard, "checksum"]);
}

#[test]
fn files_that_come_and_go_are_found() {
    let workplace = Workplace::with(compressed());
    fs::write(workplace.model().join("notes.txt"), "").unwrap();
    ask("verify", &workplace.model(), "").failed(&["checksums.sha256", "notes.txt"]);
    fs::remove_file(workplace.model().join("notes.txt")).unwrap();
    fs::remove_file(workplace.model().join("tokenizer_config.json")).unwrap();
    ask("verify", &workplace.model(), "").failed(&["tokenizer_config.json"]);
    fs::remove_file(workplace.model().join("checksums.sha256")).unwrap();
    ask("verify", &workplace.model(), "").failed(&["checksums.sha256"]);
}

#[test]
fn dense_folders_have_tensors_to_check() {
    let workplace = Workplace::dense();
    let verified = ask("verify", &workplace.model(), "--json").json();
    assert_eq!((number(&verified, "files"), number(&verified, "tensors")), (0.0, 96.0));
    let infinite = 0x7F80_u16.to_le_bytes();
    patch_at(&workplace.model(), "model.layers.2.block_sparse_moe.experts.1.w3.weight", 64, &infinite);
    ask("verify", &workplace.model(), "").failed(&["layers.2", "experts.1.w3", "finite"]);
}
