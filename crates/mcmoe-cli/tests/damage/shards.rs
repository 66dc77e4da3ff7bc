//! Weight files and their index.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::common::{Workplace, edit_json, raw_header};

/// The shard that is damaged.
const SHARD: &str = "model-00002-of-00003.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Damages the shard of a copy of the demo and checks that the error names it.
#[track_caller]
fn refused(damage: impl FnOnce(&PathBuf), names: &[&str]) {
    let workplace = Workplace::dense();
    damage(&workplace.model().join(SHARD));
    workplace.refuses(&[&[SHARD], names].concat());
}

fn cut(path: &PathBuf, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(length);
    fs::write(path, bytes).unwrap();
}

#[test]
fn cut_short() {
    for length in [0, 1, 7, 8, 9, 1000, 2_000_000, 2_860_767] {
        refused(|path| cut(path, length), &["not a sound safetensors file"]);
    }
}

#[test]
fn too_long() {
    refused(|path| fs::write(path, [fs::read(path).unwrap(), vec![0]].concat()).unwrap(), &["sound"]);
}

#[test]
fn a_header_of_garbage_length() {
    for length in [u64::MAX, u64::MAX - 7, 1 << 63, 1 << 40, 2_860_761, 1, 0] {
        let lie = |path: &PathBuf| {
            let mut bytes = fs::read(path).unwrap();
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            fs::write(path, bytes).unwrap();
        };
        refused(lie, &["not a sound safetensors file"]);
    }
}

#[test]
fn a_header_that_is_no_description_of_tensors() {
    let headers: [&[u8]; 6] =
        [b"{", b"null", b"[]", b"{\"a\": 1}", b"\xff\xfe", b"{\"a\":{\"dtype\":\"BF16\"}}"];
    for header in headers {
        refused(|path| raw_header(path, header, b""), &["not a sound safetensors file"]);
    }
    let nested = "[".repeat(100_000);
    refused(|path| raw_header(path, nested.as_bytes(), b""), &["not a sound safetensors file"]);
}

#[test]
fn a_header_of_impossible_tensors() {
    let impossible = [
        json!({"dtype": "BF16", "shape": [4], "data_offsets": [0, 4]}),
        json!({"dtype": "BF16", "shape": [4], "data_offsets": [8, 0]}),
        json!({"dtype": "BF16", "shape": [4], "data_offsets": [0, 8_000_000_000_u64]}),
        json!({"dtype": "BF16", "shape": [4], "data_offsets": [-8, 0]}),
        json!({"dtype": "BF16", "shape": [1_u64 << 33, 1_u64 << 33], "data_offsets": [0, 8]}),
        json!({"dtype": "BF17", "shape": [4], "data_offsets": [0, 8]}),
    ];
    for tensor in impossible {
        let header = json!({ "lm_head.weight": tensor }).to_string();
        refused(|path| raw_header(path, header.as_bytes(), &[0; 8]), &["not a sound safetensors file"]);
    }
}

#[test]
fn missing() {
    refused(|path| fs::remove_file(path).unwrap(), &["cannot read", "No such file"]);
    let folder = |path: &PathBuf| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    };
    refused(folder, &["cannot read"]);
}

#[test]
fn an_index_that_points_elsewhere() {
    for place in ["../model/model-00002-of-00003.safetensors", "/etc/passwd", "..", "sub/a.safetensors"] {
        let workplace = Workplace::dense();
        edit_json(&workplace.model().join(INDEX), |index| {
            index["weight_map"]["model.norm.weight"] = place.into();
        });
        workplace.refuses(&[INDEX, place]);
    }
}

#[test]
fn an_index_that_is_none() {
    let not_indexes =
        ["", "{", "[]", "{}", r#"{"weight_map": 3}"#, r#"{"weight_map": {"lm_head.weight": 3}}"#];
    for text in not_indexes {
        let workplace = Workplace::dense();
        fs::write(workplace.model().join(INDEX), text).unwrap();
        workplace.refuses(&[INDEX]);
    }
}

#[test]
fn an_index_of_nothing() {
    let workplace = Workplace::dense();
    fs::write(workplace.model().join(INDEX), r#"{"weight_map": {}}"#).unwrap();
    workplace.refuses(&["model.embed_tokens.weight", "missing"]);
}

#[test]
fn no_weights_at_all() {
    let workplace = Workplace::dense();
    fs::remove_file(workplace.model().join(INDEX)).unwrap();
    workplace.refuses(&["holds neither model.safetensors nor model.safetensors.index.json"]);
}
