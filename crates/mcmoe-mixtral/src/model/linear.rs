//! A linear layer whose weight is dense or packed.

use burn::tensor::Tensor;
use mcmoe_quant::PackedMatrix;
use mcmoe_tensor_kernels::{PackedOps, packed_linear};

use super::from_host;

/// `y = x Wᵀ`, without bias.
#[derive(Clone, Debug)]
pub enum Linear<B: PackedOps> {
    /// `f32` weights `[out, in]`.
    Dense(Tensor<B, 2>),
    /// Packed codes with scales and zero points.
    Packed(B::Packed),
}

impl<B: PackedOps> Linear<B> {
    /// A dense layer from row-major weights `[rows, cols]`.
    pub fn dense(weights: Vec<f32>, rows: usize, cols: usize, device: &B::Device) -> Self {
        Self::Dense(from_host(weights, [rows, cols], device))
    }

    /// A packed layer.
    pub fn packed(matrix: PackedMatrix, device: &B::Device) -> Self {
        Self::Packed(B::packed_from(matrix, device))
    }

    /// Applies the layer to `x` of `[tokens, in]`, giving `[tokens, out]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match self {
            Self::Dense(weight) => x.matmul(weight.clone().transpose()),
            Self::Packed(weight) => packed_linear(x, weight),
        }
    }
}
