//! Packed low-bit matrices and the kernels that multiply them.
//!
//! A weight matrix `[rows, cols]` (output features by input features) is held as integer codes of
//! 1, 2, 3, 4 or 8 bits, packed without gaps, with one `f16` scale and one `f16` zero point for each
//! group of consecutive weights of a row: `w = scale * (code - zero)`.
//!
//! | holds | where |
//! |---|---|
//! | code widths | [`BitWidth`] |
//! | the shape and byte arithmetic of the layout | [`PackedShape`] |
//! | owned or memory-mapped packed matrices | [`PackedMatrix`], [`SharedBytes`] |
//! | `y = x Wᵀ` straight from packed bytes | [`matmul`] |
//! | the same on burn tensors (feature `burn`) | `PackedOps` |
//!
//! It does not choose codes, scales or zeros: that is `mcmoe-quant`'s work.
//!
//! ```
//! use mcmoe_tensor_kernels::{BitWidth, PackedMatrix, PackedShape, matmul};
//!
//! // Two rows of eight 2-bit codes, one group a row: w = 0.5 * (code - 1).
//! let shape = PackedShape::new(2, 8, BitWidth::B2, 8)?;
//! let codes = [0, 1, 2, 3, 0, 1, 2, 3, 3, 3, 3, 3, 1, 1, 1, 1];
//! let half = half::f16::from_f32;
//! let packed = PackedMatrix::pack(shape, &codes, &[half(0.5); 2], &[half(1.0); 2])?;
//!
//! let mut y = [0.0; 2];
//! matmul(&packed, &[1.0; 8], &mut y)?;
//! assert_eq!(y, [2.0, 4.0]);
//! # Ok::<(), mcmoe_tensor_kernels::KernelError>(())
//! ```
#![deny(unsafe_code)]

mod bit_width;
#[cfg(feature = "burn")]
mod burn_ops;
mod bytes;
mod error;
mod kernels;
mod mapped;
mod packed;
mod shape;

pub use bit_width::BitWidth;
#[cfg(feature = "burn")]
pub use burn_ops::{PackedOps, packed_linear};
pub use bytes::SharedBytes;
pub use error::KernelError;
pub use kernels::matmul;
pub use packed::PackedMatrix;
pub use shape::PackedShape;
