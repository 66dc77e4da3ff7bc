//! What a folder holds, counted from its tensors.

use std::path::Path;

use serde::Serialize;

use crate::compress::folder_bytes;
use crate::folder::{MatrixInfo, MatrixKind, ModelFolder};
use crate::model::weight;
use crate::{MixtralConfig, MixtralError, json};

/// Sizes of a model folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// `dense` or `mcmoe`.
    pub format: String,
    /// Decoder layers.
    pub layers: usize,
    /// Weights of the whole model.
    pub weights: u64,
    /// Every expert.
    pub experts: Vec<ExpertInfo>,
    /// Average code bits over experts; for a dense model, bits of its type.
    pub expert_bits: f64,
    /// Stored bits over all expert weights.
    pub expert_bpw: f64,
    /// Stored bits over all weights of the attention projections.
    pub attention_bpw: f64,
    /// Stored bits over all weights of the model.
    pub model_bpw: f64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of all files in the folder.
    pub total_bytes: u64,
    /// Whether the folder has thresholds for dynamic pruning.
    pub pruning: bool,
}

/// One expert.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExpertInfo {
    /// Its layer.
    pub layer: usize,
    /// Its number in the layer.
    pub expert: usize,
    /// Bits a code, on average over its weights; for a dense model, bits of its type.
    #[serde(serialize_with = "json::whole_or_not")]
    pub bits: f64,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Stored bits a weight.
    pub bpw: f64,
}

/// Opens `dir` and counts. Packed matrices are checked on the way.
///
/// # Errors
/// Those of [`ModelFolder::open`] and of reading its tensors' descriptions.
pub fn inspect(dir: &Path) -> Result<Inspection, MixtralError> {
    let folder = ModelFolder::open(dir)?;
    let config = folder.config();
    let mut count = Count::default();
    let mut experts = Vec::new();
    for l in 0..config.num_hidden_layers {
        experts.extend(count.layer(&folder, l)?);
    }
    let checkpoint = folder.checkpoint();
    let tensor_bytes =
        checkpoint.names().filter_map(|name| checkpoint.get(name)).map(|t| t.bytes.len() as u64);
    let tensor_bytes = tensor_bytes.sum();
    let weights = count.attention_weights + count.expert_weights + other_weights(config);
    let bits = experts.iter().map(|expert| expert.bits).sum::<f64>();
    Ok(Inspection {
        format: if folder.compression().is_some() { "mcmoe" } else { "dense" }.to_owned(),
        layers: config.num_hidden_layers,
        weights,
        expert_bits: bits / experts.len() as f64,
        experts,
        expert_bpw: bits_per_weight(count.expert_bytes, count.expert_weights),
        attention_bpw: bits_per_weight(count.attention_bytes, count.attention_weights),
        model_bpw: bits_per_weight(tensor_bytes, weights),
        tensor_bytes,
        total_bytes: folder_bytes(dir)?,
        pruning: folder.compression().is_some_and(|compression| compression.thresholds.is_some()),
    })
}

#[derive(Default)]
struct Count {
    attention_bytes: u64,
    attention_weights: u64,
    expert_bytes: u64,
    expert_weights: u64,
}

impl Count {
    /// Adds a layer's matrices; returns its experts.
    fn layer(&mut self, folder: &ModelFolder, l: usize) -> Result<Vec<ExpertInfo>, MixtralError> {
        let mut bytes_of = vec![0; folder.config().num_local_experts];
        let mut bits_of = vec![0.0; bytes_of.len()];
        for (info, bits, bytes) in stored(folder, l)? {
            let weights = (info.rows * info.cols) as u64;
            match info.kind {
                MatrixKind::Attention => {
                    self.attention_bytes += bytes;
                    self.attention_weights += weights;
                }
                MatrixKind::Expert(e, _) => {
                    self.expert_bytes += bytes;
                    self.expert_weights += weights;
                    bytes_of[e] += bytes;
                    bits_of[e] += bits * weights as f64;
                }
            }
        }
        let weights = folder.config().weights_per_expert() as u64;
        let expert = |(expert, (bytes, bits))| {
            let bpw = bits_per_weight(bytes, weights);
            ExpertInfo { layer: l, expert, bits: bits / weights as f64, bytes, bpw }
        };
        Ok(bytes_of.into_iter().zip(bits_of).enumerate().map(expert).collect())
    }
}

/// The matrices of layer `l` with their bits a code (or of their type) and their bytes.
fn stored(folder: &ModelFolder, l: usize) -> Result<Vec<(MatrixInfo, f64, u64)>, MixtralError> {
    let infos = MatrixInfo::of_layer(folder.config(), l);
    if folder.compression().is_none() {
        let dense = |info: MatrixInfo| {
            let tensor = folder.checkpoint().tensor_of_shape(&weight(&info.name), &[info.rows, info.cols])?;
            let bytes = tensor.bytes.len() as u64;
            Ok((info, tensor.dtype.bitsize() as f64, bytes))
        };
        return infos.into_iter().map(dense).collect();
    }
    let matrices = folder.layer_matrices(l)?;
    let packed = |(info, (_, matrix)): (MatrixInfo, (String, mcmoe_quant::PackedMatrix))| {
        let shape = matrix.shape();
        (info, shape.coding().bits(), shape.total_bytes() as u64)
    };
    Ok(infos.into_iter().zip(matrices).map(packed).collect())
}

/// Embedding, head, norms and gates.
fn other_weights(config: &MixtralConfig) -> u64 {
    let tables = if config.tie_word_embeddings { 1 } else { 2 };
    let layer = (2 + config.num_local_experts) * config.hidden_size;
    (tables * config.vocab_size * config.hidden_size + config.hidden_size + config.num_hidden_layers * layer)
        as u64
}

fn bits_per_weight(bytes: u64, weights: u64) -> f64 {
    bytes as f64 * 8.0 / weights as f64
}
