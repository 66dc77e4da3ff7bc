//! Calibration samples on their way through the layers.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::PackedOps;

use crate::MixtralError;
use crate::model::Angles;
use crate::model::{DecoderLayer, LayerCache, Sequences, WeightSource, check_tokens, embed};

/// The residual stream of every sample, `[tokens, hidden]` each, before some layer.
pub(crate) struct Stream<B: PackedOps> {
    pub(crate) hidden: Vec<Tensor<B, 2>>,
    angles: Angles<B>,
}

impl<B: PackedOps> Stream<B> {
    /// The samples' embeddings. All samples have the same length.
    pub(crate) fn embed(
        source: &WeightSource<'_>,
        samples: &[Vec<u32>],
        device: &B::Device,
    ) -> Result<Self, MixtralError> {
        let table = source.embedding::<B>(device)?;
        let rows: Vec<&[u32]> = samples.iter().map(Vec::as_slice).collect();
        check_tokens(&rows, source.config.vocab_size)?;
        let hidden = rows.iter().map(|ids| embed(&table, ids)).collect();
        let len = rows.first().map_or(0, |row| row.len());
        Ok(Self { hidden, angles: source.rope().angles(0..len, device) })
    }

    /// The input of `o_proj` for sample `sample`.
    pub(crate) fn context(&self, layer: &DecoderLayer<B>, sample: usize) -> Tensor<B, 2> {
        let sequences = Sequences { batch: 1, angles: &self.angles, pruning: None };
        let hidden = self.hidden[sample].clone();
        layer.attend(hidden, &sequences, &mut LayerCache::empty(), false).context
    }

    /// Adds attention to the stream: `hidden += o_proj(context)`.
    pub(crate) fn add_attention(&mut self, layer: &DecoderLayer<B>, sample: usize, context: Tensor<B, 2>) {
        let output = layer.attention.o_proj.forward(context);
        self.hidden[sample] = self.hidden[sample].clone() + output;
    }
}
