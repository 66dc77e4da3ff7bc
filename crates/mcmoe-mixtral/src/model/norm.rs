//! Root-mean-square normalisation.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

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

    /// Normalises every token of `x`, `[tokens, features]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let mean_square = (x.clone() * x.clone()).mean_dim(1);
        let rms = (mean_square + self.eps).sqrt();
        x / rms * self.weight.clone().unsqueeze()
    }
}
