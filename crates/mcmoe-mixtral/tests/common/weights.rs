//! A model folder held in memory, read and written without the library.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{TensorView, serialize_to_file};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Files that travel with the weights.
const OTHERS: [&str; 3] = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"];

/// Shape and elements of a tensor.
pub(crate) type Dense = (Vec<usize>, Vec<f32>);

/// `config.json` and every tensor of a dense folder.
#[derive(Clone)]
pub(crate) struct Weights {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Dense>,
    others: Vec<(&'static str, Vec<u8>)>,
}

impl Weights {
    /// Everything in the dense folder `dir`.
    pub(crate) fn read(dir: &Path) -> Self {
        let mut tensors = BTreeMap::new();
        for file in safetensors_files(dir) {
            let bytes = fs::read(file).unwrap();
            for (name, view) in SafeTensors::deserialize(&bytes).unwrap().iter() {
                tensors.insert(name.to_owned(), (view.shape().to_vec(), elements(&view)));
            }
        }
        let config = super::json(dir.join("config.json"));
        let others = OTHERS.map(|name| (name, fs::read(dir.join(name)).unwrap()));
        Self { config, tensors, others: others.into() }
    }

    /// A number of `config.json`.
    pub(crate) fn size(&self, key: &str) -> usize {
        self.config[key].as_u64().unwrap() as usize
    }

    /// The elements of tensor `name`.
    pub(crate) fn get(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    /// The elements of tensor `name`, to be changed.
    pub(crate) fn get_mut(&mut self, name: &str) -> &mut [f32] {
        &mut self.tensors.get_mut(name).unwrap().1
    }

    /// The same model with only its first `layers` decoder layers.
    pub(crate) fn first_layers(mut self, layers: usize) -> Self {
        self.config["num_hidden_layers"] = json!(layers);
        self.tensors.retain(|name, _| layer_of(name).is_none_or(|layer| layer < layers));
        self
    }

    /// The same model with only the first `width` features inside each expert.
    pub(crate) fn narrowed(mut self, width: usize) -> Self {
        self.config["intermediate_size"] = json!(width);
        for (name, (shape, values)) in self.tensors.iter_mut().filter(|(name, _)| name.contains(".experts."))
        {
            let (rows, cols) = (shape[0], shape[1]);
            *shape = if name.ends_with(".w2.weight") { vec![rows, width] } else { vec![width, cols] };
            *values = values.chunks(cols).take(shape[0]).flat_map(|row| &row[..shape[1]]).copied().collect();
        }
        self
    }

    /// Writes a folder whose tensors, in alphabetical order, are dealt out to `shards` files in turn;
    /// one shard is a single file without an index.
    pub(crate) fn write(&self, dir: &Path, dtype: Dtype, shards: usize) {
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        for (name, bytes) in &self.others {
            fs::write(dir.join(name), bytes).unwrap();
        }
        let encoded: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (&**name, &**shape, encode(values, dtype)))
            .collect();
        let mut places = BTreeMap::new();
        for shard in 0..shards {
            let file = if shards == 1 {
                "model.safetensors".to_owned()
            } else {
                format!("part-{shard}.safetensors")
            };
            let here = encoded.iter().skip(shard).step_by(shards);
            let views: Vec<_> = here
                .map(|(name, shape, bytes)| (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()))
                .collect();
            places.extend(views.iter().map(|(name, _)| ((*name).to_owned(), file.clone())));
            let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            serialize_to_file(views, Some(metadata), &dir.join(file)).unwrap();
        }
        if shards > 1 {
            let index = json!({"metadata": {}, "weight_map": places});
            fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
    }

    /// [`Weights::write`] to a temporary folder, as F32 in one file.
    pub(crate) fn folder(&self) -> TempDir {
        let dir = TempDir::new().unwrap();
        self.write(dir.path(), Dtype::F32, 1);
        dir
    }
}

/// The safetensors files of `dir`, in alphabetical order.
pub(crate) fn safetensors_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    files
}

/// Every tensor named in a file's headers with its shape and its bytes, for all files of `dir`.
pub(crate) fn headers(dir: &Path) -> BTreeMap<String, (Vec<usize>, u64)> {
    let mut found = BTreeMap::new();
    for file in safetensors_files(dir) {
        let bytes = fs::read(file).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        for (name, entry) in header.into_iter().filter(|(name, _)| name != "__metadata__") {
            let numbers = |key: &str| super::numbers(&entry[key]);
            let offsets = numbers("data_offsets");
            let shape = numbers("shape").into_iter().map(|size| size as usize).collect();
            found.insert(name, (shape, (offsets[1] - offsets[0]) as u64));
        }
    }
    found
}

/// The elements of a tensor as `f32`.
pub(crate) fn elements(view: &TensorView<'_>) -> Vec<f32> {
    let bytes = view.data();
    match view.dtype() {
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        other => panic!("no test reads {other:?}"),
    }
}

fn encode(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        other => panic!("no test writes {other:?}"),
    }
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}
