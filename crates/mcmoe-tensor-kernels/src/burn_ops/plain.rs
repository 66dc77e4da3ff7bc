//! What models compute beside products with weights, with the operators of any burn backend: those that are
//! differentiated, too.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// `x / sqrt(mean(x²) + ε) · weight` for every row of `x`.
pub fn rms_norm<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 1>, eps: f64) -> Tensor<B, 2> {
    let mean_square = (x.clone() * x.clone()).mean_dim(1);
    x / (mean_square + eps).sqrt() * weight.unsqueeze()
}

/// `[batch · len, heads · width]` as `[batch, heads, len, width]`.
pub fn split_heads<B: Backend>(x: Tensor<B, 2>, batch: usize, heads: usize) -> Tensor<B, 4> {
    let [rows, features] = x.dims();
    x.reshape([batch, rows / batch, heads, features / heads]).swap_dims(1, 2)
}

/// Rotates heads, `[batch, heads, len, width]`, by cosines and sines, `[1, len · width]`: rotary position embedding (Su et al. 2021), in the half-split form of Hugging Face.
pub fn rotate_heads<B: Backend>(x: Tensor<B, 4>, cos: &Tensor<B, 2>, sin: &Tensor<B, 2>) -> Tensor<B, 4> {
    let [batch, heads, positions, width] = x.dims();
    let half = width / 2;
    let (first, second) = (x.clone().narrow(3, 0, half), x.clone().narrow(3, half, half));
    let turned = Tensor::cat(vec![second.neg(), first], 3);
    let rows = [batch * heads, positions * width];
    let rotated = x.reshape(rows) * cos.clone() + turned.reshape(rows) * sin.clone();
    rotated.reshape([batch, heads, positions, width])
}
