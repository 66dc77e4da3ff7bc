//! Products with packed matrices. One place checks the lengths and picks the kernel.

mod scalar;

use crate::{KernelError, PackedMatrix};

/// `y = x Wᵀ` for a batch of tokens, read straight from the packed bytes.
///
/// `x` is `[tokens, cols]` and `y` is `[tokens, rows]`, both row-major; the number of tokens follows
/// from `x`. Work is shared over the rayon pool by rows of `W`; every element is summed in one fixed
/// order, so results depend neither on the number of threads nor on the other tokens of the batch.
///
/// # Errors
/// [`KernelError::Length`] if `x` is not whole tokens or `y` does not match it.
pub fn matmul(weight: &PackedMatrix, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    let (rows, cols) = (weight.shape().rows(), weight.shape().cols());
    let tokens = x.len() / cols;
    let length = |what, expected, found| Err(KernelError::Length { what, expected, found });
    if tokens * cols != x.len() {
        return length("input", (tokens + 1) * cols, x.len());
    }
    if tokens * rows != y.len() {
        return length("output", tokens * rows, y.len());
    }
    if tokens > 0 {
        scalar::matmul(weight, x, y);
    }
    Ok(())
}
