//! Root-mean-square normalisation.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mcmoe_tensor_kernels::{PackedOps, rms_norm};

/// `x / sqrt(mean(x²) + ε) · w`, feature by feature.
#[derive(Clone, Debug)]
pub struct RmsNorm<B: Backend> {
    weight: Tensor<B, 1>,
    eps: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// A norm with this weight and ε.
    pub const fn new(weight: Tensor<B, 1>, eps: f64) -> Self {
        Self { weight, eps }
    }

    /// Its weight.
    pub(crate) const fn weight(&self) -> &Tensor<B, 1> {
        &self.weight
    }
}

impl<B: PackedOps> RmsNorm<B> {
    /// Normalises every token of `x`, `[tokens, features]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        rms_norm(x, self.weight.clone(), self.eps)
    }
}
