//! Compression of the demo model, from the outside: what the folder holds, that it is the same every
//! time, and that every method, mode and oddity of the calibration works.

#[path = "../common/mod.rs"]
mod common;

mod budgets;
mod calibration;
mod contents;
mod factors;
mod methods;
mod packed_forward;
mod repair;
mod repeatable;
mod trellis;
mod unreached;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use common::weights::Weights;
use mcmoe_mixtral::Method;
use mcmoe_mixtral::compress::{CompressOptions, CompressReport};
use tempfile::TempDir;

/// The demo model compressed with GPTQ in mixed precision, made once for all tests that only read it.
fn compressed() -> (&'static Path, &'static CompressReport) {
    static MADE: OnceLock<(TempDir, CompressReport)> = OnceLock::new();
    let (dir, report) = MADE.get_or_init(|| common::compression::run(&common::demo(), &calibrated()));
    (dir.path(), report)
}

/// GPTQ on a grid with a small calibration.
fn calibrated() -> CompressOptions {
    CompressOptions::default().method(Method::Gptq).calibration(common::compression::calibration())
}

/// The demo model's first `layers` layers with a third of the features inside each expert, for tests
/// that compress many times.
fn small(layers: usize) -> TempDir {
    Weights::read(&common::demo()).first_layers(layers).narrowed(128).folder()
}

/// Every file of a folder with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
    fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect()
}

/// Names of the files that differ or that only one folder has.
fn differing(a: &Path, b: &Path) -> Vec<String> {
    let (a, b) = (files(a), files(b));
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

/// Number `key` of the folder's `config.json`.
fn size(dir: &Path, key: &str) -> usize {
    common::json(dir.join("config.json"))[key].as_u64().unwrap() as usize
}

/// Bytes of the packed matrix `name`, from the files' headers.
fn packed_bytes(headers: &BTreeMap<String, (Vec<usize>, u64)>, name: &str) -> u64 {
    headers[&format!("{name}.packed")].1
}

/// The matrices of expert `expert` of layer `layer`.
fn expert_matrices(layer: usize, expert: usize) -> [String; 3] {
    ["w1", "w2", "w3"].map(|w| format!("model.layers.{layer}.block_sparse_moe.experts.{expert}.{w}"))
}

/// Stored bits a weight over all experts, counted from the files' headers.
fn expert_bpw(dir: &Path) -> f64 {
    let headers = common::weights::headers(dir);
    let (layers, experts) = (size(dir, "num_hidden_layers"), size(dir, "num_local_experts"));
    let all = (0..layers).flat_map(|l| (0..experts).flat_map(move |e| expert_matrices(l, e)));
    let bytes: u64 = all.map(|name| packed_bytes(&headers, &name)).sum();
    let weights = layers * experts * 3 * size(dir, "hidden_size") * size(dir, "intermediate_size");
    bytes as f64 * 8.0 / weights as f64
}

/// `bits` of the folder's `allocation.json`.
fn allocated_bits(dir: &Path) -> Vec<Vec<u32>> {
    let layers = common::json(dir.join("allocation.json"))["bits"].as_array().unwrap().clone();
    layers.iter().map(common::ids).collect()
}
