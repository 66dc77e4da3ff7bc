//! Calibration samples on their way through the layers.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use crate::MixtralError;
use crate::model::{
    Angles, DecoderLayer, LayerCache, Picked, Routing, Sequences, WeightSource, check_tokens, embed,
};

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
    fn context(&self, layer: &DecoderLayer<B>, sample: usize) -> Tensor<B, 2> {
        let sequences = Sequences { batch: 1, angles: &self.angles, pruning: None };
        let hidden = self.hidden[sample].clone();
        layer.attend(hidden, &sequences, &mut LayerCache::empty(), false).context
    }

    /// The inputs of `o_proj` for all samples.
    pub(crate) fn contexts(&self, layer: &DecoderLayer<B>) -> Vec<Tensor<B, 2>> {
        (0..self.hidden.len()).into_par_iter().map(|sample| self.context(layer, sample)).collect()
    }

    /// Adds attention to the stream: `hidden += o_proj(context)`.
    pub(crate) fn add_attention(&mut self, layer: &DecoderLayer<B>, contexts: Vec<Tensor<B, 2>>) {
        self.hidden.par_iter_mut().zip(contexts).for_each(|(hidden, context)| {
            *hidden = hidden.clone() + layer.attention.o_proj.forward(context);
        });
    }

    /// What the stream brings to the experts of layer `l`.
    ///
    /// # Errors
    /// [`MixtralError::NotFinite`] if a router logit is infinite or NaN, as it is when anything before
    /// it is.
    pub(crate) fn route(&self, l: usize, layer: &DecoderLayer<B>) -> Result<Vec<Routed<B>>, MixtralError> {
        let route = |hidden: &Tensor<B, 2>| {
            let x = layer.post_attention_norm.forward(hidden.clone());
            let logits = layer.moe.router.logits(x.clone());
            if logits.iter().all(|logit| logit.is_finite()) {
                return Ok(Routed { routing: layer.moe.routing(&logits), x });
            }
            let what = format!("activations of layer {l} on the calibration text");
            Err(MixtralError::NotFinite { what })
        };
        self.hidden.par_iter().map(route).collect()
    }
}

/// What one sample brings to a block of experts.
pub(crate) struct Routed<B: PackedOps> {
    /// The experts' input, `[tokens, hidden]`.
    pub(crate) x: Tensor<B, 2>,
    /// The tokens' experts.
    pub(crate) routing: Routing,
}

impl<B: PackedOps> Routed<B> {
    /// The sample's tokens that are routed to expert `e`; `None` if there are none.
    pub(crate) fn pick(&self, e: usize) -> Option<Picked<B>> {
        let (tokens, weights) = self.routing.assigned(e);
        Picked::new(tokens, weights, &self.x)
    }
}
