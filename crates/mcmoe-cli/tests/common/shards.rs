//! Safetensors files, taken apart and changed by hand: 8 bytes of length, a JSON header, the data.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::read_json;

/// The shard of the folder `dir` that holds `tensor`.
pub(crate) fn shard_of(dir: &Path, tensor: &str) -> PathBuf {
    let index = read_json(&dir.join("model.safetensors.index.json"));
    dir.join(index["weight_map"][tensor].as_str().expect("the index names the tensor"))
}

/// Changes the header of the file at `path`, the data stay as they are.
pub(crate) fn edit_header(path: &Path, edit: impl FnOnce(&mut Value)) {
    let (mut header, start) = header(path);
    edit(&mut header);
    let data = fs::read(path).unwrap().split_off(start);
    raw_header(path, header.to_string().as_bytes(), &data);
}

/// Writes a file of this header and these data.
pub(crate) fn raw_header(path: &Path, header: &[u8], data: &[u8]) {
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header, data].concat()).unwrap();
}

/// Overwrites the first bytes of `tensor` in the folder `dir`.
pub(crate) fn patch(dir: &Path, tensor: &str, bytes: &[u8]) {
    patch_at(dir, tensor, 0, bytes);
}

/// As [`patch`], from byte `offset` of the tensor on.
pub(crate) fn patch_at(dir: &Path, tensor: &str, offset: usize, bytes: &[u8]) {
    let path = shard_of(dir, tensor);
    let (header, start) = header(&path);
    let at = start + offsets(&header[tensor]).start + offset;
    let mut file = fs::read(&path).unwrap();
    file[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(&path, file).unwrap();
}

/// Bytes of all tensors in the folder `dir` whose names start with `prefix`.
pub(crate) fn stored_bytes(dir: &Path, prefix: &str) -> usize {
    let index = read_json(&dir.join("model.safetensors.index.json"));
    let names = index["weight_map"].as_object().unwrap().keys().filter(|name| name.starts_with(prefix));
    names.map(|name| offsets(&header(&shard_of(dir, name)).0[name]).len()).sum()
}

/// The header of the file at `path` and where its data start.
fn header(path: &Path) -> (Value, usize) {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
    (serde_json::from_slice(&rest[..length]).unwrap(), 8 + length)
}

/// Where a tensor lies within the data.
fn offsets(tensor: &Value) -> Range<usize> {
    let offset = |i: usize| usize::try_from(tensor["data_offsets"][i].as_u64().unwrap()).unwrap();
    offset(0)..offset(1)
}
