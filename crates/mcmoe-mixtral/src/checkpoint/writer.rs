//! Shards and their index, written one shard at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcmoe_quant::store::StoredTensor;

use super::aligned;
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
        for tensor in tensors {
            self.total_size += tensor.data.len() as u64;
            self.weight_map.insert(tensor.name.clone(), name.clone());
        }
        aligned::write(&path, tensors)
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
