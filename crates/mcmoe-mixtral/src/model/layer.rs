//! One decoder layer.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::{PackedOps, RouteRule, protect, route};

use super::attention::Attended;
use super::cache::LayerCache;
use super::rope::Angles;
use super::{Attention, MoeBlock, Pruning, RmsNorm};

/// A decoder layer: attention, then experts, each around the residual stream.
#[derive(Clone, Debug)]
pub struct DecoderLayer<B: PackedOps> {
    /// Before attention.
    pub input_norm: RmsNorm<B>,
    /// Tokens look at each other.
    pub attention: Attention<B>,
    /// Before the experts.
    pub post_attention_norm: RmsNorm<B>,
    /// Router and experts.
    pub moe: MoeBlock<B>,
}

/// What a batch of sequences of equal length shares through the layers.
pub struct Sequences<'a, B: PackedOps> {
    /// Number of sequences.
    pub batch: usize,
    /// Rotations of the new tokens' positions.
    pub angles: &'a Angles<B>,
    /// Online dynamic pruning, if wanted.
    pub pruning: Option<&'a Pruning>,
}

/// What a layer leaves behind besides its output.
pub(crate) struct LayerOutput<B: PackedOps> {
    pub(crate) hidden: Tensor<B, 2>,
    /// `[tokens, experts]`.
    pub(crate) router_logits: Tensor<B, 2>,
}

impl<B: PackedOps> DecoderLayer<B> {
    /// Runs layer number `layer` on the residual stream `hidden`, `[batch · len, hidden]`.
    pub(crate) fn forward(
        &self,
        layer: usize,
        hidden: Tensor<B, 2>,
        sequences: &Sequences<'_, B>,
        cache: &mut LayerCache<B>,
    ) -> LayerOutput<B> {
        let len = hidden.dims()[0] / sequences.batch;
        let needs_importance = sequences.pruning.is_some_and(|pruning| pruning.needs_importance(len));
        let attended = self.attend(hidden.clone(), sequences, cache, needs_importance);
        let hidden = hidden + self.attention.o_proj.forward(attended.context);

        let x = self.post_attention_norm.forward(hidden.clone());
        let router_logits = self.moe.router.logits(x.clone());
        let top_k = self.moe.router.top_k;
        let rule = sequences.pruning.map_or(RouteRule::new(top_k), |pruning| pruning.rule(layer, top_k));
        let count = sequences.pruning.map_or(0, |pruning| pruning.protected(len));
        let protected = attended.received.map(|received| protect(x.clone(), received, count));
        let routes = route(router_logits.clone(), rule, protected, &mut cache.tally);
        let hidden = hidden + self.moe.forward(&x, &routes);
        LayerOutput { hidden, router_logits }
    }

    /// Runs layer number `layer` on one whole sequence, `[len, hidden]`, by itself.
    pub(crate) fn forward_alone(
        &self,
        layer: usize,
        hidden: Tensor<B, 2>,
        angles: &Angles<B>,
    ) -> LayerOutput<B> {
        let sequences = Sequences { batch: 1, angles, pruning: None };
        self.forward(layer, hidden, &sequences, &mut LayerCache::empty())
    }

    /// Attention up to `o_proj`.
    pub(crate) fn attend(
        &self,
        hidden: Tensor<B, 2>,
        sequences: &Sequences<'_, B>,
        cache: &mut LayerCache<B>,
        column_sums: bool,
    ) -> Attended<B> {
        let x = self.input_norm.forward(hidden);
        self.attention.attend(&x, sequences.batch, sequences.angles, cache, column_sums)
    }
}
