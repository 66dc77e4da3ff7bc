//! How large the result may be, in the three ways people say it.

use std::fs;
use std::path::Path;

use mcmoe_allocator::{Budget, Storage};
use mcmoe_quant::{KernelError, TrellisRate};

use super::{CompressOptions, Quantizer};
use crate::folder::{MatrixInfo, MatrixKind, ModelFolder, files};
use crate::model::{names, weight};
use crate::{MixtralConfig, MixtralError};

/// Room for a tensor's entry in a shard's header and in the index.
const ENTRY_BYTES: u64 = 320;
/// Room for `config.json`, the JSON reports' fixed parts and headers.
const FIXED_BYTES: u64 = 64 << 10;

/// The size that the result must stay within.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum SizeGoal {
    /// Average code bits over experts, as arXiv 2410.06270 counts.
    ExpertBits(f64),
    /// Stored bits a weight over all experts, scales and zero points included.
    BitsPerWeight(f64),
    /// Bytes of the whole folder.
    Bytes(u64),
}

impl SizeGoal {
    /// Stored bits a weight of every width, exact for this model's matrices.
    pub(super) fn storage(
        &self,
        config: &MixtralConfig,
        options: &CompressOptions,
    ) -> Result<Storage, MixtralError> {
        let stored = |width| Ok((width, stored_bits(config, options, width)?));
        let table =
            CompressOptions::WIDTHS.into_iter().map(stored).collect::<Result<Vec<_>, MixtralError>>()?;
        let storage = Storage::table(table).weights_per_expert(config.weights_per_expert() as u64);
        if options.quantizer != Quantizer::Trellis {
            return Ok(storage);
        }
        let mut by_matrix = vec![Vec::new(); names::EXPERT.len()];
        for rate in TrellisRate::ALL {
            let bytes = matrix_bytes(config, options, rate.bits())?;
            by_matrix.iter_mut().zip(bytes).for_each(|(by_rate, bytes)| by_rate.push(bytes));
        }
        Ok(storage.matrix_bytes(by_matrix))
    }

    /// What is left for the experts.
    pub(super) fn budget(
        &self,
        folder: &ModelFolder,
        options: &CompressOptions,
    ) -> Result<Budget, MixtralError> {
        match *self {
            Self::ExpertBits(bits) => Ok(Budget::ExpertBits(bits)),
            Self::BitsPerWeight(bits_per_weight) => Ok(Budget::StoredBits { bits_per_weight }),
            Self::Bytes(bytes) => {
                let others = bytes_besides_experts(folder, options)?;
                match bytes.checked_sub(others) {
                    Some(left) => Ok(Budget::Bytes(left)),
                    None => {
                        let reason = format!("everything but the experts takes {others} bytes already");
                        Err(MixtralError::option("--size", reason))
                    }
                }
            }
        }
    }

    /// Makes sure that a folder of so many bytes was what was asked for.
    pub(super) fn check_result(&self, dir: &Path) -> Result<(), MixtralError> {
        let Self::Bytes(most) = *self else { return Ok(()) };
        let size = folder_bytes(dir)?;
        if size <= most {
            return Ok(());
        }
        Err(MixtralError::option("--size", format!("the result would take {size} bytes, more than {most}")))
    }
}

/// Stored bits a weight of an expert whose codes have `width` bits.
pub(super) fn stored_bits(
    config: &MixtralConfig,
    options: &CompressOptions,
    width: u8,
) -> Result<f64, MixtralError> {
    let bytes: u64 = matrix_bytes(config, options, f64::from(width))?.iter().sum();
    Ok(bytes as f64 * 8.0 / config.weights_per_expert() as f64)
}

/// Bytes of each matrix of an expert whose codes have so many bits.
fn matrix_bytes(
    config: &MixtralConfig,
    options: &CompressOptions,
    bits: f64,
) -> Result<Vec<u64>, MixtralError> {
    let refuse = |e: KernelError| MixtralError::shape("--group-size", &e);
    let packing = options.expert(bits).map_err(refuse)?;
    let matrices = MatrixInfo::of_layer(config, 0).into_iter();
    let expert = matrices.filter(|matrix| matches!(matrix.kind, MatrixKind::Expert(0, _)));
    let bytes = |matrix: MatrixInfo| Ok(packing.shape(matrix.rows, matrix.cols)?.total_bytes() as u64);
    expert.map(bytes).collect::<Result<_, _>>().map_err(refuse)
}

/// Bytes of all files in `dir`.
pub(crate) fn folder_bytes(dir: &Path) -> Result<u64, MixtralError> {
    let refused = |e| MixtralError::read(dir, e);
    let mut total = 0;
    for entry in fs::read_dir(dir).map_err(refused)? {
        // Not the entry's own metadata: files may be links, as in a download cache.
        let metadata = entry.and_then(|entry| fs::metadata(entry.path())).map_err(refused)?;
        total += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Ok(total)
}

/// Attention, dense tensors, headers, reports and the files that travel along.
pub(super) fn bytes_besides_experts(
    folder: &ModelFolder,
    options: &CompressOptions,
) -> Result<u64, MixtralError> {
    let config = folder.config();
    let attention = options.attention()?;
    let (mut bytes, mut entries) = (FIXED_BYTES, 0);
    let dense =
        |name: &str| Ok::<_, MixtralError>(folder.checkpoint().tensor(&weight(name))?.bytes.len() as u64);
    let mut tensors = vec![names::EMBED.to_owned(), names::NORM.to_owned()];
    if !config.tie_word_embeddings {
        tensors.push(names::HEAD.to_owned());
    }
    for l in 0..config.num_hidden_layers {
        tensors.extend([names::input_norm(l), names::post_attention_norm(l), names::gate(l)]);
        for matrix in MatrixInfo::of_layer(config, l) {
            entries += 2; // a tensor and a line of the report
            if matrix.kind == MatrixKind::Attention {
                let shape = attention
                    .shape(matrix.rows, matrix.cols)
                    .map_err(|e| MixtralError::shape("--group-size", &e))?;
                bytes += shape.total_bytes() as u64;
            }
        }
    }
    for name in &tensors {
        bytes += dense(name)?;
    }
    for name in files::COPIED {
        bytes += fs::metadata(folder.dir().join(name)).map_or(0, |metadata| metadata.len());
    }
    Ok(bytes + (entries + tensors.len() as u64) * ENTRY_BYTES)
}
