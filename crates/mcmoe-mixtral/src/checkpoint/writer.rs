//! Shards and their index, written one shard at a time.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use mcmoe_quant::store::StoredTensor;
use safetensors::tensor::{TensorView, serialize_to_file};

use super::index::{INDEX, Index, IndexMetadata};
use crate::{MixtralError, json};

/// Writes `model-0000i-of-0000n.safetensors` and, at the end, the index.
#[derive(Debug)]
pub struct ShardWriter {
    dir: PathBuf,
    shards: usize,
    written: usize,
    weight_map: BTreeMap<String, String>,
    total_size: u64,
}

impl ShardWriter {
    /// A writer of `shards` shards into the existing folder `dir`.
    pub fn new(dir: &Path, shards: usize) -> Self {
        Self { dir: dir.to_owned(), shards, written: 0, weight_map: BTreeMap::new(), total_size: 0 }
    }

    /// Writes the next shard.
    ///
    /// # Errors
    /// [`MixtralError::Write`] if the file system refuses, [`MixtralError::Safetensors`] if a tensor's
    /// bytes do not fit its shape.
    pub fn write(&mut self, tensors: &[StoredTensor]) -> Result<(), MixtralError> {
        self.written += 1;
        let name = format!("model-{:05}-of-{:05}.safetensors", self.written, self.shards);
        let path = self.dir.join(&name);
        let damaged = |e: safetensors::SafeTensorError| match e {
            safetensors::SafeTensorError::IoError(e) => MixtralError::write(&path, e),
            e => MixtralError::Safetensors { path: path.clone(), reason: e.to_string() },
        };
        let mut views = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data);
            views.push((tensor.name.as_str(), view.map_err(damaged)?));
            self.total_size += tensor.data.len() as u64;
            self.weight_map.insert(tensor.name.clone(), name.clone());
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        serialize_to_file(views, Some(metadata), &path).map_err(damaged)
    }

    /// Writes the index.
    ///
    /// # Errors
    /// [`MixtralError::Write`] if the file system refuses.
    pub fn finish(self) -> Result<(), MixtralError> {
        let metadata = IndexMetadata { total_size: self.total_size };
        json::write(&self.dir.join(INDEX), &Index { metadata, weight_map: self.weight_map })
    }
}
