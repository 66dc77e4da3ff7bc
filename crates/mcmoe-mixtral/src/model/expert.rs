//! One expert: a gated feed-forward network.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use mcmoe_tensor_kernels::PackedOps;

use super::Linear;

/// `w2(silu(w1 x) * w3 x)`.
#[derive(Clone, Debug)]
pub struct Expert<B: PackedOps> {
    /// Gate, `[intermediate, hidden]`.
    pub w1: Linear<B>,
    /// Down, `[hidden, intermediate]`.
    pub w2: Linear<B>,
    /// Up, `[intermediate, hidden]`.
    pub w3: Linear<B>,
}

impl<B: PackedOps> Expert<B> {
    /// Bytes of its weights.
    pub(crate) fn bytes(&self) -> u64 {
        self.w1.bytes() + self.w2.bytes() + self.w3.bytes()
    }

    /// The expert's output for `x`, `[tokens, hidden]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.w2.forward(gated(&self.w1, &self.w3, x))
    }
}

/// The input of `w2`: `silu(w1 x) * w3 x`, `[tokens, intermediate]`.
pub(crate) fn gated<B: PackedOps>(w1: &Linear<B>, w3: &Linear<B>, x: Tensor<B, 2>) -> Tensor<B, 2> {
    silu(w1.forward(x.clone())) * w3.forward(x)
}
