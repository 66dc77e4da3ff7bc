//! Packed low-bit matrices and the kernels that multiply them.
//!
//! A weight matrix `[rows, cols]` (output features by input features) is held as integer codes of
//! 1, 2, 3, 4 or 8 bits, packed without gaps, with one `f16` scale and one `f16` zero point for each
//! group of consecutive weights of a row: `w = scale * (code - zero)`. Or it is held on a trellis of 1 to 3
//! bits a weight, with one `f16` scale for each group: fewer errors at the same bytes, found by a longer
//! search. The bytes are the same on disk, in memory and in the kernels' hands.
//!
//! | holds | where |
//! |---|---|
//! | code widths, trellis rates | [`BitWidth`], [`TrellisRate`], [`Coding`] |
//! | the search for a trellis code | [`Backend::search_trellis`] |
//! | the rotation of a trellis matrix's inputs | [`Backend::rotate`] |
//! | the shape and byte arithmetic of the layout | [`PackedShape`] |
//! | owned or memory-mapped matrices, packed or dense | [`PackedMatrix`], [`DenseMatrix`], [`SharedBytes`] |
//! | `y = x Wᵀ` straight from packed bytes | [`matmul`], [`Backend::matmul`] |
//! | a block of experts as one piece of work | [`Backend::experts`] |
//! | attention of a decode step | [`Backend::decode_attention`] |
//! | exact or 8-bit activations | [`Precision`] |
//! | how fast this machine reads memory | [`Bandwidth`] |
//! | the kernels for this CPU: scalar, AVX2, AVX-512, NEON | [`Backend`] |
//! | the same on burn tensors (feature `burn`) | `PackedOps` |
//! | the same on graphics cards (features `wgpu`, `cuda`) | `PackedOps` for `WgpuBackend`, `CudaBackend` |
//!
//! It does not choose codes, scales or zeros: that is `mcmoe-quant`'s work.
//!
//! ```
//! use mcmoe_tensor_kernels::{BitWidth, PackedMatrix, PackedShape, matmul};
//!
//! // Two rows of 32 2-bit codes, one group a row: w = 0.5 * (code - 1).
//! let shape = PackedShape::new(2, 32, BitWidth::B2, 32)?;
//! let codes: Vec<u8> = [0, 1, 2, 3].repeat(8).into_iter().chain([3; 32]).collect();
//! let half = half::f16::from_f32;
//! let packed = PackedMatrix::pack(shape, &codes, &[half(0.5); 2], &[half(1.0); 2])?;
//!
//! let mut y = [0.0; 2];
//! matmul(&packed, &[1.0; 32], &mut y)?;
//! assert_eq!(y, [8.0, 32.0]);
//! # Ok::<(), mcmoe_tensor_kernels::KernelError>(())
//! ```
#![deny(unsafe_code)]

mod bandwidth;
mod bit_width;
#[cfg(feature = "burn")]
mod burn_ops;
mod bytes;
mod coding;
mod error;
#[cfg(feature = "gpu")]
mod gpu;
mod kernels;
mod mapped;
mod packed;
mod precision;
mod rotation;
#[cfg(feature = "burn")]
mod routing;
mod shape;
mod trellis;

pub use bandwidth::Bandwidth;
pub use bit_width::BitWidth;
#[cfg(feature = "burn")]
pub use burn_ops::{
    CpuExpert, CpuPacked, PackedOps, decode_attention, dense_linear, dense_rows, packed_experts,
    packed_linear, packed_weights, plain, protect, rms_norm, rotate_heads, route, write_positions,
};
pub use bytes::SharedBytes;
pub use coding::Coding;
pub use error::KernelError;
#[cfg(feature = "cuda")]
pub use gpu::{CudaBackend, cuda_device};
#[cfg(feature = "gpu")]
pub use gpu::{GpuDense, GpuExperts, GpuPacked, GpuRoutes, GpuTally};
#[cfg(feature = "wgpu")]
pub use gpu::{WgpuBackend, wgpu_device};
pub use kernels::{Backend, DecodeAttention, DenseMatrix, DenseType, ExpertWork, matmul};
pub use packed::PackedMatrix;
pub use precision::Precision;
#[cfg(feature = "burn")]
pub use routing::{RouteCounts, RouteRule, Routing};
pub use shape::PackedShape;
pub use trellis::{TrellisMemory, TrellisPath, TrellisRate, TrellisSearch};
