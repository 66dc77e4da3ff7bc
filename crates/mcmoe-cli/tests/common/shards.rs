//! Safetensors files, taken apart and changed by hand: 8 bytes of length, a JSON header, the data.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Random, names_in, read_json, write_json};

/// The map from tensors to shards.
const INDEX: &str = "model.safetensors.index.json";

/// The shard of the folder `dir` that holds `tensor`.
pub(crate) fn shard_of(dir: &Path, tensor: &str) -> PathBuf {
    let index = read_json(&dir.join(INDEX));
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
    let index = read_json(&dir.join(INDEX));
    let names = index["weight_map"].as_object().unwrap().keys().filter(|name| name.starts_with(prefix));
    names.map(|name| offsets(&header(&shard_of(dir, name)).0[name]).len()).sum()
}

/// Copies the model in `from` to a new folder `to`, its tensors dealt out at random to `files` files; a
/// single one is called `model.safetensors` and needs no index.
pub(crate) fn reshard(from: &Path, to: &Path, files: usize) {
    fs::create_dir(to).unwrap();
    let mut tensors = Vec::new();
    for name in names_in(from) {
        let path = from.join(&name);
        if name.ends_with(".safetensors") {
            tensors.extend(tensors_of(&path));
        } else if name != INDEX {
            fs::write(to.join(name), fs::read(path).unwrap()).unwrap();
        }
    }
    Random::new(files as u64).shuffle(&mut tensors);
    let mut weight_map = Map::new();
    for i in 0..files {
        let file = match files {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{files:05}.safetensors", i + 1),
        };
        let dealt: Vec<&Tensor> = tensors.iter().skip(i).step_by(files).collect();
        write_tensors(&to.join(&file), &dealt);
        weight_map.extend(dealt.iter().map(|tensor| (tensor.name.clone(), json!(file))));
    }
    if files > 1 {
        write_json(&to.join(INDEX), &json!({ "weight_map": weight_map }));
    }
}

/// A tensor without a place.
struct Tensor {
    name: String,
    description: Value,
    data: Vec<u8>,
}

/// All tensors of the file at `path`.
fn tensors_of(path: &Path) -> Vec<Tensor> {
    let (mut header, start) = header(path);
    let file = fs::read(path).unwrap();
    let descriptions = std::mem::take(header.as_object_mut().unwrap()).into_iter();
    let tensors = descriptions.filter(|(name, _)| name != "__metadata__").map(|(name, description)| {
        let data = file[start..][offsets(&description)].to_vec();
        Tensor { name, description, data }
    });
    tensors.collect()
}

/// Writes a file of these tensors, one behind the other.
fn write_tensors(path: &Path, tensors: &[&Tensor]) {
    let (mut header, mut data) = (json!({ "__metadata__": { "format": "pt" } }), Vec::new());
    for tensor in tensors {
        let start = data.len();
        data.extend_from_slice(&tensor.data);
        let mut description = tensor.description.clone();
        description["data_offsets"] = json!([start, data.len()]);
        header[&tensor.name] = description;
    }
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    raw_header(path, &header, &data);
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
