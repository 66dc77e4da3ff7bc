//! What several test files share.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod compression;
pub(crate) mod oracle;
pub(crate) mod reference;
pub(crate) mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::model::Mixtral;
use mcmoe_mixtral::{CpuBackend, Precision, Tokenizer};
use serde_json::Value;

/// The model that is always there.
pub(crate) fn demo() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-mixtral"))
}

/// The folder or file `name` of the fixtures, or `None` with a notice where it is not there.
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")).join(name);
    if path.exists() {
        return Some(path);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("SKIPPED: {test} needs {}, which is not there", path.display());
    None
}

/// The JSON file at `path`.
pub(crate) fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A JSON list of numbers.
pub(crate) fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

/// A JSON list of token ids.
pub(crate) fn ids(list: &Value) -> Vec<u32> {
    numbers(list).into_iter().map(|id| id as u32).collect()
}

/// The model in `dir`, on the CPU, with exact activations: oracles know no others.
pub(crate) fn load(dir: &Path) -> Mixtral<CpuBackend> {
    load_with(dir, Precision::F32)
}

/// The model in `dir`, on the CPU.
pub(crate) fn load_with(dir: &Path, precision: Precision) -> Mixtral<CpuBackend> {
    ModelFolder::open(dir).unwrap().model_with(precision, &[Default::default()]).unwrap()
}

/// `len` tokens of the demo model's evaluation text, from token `start` on.
pub(crate) fn demo_tokens(start: usize, len: usize) -> Vec<u32> {
    let text = fs::read_to_string(demo().join("evaluation.txt")).unwrap();
    Tokenizer::read(&demo()).unwrap().encode(&text).unwrap()[start..start + len].to_vec()
}

/// A tensor's elements.
pub(crate) fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}

/// Logits of all tokens of a batch, on a fresh cache.
pub(crate) fn logits(model: &Mixtral<CpuBackend>, rows: &[&[u32]]) -> Vec<f32> {
    host(model.forward(rows, &mut model.new_cache()).unwrap())
}

/// The largest absolute difference of two lists of equal length.
pub(crate) fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    let differences = a.iter().zip(b).map(difference);
    differences.fold(0.0, |most, d| if d.is_nan() { f64::INFINITY } else { most.max(d) })
}
