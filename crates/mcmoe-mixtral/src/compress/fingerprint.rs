//! What a compression is made from, so that a run goes on only where it left off.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::CompressOptions;
use crate::calibrate::CalibrationTokens;
use crate::durable::{Digest, Hasher};
use crate::folder::ModelFolder;
use crate::{MixtralError, Progress};

/// Bytes of a tensor that are in memory at a time while it is read.
const PIECE: usize = 8 << 20;

/// Digests of everything that decides the result. How weights are sharded does not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    version: String,
    options: Digest,
    config: Digest,
    weights: Digest,
    calibration: Digest,
}

impl Fingerprint {
    /// Of a compression of `folder`, all of which is read.
    pub(super) fn of(
        folder: &ModelFolder,
        options: &CompressOptions,
        tokens: Option<&CalibrationTokens>,
        progress: &dyn Progress,
    ) -> Result<Self, MixtralError> {
        let config = serde_json::to_vec(&folder.config().raw)
            .map_err(|e| MixtralError::config(folder.dir(), e.to_string()))?;
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            options: Digest::of(options.decisive().as_bytes()),
            config: Digest::of(&config),
            weights: weights(folder, progress)?,
            calibration: tokens.map_or(Digest::of(&[]), CalibrationTokens::digest),
        })
    }

    /// One for tests.
    #[cfg(test)]
    pub(super) fn sample() -> Self {
        let digest = Digest::of(b"sample");
        let version = String::from("0");
        Self { version, options: digest, config: digest, weights: digest, calibration: digest }
    }

    /// What differs between this and `other`, if anything does.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let parts = [
            ("version of mcmoe", self.version == other.version),
            ("options", self.options == other.options),
            ("config.json", self.config == other.config),
            ("weights", self.weights == other.weights),
            ("calibration text", self.calibration == other.calibration),
        ];
        parts.into_iter().find(|(_, same)| !same).map(|(what, _)| what)
    }
}

/// Of names, types, shapes and bytes of all tensors.
fn weights(folder: &ModelFolder, progress: &dyn Progress) -> Result<Digest, MixtralError> {
    let checkpoint = folder.checkpoint();
    let names: Vec<&str> = checkpoint.names().collect();
    progress.start("reading the model", names.len() as u64);
    let digest = |name: &&str| {
        let tensor = checkpoint.tensor(name)?;
        let mut hasher = Hasher::default();
        for start in (0..tensor.bytes.len()).step_by(PIECE) {
            if let Some(piece) = tensor.bytes.slice(start..tensor.bytes.len().min(start + PIECE)) {
                hasher.add(&piece);
                piece.unload();
            }
        }
        let digest = hasher.finish();
        progress.advance(1);
        Ok(format!("{name} {:?} {:?} {digest}\n", tensor.dtype, tensor.shape))
    };
    let lines: Vec<String> = names.par_iter().map(digest).collect::<Result<_, MixtralError>>()?;
    progress.finish();
    let mut hasher = Hasher::default();
    lines.iter().for_each(|line| hasher.add(line.as_bytes()));
    Ok(hasher.finish())
}
