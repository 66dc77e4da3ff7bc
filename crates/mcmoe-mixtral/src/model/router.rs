//! The router: which experts a token goes to, and with what weight.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::PackedOps;

use super::Linear;

/// The gate of a MoE block.
#[derive(Clone, Debug)]
pub struct Router<B: PackedOps> {
    /// `[experts, hidden]`.
    pub gate: Linear<B>,
    /// Experts a token is routed to.
    pub top_k: usize,
}

impl<B: PackedOps> Router<B> {
    /// Router logits of `x`, `[tokens, experts]`.
    pub fn logits(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.gate.forward(x)
    }
}
