//! Which files hold the weights: `model.safetensors` or `model.safetensors.index.json`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{MixtralError, json, regular_file};

/// The single file of an unsharded checkpoint.
const SINGLE: &str = "model.safetensors";
/// The map from tensors to shards.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// `model.safetensors.index.json`, as written.
#[derive(Serialize)]
pub(super) struct Index {
    pub(super) metadata: IndexMetadata,
    pub(super) weight_map: BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct IndexMetadata {
    /// Bytes of all tensors.
    pub(super) total_size: u64,
}

/// What is read of an index.
#[derive(Deserialize)]
struct WeightMap {
    weight_map: BTreeMap<String, String>,
}

/// Names of the files that hold weights, sorted, and the index (empty for a single file).
pub(super) fn shards(dir: &Path) -> Result<(Vec<String>, BTreeMap<String, String>), MixtralError> {
    let index = dir.join(INDEX);
    if !regular_file::exists(&index) {
        if regular_file::exists(&dir.join(SINGLE)) {
            return Ok((vec![SINGLE.to_owned()], BTreeMap::new()));
        }
        std::fs::read_dir(dir).map_err(|e| MixtralError::read(dir, e))?;
        return Err(MixtralError::NoWeights { path: dir.to_owned() });
    }
    let WeightMap { weight_map } = json::read(&index)?;
    let mut names: Vec<String> = weight_map.values().cloned().collect();
    names.sort_unstable();
    names.dedup();
    let outside = |name: &&String| !regular_file::is_plain_name(name);
    match names.iter().find(outside) {
        None => Ok((names, weight_map)),
        Some(name) => {
            let reason = format!("weight_map names {name:?}, which is not a file of this folder");
            Err(MixtralError::Json { path: index, reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_stay_in_their_folder() {
        let names = ["a.safetensors", "../a", "/etc/passwd", "b/c", "..", "\u{1b}[2J"];
        assert_eq!(names.map(regular_file::is_plain_name), [true, false, false, false, false, false]);
    }
}
