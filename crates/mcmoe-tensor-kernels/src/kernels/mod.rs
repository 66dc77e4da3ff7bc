//! Products with packed and dense matrices.
//!
//! ```text
//! activations ─ inputs ─┐
//!                       ├─ regions (tasks over tiles, on the rayon pool) ─ backend ─┬─ scalar
//! packed bytes ─ tiles ─┘                                                           ├─ avx2, avx512(vbmi)
//!                                                                                   └─ neon
//! ```
//! A region is one fork and join: the tiles of one matrix, of several, or of all chosen experts.

mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vbmi;
mod backend;
mod dense;
mod experts;
mod float;
mod inputs;
#[cfg(target_arch = "aarch64")]
mod neon;
mod regions;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::DecodeAttention;
pub use backend::Backend;
pub use dense::{DenseMatrix, DenseType};
pub use experts::ExpertWork;

use crate::{KernelError, PackedMatrix, Precision};

/// `y = x Wᵀ` for a batch of tokens, read straight from the packed bytes, with exact activations and
/// the kernels of [`Backend::current`].
///
/// `x` is `[tokens, cols]` and `y` is `[tokens, rows]`, both row-major; the number of tokens follows
/// from `x`. Work is shared over the rayon pool; results depend neither on the number of threads nor on
/// the other tokens of the batch nor on the backend.
///
/// # Errors
/// [`KernelError::Length`] if `x` is not whole tokens or `y` does not match it;
/// [`KernelError::NoBackend`] if the environment asks for kernels that this CPU does not have.
pub fn matmul(weight: &PackedMatrix, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
    let products = Backend::current()?.matmul(&[weight], x, Precision::F32)?;
    let product = &products[0];
    if product.len() != y.len() {
        return Err(KernelError::Length { what: "output", expected: product.len(), found: y.len() });
    }
    y.copy_from_slice(product);
    Ok(())
}
