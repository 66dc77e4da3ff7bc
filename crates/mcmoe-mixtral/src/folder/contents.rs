//! Which tensors a compressed folder holds, shard by shard.

use mcmoe_quant::store::{StoredTensor, from_tensor, tensor_name, to_tensor};
use mcmoe_quant::{PackedMatrix, PackedShape, QuantError};
use rayon::prelude::*;

use super::ModelFolder;
use crate::checkpoint::Checkpoint;
use crate::model::{LayerWidths, Packing, names};
use crate::{MixtralConfig, MixtralError};

/// What a matrix of a decoder layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixKind {
    /// A projection of attention.
    Attention,
    /// A matrix of this expert: its position in [`names::EXPERT`] comes second.
    Expert(usize, usize),
}

/// A matrix of a decoder layer that gets packed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatrixInfo {
    /// Full name, without `.weight`.
    pub name: String,
    /// What it is.
    pub kind: MatrixKind,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
}

impl MatrixInfo {
    /// The packed matrices of layer `l`: attention first, then expert by expert.
    pub fn of_layer(config: &MixtralConfig, l: usize) -> Vec<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (query, key_value) = (config.query_size(), config.key_value_size());
        let shapes = [(query, hidden), (key_value, hidden), (key_value, hidden), (hidden, query)];
        let attention = names::ATTENTION.iter().zip(shapes).map(|(projection, (rows, cols))| {
            let name = names::attention(l, projection);
            Self { name, kind: MatrixKind::Attention, rows, cols }
        });
        let experts = (0..config.num_local_experts).flat_map(|e| {
            [(inner, hidden), (hidden, inner), (inner, hidden)].into_iter().enumerate().map(
                move |(part, (rows, cols))| {
                    let name = names::expert(l, e, names::EXPERT[part]);
                    Self { name, kind: MatrixKind::Expert(e, part), rows, cols }
                },
            )
        });
        attention.chain(experts).collect()
    }

    /// The matrix's packed shape at a layer's widths.
    pub(crate) fn shape(&self, widths: &LayerWidths) -> Result<PackedShape, mcmoe_quant::KernelError> {
        self.packing(widths).shape(self.rows, self.cols)
    }

    pub(crate) fn packing(&self, widths: &LayerWidths) -> Packing {
        match self.kind {
            MatrixKind::Attention => widths.attention,
            MatrixKind::Expert(e, part) => widths.experts[e][part],
        }
    }
}

/// The first shard: embedding, final norm and head, as they are in `checkpoint`.
pub(crate) fn dense_tensors(
    checkpoint: &Checkpoint,
    config: &MixtralConfig,
) -> Result<Vec<StoredTensor>, MixtralError> {
    let table = [config.vocab_size, config.hidden_size];
    let mut tensors = vec![
        copied(checkpoint, names::EMBED, &table)?,
        copied(checkpoint, names::NORM, &[config.hidden_size])?,
    ];
    if !config.tie_word_embeddings {
        tensors.push(copied(checkpoint, names::HEAD, &table)?);
    }
    Ok(tensors)
}

/// The shard of layer `l`: norms and gate as they are in `checkpoint`, and the packed `matrices`.
pub(crate) fn packed_layer(
    checkpoint: &Checkpoint,
    config: &MixtralConfig,
    l: usize,
    matrices: &[(String, PackedMatrix)],
) -> Result<Vec<StoredTensor>, MixtralError> {
    let hidden = config.hidden_size;
    let mut tensors = vec![
        copied(checkpoint, &names::input_norm(l), &[hidden])?,
        copied(checkpoint, &names::post_attention_norm(l), &[hidden])?,
        copied(checkpoint, &names::gate(l), &[config.num_local_experts, hidden])?,
    ];
    tensors.extend(matrices.iter().map(|(name, matrix)| to_tensor(name, matrix)));
    Ok(tensors)
}

impl ModelFolder {
    /// The packed matrices of layer `l` of a compressed folder, with their names, all bytes checked.
    ///
    /// # Errors
    /// [`MixtralError::Packed`] for damaged tensors; [`MixtralError::Option`] for a dense folder or a
    /// layer that is not there.
    pub fn layer_matrices(&self, l: usize) -> Result<Vec<(String, PackedMatrix)>, MixtralError> {
        self.config().check_layer(l)?;
        let source = self.source();
        let Some(widths) = source.widths.map(|widths| &widths[l]) else {
            return Err(MixtralError::option("folder", "the model is not compressed"));
        };
        let describe = |source| MixtralError::Packed { path: self.dir().to_owned(), source };
        let find = |name: &str| self.checkpoint().stored(name);
        let read = |info: MatrixInfo| {
            let shape = info.shape(widths).map_err(|e| describe(e.into()))?;
            let matrix = from_tensor(&info.name, shape, find).map_err(describe)?;
            matrix.check_contents().map_err(|source| {
                describe(QuantError::TensorContent { name: tensor_name(&info.name), source })
            })?;
            Ok((info.name, matrix))
        };
        // All are looked at before the first error is told, so that it is the same one every time.
        let matrices: Vec<Result<_, _>> =
            MatrixInfo::of_layer(self.config(), l).into_par_iter().map(read).collect();
        matrices.into_iter().collect()
    }
}

/// A tensor of the source, bytes and type unchanged, its elements checked.
fn copied(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<StoredTensor, MixtralError> {
    let name = crate::model::weight(name);
    let (tensor, _) = checkpoint.weights(&name, shape)?;
    Ok(StoredTensor { name, dtype: tensor.dtype, shape: tensor.shape, data: tensor.bytes })
}
