//! A decoder layer whose norms and gate can be tuned: the same as [`DecoderLayer`], in operations that have
//! gradients.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, silu};
use burn::tensor::backend::{AutodiffBackend, Backend};
use mcmoe_tensor_kernels::PackedOps;

use crate::MixtralConfig;
use crate::model::{Angles, DecoderLayer, Heads, Linear, Picked, RmsNorm, Routing, from_host, to_host};

/// What can be tuned of a layer: the norm before attention and that before the experts, `[1, hidden]`, and
/// the gate, `[experts, hidden]`.
pub(super) type Tunable<B> = [Tensor<B, 2>; 3];

/// The weights of a layer that stay as they are, all dense.
pub(super) struct Block<B: Backend> {
    heads: Heads,
    top_k: usize,
    eps: f64,
    angles: Angles<B>,
    /// Of queries, keys, values and outputs, `[out, in]`.
    attention: [Tensor<B, 2>; 4],
    /// `w1`, `w2` and `w3` of each expert, `[out, in]`.
    experts: Vec<[Tensor<B, 2>; 3]>,
}

/// A sequence after attention.
pub(super) struct Attended<B: Backend> {
    /// The residual stream, `[len, hidden]`.
    hidden: Tensor<B, 2>,
    /// The same, normalised, as router and experts read it.
    x: Tensor<B, 2>,
    /// Log probabilities of the router, `[len, experts]`.
    pub(super) log_router: Tensor<B, 2>,
}

impl<A: AutodiffBackend> Block<A> {
    /// The fixed weights of a dense layer, for sequences of the positions of `angles`.
    pub(super) fn new<B>(layer: &DecoderLayer<B>, angles: Angles<A>, config: &MixtralConfig) -> Self
    where
        B: PackedOps,
        A: AutodiffBackend<InnerBackend = B>,
    {
        let fixed = |linear: &Linear<B>| Tensor::from_inner(dense(linear));
        let attention = &layer.attention;
        let projections = [&attention.q_proj, &attention.k_proj, &attention.v_proj, &attention.o_proj];
        let experts = layer.moe.experts.iter();
        Self {
            heads: Heads::new(config),
            top_k: config.num_experts_per_tok,
            eps: config.rms_norm_eps,
            angles,
            attention: projections.map(fixed),
            experts: experts.map(|expert| [&expert.w1, &expert.w2, &expert.w3].map(fixed)).collect(),
        }
    }
}

impl<B: Backend> Block<B> {
    /// Takes a whole sequence, `[len, hidden]`, through attention and the router.
    pub(super) fn attend(&self, tunable: &Tunable<B>, hidden: Tensor<B, 2>) -> Attended<B> {
        let [input_norm, post_attention_norm, gate] = tunable;
        let x = self.normalised(hidden.clone(), input_norm);
        let [q, k, v, o] = &self.attention;
        let context = self.heads.attend([q, k, v].map(|weight| linear(x.clone(), weight)), &self.angles);
        let hidden = hidden + linear(context, o);
        let x = self.normalised(hidden.clone(), post_attention_norm);
        let log_router = log_softmax(linear(x.clone(), gate), 1);
        Attended { hidden, x, log_router }
    }

    /// Takes it through the experts: the layer's output, `[len, hidden]`.
    pub(super) fn experts(&self, attended: Attended<B>) -> Tensor<B, 2> {
        let Attended { hidden, x, log_router } = attended;
        let routing = Routing::from_logits(&to_host(log_router.clone()), self.experts.len(), self.top_k);
        let mut chosen = vec![0.0; routing.tokens() * self.experts.len()];
        for (at, &e) in routing.experts.iter().enumerate() {
            chosen[at / self.top_k * self.experts.len() + e] = 1.0;
        }
        let kept = log_router.exp() * from_host(chosen, [routing.tokens(), self.experts.len()], &x.device());
        let weights = kept.clone() / kept.sum_dim(1);
        let mut output = x.zeros_like();
        for (e, [w1, w2, w3]) in self.experts.iter().enumerate() {
            let Some(picked) = Picked::new(&routing.assigned(e).0, &x) else { continue };
            let x = picked.inputs.clone();
            let y = linear(silu(linear(x.clone(), w1)) * linear(x, w3), w2);
            let weights = weights.clone().narrow(1, e, 1).select(0, picked.indices.clone());
            output = picked.add_to(output, y * weights);
        }
        hidden + output
    }

    fn normalised(&self, x: Tensor<B, 2>, weight: &Tensor<B, 2>) -> Tensor<B, 2> {
        RmsNorm::new(weight.clone().squeeze_dim(0), self.eps).forward(x)
    }
}

/// The weight of a layer that is dense.
pub(super) fn dense<B: PackedOps>(linear: &Linear<B>) -> Tensor<B, 2> {
    linear.as_dense().expect("layers are tuned with dense weights").clone()
}

fn linear<B: Backend>(x: Tensor<B, 2>, weight: &Tensor<B, 2>) -> Tensor<B, 2> {
    x.matmul(weight.clone().transpose())
}
