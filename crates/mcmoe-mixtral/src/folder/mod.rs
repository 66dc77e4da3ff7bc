//! Model folders as a user sees them: a dense Hugging Face checkpoint or a compressed one.
//!
//! A compressed folder (`docs/format.md`) is a Hugging Face folder whose `config.json` carries a
//! `quantization_config` of ours, whose attention projections and experts are packed, and which holds
//! `allocation.json`, `pruning.json`, `report.json`, `checksums.sha256` and, where they were measured,
//! `factors.json`.

mod checksums;
mod contents;
mod quantization;
mod staging;

use std::collections::HashMap;
use std::path::Path;

use mcmoe_allocator::Allocation;
use mcmoe_quant::{BitWidth, Precision};
use mcmoe_tensor_kernels::PackedOps;
use serde::{Deserialize, Serialize};

pub(crate) use checksums::Checksums;
pub use checksums::Verification;
pub use contents::{MatrixInfo, MatrixKind};
pub(crate) use contents::{dense_tensors, packed_layer};
pub use quantization::{ExpertCodes, QuantizationConfig};
pub(crate) use staging::{Staging, beside, copy_files, publish, sync};

use crate::checkpoint::{Checkpoint, ShardWriter};
use crate::model::{LayerWidths, Mixtral, Pruning, WeightSource};
use crate::{MixtralConfig, MixtralError, json, regular_file};

/// Files of a compressed folder beside the weights.
pub(crate) mod files {
    /// Bit-widths, `[layer][expert]`.
    pub(crate) const ALLOCATION: &str = "allocation.json";
    /// Significance factors that led to them.
    pub(crate) const FACTORS: &str = "factors.json";
    /// Thresholds of dynamic pruning.
    pub(crate) const PRUNING: &str = "pruning.json";
    /// SHA-256 of every other file.
    pub(crate) const CHECKSUMS: &str = "checksums.sha256";
    /// A file on its way into the folder.
    pub(crate) const PARTIAL: &str = ".incomplete";
    /// Calibration record and errors of each matrix.
    pub(crate) const REPORT: &str = "report.json";
    /// Files that travel with any model, copied where present.
    pub(crate) const COPIED: [&str; 8] = [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "chat_template.jinja",
        "LICENSE",
    ];
}

/// `pruning.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thresholds {
    /// μ of each layer.
    pub(crate) thresholds: Vec<f32>,
}

/// What a compressed folder says about itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Compression {
    /// From `config.json`.
    pub quantization: QuantizationConfig,
    /// From `allocation.json`.
    pub allocation: Allocation,
    /// μ of each layer, from `pruning.json`; absent if no calibration text was given.
    pub thresholds: Option<Vec<f32>>,
    widths: Vec<LayerWidths>,
}

/// An opened model folder: files mapped, descriptions read and checked, no weight loaded.
#[derive(Debug)]
pub struct ModelFolder {
    checkpoint: Checkpoint,
    config: MixtralConfig,
    compression: Option<Compression>,
}

impl ModelFolder {
    /// Opens `dir`, dense or compressed.
    ///
    /// # Errors
    /// Those of [`MixtralConfig::read`] and [`Checkpoint::open`]; for compressed folders also
    /// [`MixtralError::Config`] for an unknown `quant_method` or version, and errors naming
    /// `allocation.json` or `pruning.json` where these do not fit the model.
    pub fn open(dir: &Path) -> Result<Self, MixtralError> {
        let config = MixtralConfig::read(dir)?;
        let compression = match QuantizationConfig::of(&config, dir)? {
            Some(quantization) => Some(Compression::read(dir, &config, quantization)?),
            None => None,
        };
        Ok(Self { checkpoint: Checkpoint::open(dir)?, config, compression })
    }

    /// The folder's path.
    pub fn dir(&self) -> &Path {
        self.checkpoint.dir()
    }

    /// The files.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The model's dimensions.
    pub const fn config(&self) -> &MixtralConfig {
        &self.config
    }

    /// How the model was compressed; `None` for a dense one.
    pub const fn compression(&self) -> Option<&Compression> {
        self.compression.as_ref()
    }

    /// Makes sure that the model is not compressed yet.
    ///
    /// # Errors
    /// [`MixtralError::Option`] if it is.
    pub fn check_dense(&self) -> Result<(), MixtralError> {
        if self.compression.is_none() {
            return Ok(());
        }
        Err(MixtralError::option("MODEL_DIR", "the model is already compressed"))
    }

    /// Where layers are loaded from; activations enter packed ones with the default precision.
    pub fn source(&self) -> WeightSource<'_> {
        let widths = self.compression.as_ref().map(|compression| compression.widths.as_slice());
        let precision = Precision::default();
        WeightSource { checkpoint: &self.checkpoint, config: &self.config, widths, precision }
    }

    /// Loads the model. Packed matrices, embedding and head stay in the mapped files.
    ///
    /// # Errors
    /// Those of [`WeightSource::model`].
    pub fn model<B: PackedOps>(&self, device: &B::Device) -> Result<Mixtral<B>, MixtralError> {
        self.source().model(device)
    }

    /// As [`ModelFolder::model`], activations entering packed layers with `precision`, layers spread over
    /// `devices` in order.
    ///
    /// # Errors
    /// Those of [`WeightSource::model`].
    ///
    /// # Panics
    /// If there is no device.
    pub fn model_with<B: PackedOps>(
        &self,
        precision: Precision,
        devices: &[B::Device],
    ) -> Result<Mixtral<B>, MixtralError> {
        WeightSource { precision, ..self.source() }.model_on(devices)
    }

    /// Reads every packed matrix and checks what its layout promises: opening looks at shapes alone.
    ///
    /// # Errors
    /// [`MixtralError::Packed`] for the first damaged matrix.
    pub fn check_contents(&self) -> Result<(), MixtralError> {
        if self.compression.is_some() {
            (0..self.config.num_hidden_layers).try_for_each(|l| self.layer_matrices(l).map(drop))?;
        }
        Ok(())
    }

    /// Pruning at the thresholds that calibration found, `protect` being the share of protected tokens.
    ///
    /// # Errors
    /// [`MixtralError::Option`] if the folder has no thresholds.
    pub fn pruning(&self, protect: f32) -> Result<Pruning, MixtralError> {
        let thresholds = self.compression.as_ref().and_then(|compression| compression.thresholds.clone());
        let missing = || {
            let dir = self.dir().display();
            let reason =
                format!("{dir} has no pruning.json; compress the model with --calibration to get one");
            MixtralError::option("--prune", reason)
        };
        Ok(Pruning::new(thresholds.ok_or_else(missing)?).protect(protect))
    }

    /// Writes the compressed folder anew to `dir`, through the same path as compression does.
    ///
    /// # Errors
    /// [`MixtralError::Option`] for a dense folder, [`MixtralError::OutputExists`] if `dir` is not
    /// empty, those of reading and of writing.
    pub fn save(&self, dir: &Path) -> Result<(), MixtralError> {
        let Some(compression) = &self.compression else {
            return Err(MixtralError::option("save", "only compressed folders can be saved"));
        };
        let staging = Staging::create(dir)?;
        let layers = self.config.num_hidden_layers;
        let mut shards = ShardWriter::new(staging.dir(), layers + 1);
        shards.write(&dense_tensors(&self.checkpoint, &self.config)?)?;
        for l in 0..layers {
            let matrices = self.layer_matrices(l)?;
            shards.write(&packed_layer(&self.checkpoint, &self.config, l, &matrices)?)?;
        }
        shards.finish()?;
        self.config.write(staging.dir(), Some(&compression.quantization))?;
        compression.allocation.write(staging.dir().join(files::ALLOCATION))?;
        if let Some(thresholds) = compression.thresholds.clone() {
            json::write(&staging.dir().join(files::PRUNING), &Thresholds { thresholds })?;
        }
        copy_files(self.dir(), staging.dir(), &[files::FACTORS, files::REPORT])?;
        copy_files(self.dir(), staging.dir(), &files::COPIED)?;
        Checksums::of(staging.dir(), &HashMap::new())?.write(staging.dir())?;
        staging.commit()
    }
}

impl Compression {
    fn read(
        dir: &Path,
        config: &MixtralConfig,
        quantization: QuantizationConfig,
    ) -> Result<Self, MixtralError> {
        let allocation = read_allocation(&dir.join(files::ALLOCATION), config)?;
        let layers = config.num_hidden_layers;
        let widths = quantization.widths(&allocation, dir)?;
        let path = dir.join(files::PRUNING);
        let there = regular_file::exists(&path);
        let thresholds = if there { Some(read_thresholds(&path, layers)?) } else { None };
        Ok(Self { quantization, allocation, thresholds, widths })
    }
}

/// Reads the bit-widths of `config`'s experts from a JSON file with `bits`, `[layer][expert]`.
///
/// # Errors
/// [`MixtralError::Allocator`] for an unreadable file, [`MixtralError::Allocation`] if it does not
/// have a width that can be packed for every expert of the model.
pub fn read_allocation(path: &Path, config: &MixtralConfig) -> Result<Allocation, MixtralError> {
    let allocation = Allocation::read(path)?;
    let known: Vec<u8> = BitWidth::ALL.iter().map(|width| width.bits()).collect();
    match allocation.validate(config.num_hidden_layers, config.num_local_experts, &known) {
        Ok(()) => Ok(allocation),
        Err(source) => Err(MixtralError::Allocation { path: path.to_owned(), source }),
    }
}

fn read_thresholds(path: &Path, layers: usize) -> Result<Vec<f32>, MixtralError> {
    let Thresholds { thresholds } = json::read_settings(path)?;
    let sound = thresholds.len() == layers && thresholds.iter().all(|t| (0.0..=1.0).contains(t));
    if sound {
        return Ok(thresholds);
    }
    let reason = format!("thresholds must be {layers} numbers from 0 to 1, one a layer");
    Err(MixtralError::Json { path: path.to_owned(), reason })
}
