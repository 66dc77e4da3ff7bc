//! Shards and their index, written one shard at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcmoe_quant::store::StoredTensor;

use super::aligned;
use super::index::{INDEX, Index, IndexMetadata};
use super::mapped::MappedFile;
use crate::{MixtralError, json};

/// Writes `model-0000i-of-0000n.safetensors` and, at the end, the index.
#[derive(Debug)]
pub struct ShardWriter {
    dir: PathBuf,
    shards: usize,
    written: usize,
}

impl ShardWriter {
    /// A writer of `shards` shards into the existing folder `dir`.
    pub fn new(dir: &Path, shards: usize) -> Self {
        Self { dir: dir.to_owned(), shards, written: 0 }
    }

    /// Goes on behind the first `written` shards, which are there.
    #[must_use]
    pub const fn after(mut self, written: usize) -> Self {
        self.written = written;
        self
    }

    /// Paths of the shards written so far.
    pub fn written(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.written).map(|shard| self.dir.join(self.name(shard)))
    }

    /// Writes the next shard and returns its path.
    ///
    /// # Errors
    /// [`MixtralError::Write`] if the file system refuses, [`MixtralError::Safetensors`] if a tensor's
    /// bytes do not fit its shape.
    pub fn write(&mut self, tensors: &[StoredTensor]) -> Result<PathBuf, MixtralError> {
        let path = self.dir.join(self.name(self.written));
        self.written += 1;
        aligned::write(&path, tensors)?;
        Ok(path)
    }

    /// Writes the index of all shards.
    ///
    /// # Errors
    /// [`MixtralError::Write`] if the file system refuses; those of opening the shards.
    pub fn finish(self) -> Result<(), MixtralError> {
        let (mut weight_map, mut total_size) = (BTreeMap::new(), 0);
        for shard in 0..self.written {
            let name = self.name(shard);
            let file = MappedFile::open(&self.dir.join(&name))?;
            total_size += file.data_len() as u64;
            weight_map.extend(file.names().map(|tensor| (tensor, name.clone())));
        }
        json::write(&self.dir.join(INDEX), &Index { metadata: IndexMetadata { total_size }, weight_map })
    }

    fn name(&self, shard: usize) -> String {
        format!("model-{:05}-of-{:05}.safetensors", shard + 1, self.shards)
    }
}
