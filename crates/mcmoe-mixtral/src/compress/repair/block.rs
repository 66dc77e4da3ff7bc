//! A decoder layer whose norms, scales and gate can be tuned: the same as [`DecoderLayer`], in operations that
//! have gradients.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_softmax, silu};
use burn::tensor::backend::{AutodiffBackend, Backend};
use mcmoe_tensor_kernels::{PackedOps, plain};

use crate::MixtralConfig;
use crate::model::{Angles, DecoderLayer, Heads, Linear, Picked, Routing, from_host, to_host};

/// What can be tuned of a layer.
#[derive(Clone, Debug)]
pub(super) struct Tunable<T> {
    /// The norms before attention and before the experts, `[1, hidden]`.
    pub(super) norms: [T; 2],
    /// The gate, `[experts, hidden]`.
    pub(super) gate: T,
    /// A factor for every row, `[1, out]`, of each matrix: queries, keys, values and outputs of attention,
    /// then `w1`, `w2` and `w3` of each expert.
    pub(super) rows: Vec<T>,
}

impl<T> Tunable<T> {
    /// What `value` makes of each.
    pub(super) fn map<U>(self, value: impl FnMut(T) -> U) -> Tunable<U> {
        let mut value = value;
        Tunable {
            norms: self.norms.map(&mut value),
            gate: value(self.gate),
            rows: self.rows.into_iter().map(value).collect(),
        }
    }

    /// References to each.
    pub(super) fn as_ref(&self) -> Tunable<&T> {
        Tunable { norms: self.norms.each_ref(), gate: &self.gate, rows: self.rows.iter().collect() }
    }
}

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
    pub(super) fn attend(&self, tunable: &Tunable<Tensor<B, 2>>, hidden: Tensor<B, 2>) -> Attended<B> {
        let [input_norm, post_attention_norm] = &tunable.norms;
        let x = self.normalised(hidden.clone(), input_norm);
        let projection =
            |i: usize, x: &Tensor<B, 2>| linear(x.clone(), &self.attention[i]) * tunable.rows[i].clone();
        let context = self.heads.attend([0, 1, 2].map(|i| projection(i, &x)), &self.angles);
        let hidden = hidden + projection(3, &context);
        let x = self.normalised(hidden.clone(), post_attention_norm);
        let log_router = log_softmax(linear(x.clone(), &tunable.gate), 1);
        Attended { hidden, x, log_router }
    }

    /// Takes it through the experts: the layer's output, `[len, hidden]`.
    pub(super) fn experts(&self, tunable: &Tunable<Tensor<B, 2>>, attended: Attended<B>) -> Tensor<B, 2> {
        let Attended { hidden, x, log_router } = attended;
        let routing = Routing::from_logits(&to_host(log_router.clone()), self.experts.len(), self.top_k);
        let mut chosen = vec![0.0; routing.tokens() * self.experts.len()];
        for (at, &e) in routing.experts.iter().enumerate() {
            chosen[at / self.top_k * self.experts.len() + e] = 1.0;
        }
        let kept = log_router.exp() * from_host(chosen, [routing.tokens(), self.experts.len()], &x.device());
        let weights = kept.clone() / kept.sum_dim(1);
        let mut output = x.zeros_like();
        let rows = tunable.rows[self.attention.len()..].as_chunks::<3>().0;
        for (e, (expert, rows)) in self.experts.iter().zip(rows).enumerate() {
            let Some(picked) = Picked::new(&routing.assigned(e).0, &x) else { continue };
            let matrix = |i: usize, x| linear(x, &expert[i]) * rows[i].clone();
            let x = picked.inputs.clone();
            let y = matrix(1, silu(matrix(0, x.clone())) * matrix(2, x));
            let weights = weights.clone().narrow(1, e, 1).select(0, picked.indices.clone());
            output = picked.add_to(output, y * weights);
        }
        hidden + output
    }

    fn normalised(&self, x: Tensor<B, 2>, weight: &Tensor<B, 2>) -> Tensor<B, 2> {
        plain::rms_norm(x, weight.clone().squeeze_dim(0), self.eps)
    }
}

/// The weight of a layer that is dense.
pub(super) fn dense<B: PackedOps>(linear: &Linear<B>) -> Tensor<B, 2> {
    linear.as_dense().expect("layers are tuned with dense weights").clone()
}

fn linear<B: Backend>(x: Tensor<B, 2>, weight: &Tensor<B, 2>) -> Tensor<B, 2> {
    x.matmul(weight.clone().transpose())
}
