//! Quantizers that turn a weight matrix into a packed low-bit one.
//!
//! A [`Matrix`] view of `f32` weights goes in, with a [`Hessian`] of the inputs it will see where one
//! is known; a [`PackedMatrix`] and an [`ErrorReport`] come out. Slices in, plain types out: no tensor
//! framework, no model.
//!
//! Options name what the codes mean and the method that finds them:
//!
//! | codes | method | bits | needs | source |
//! |---|---|---|---|---|
//! | [`Coding::Grid`] | [`Method::Rtn`] | 2, 3, 4, 8 (1: binary) | nothing | rounding to the best grid of each group |
//! | | [`Method::Gptq`] | 1, 2, 3, 4, 8 | a Hessian | Frantar et al. 2022, with error feedback at every width |
//! | | [`Method::Hqq`] | 1, 2, 3, 4, 8 | nothing | Badri & Shaji 2023 |
//! | [`Coding::Trellis`] | [`Method::Gptq`] | 1, 1.5, 2, 2.5, 3, 4 | a Hessian | after Tseng et al. 2024; feedback within |
//! | | [`Method::Rtn`] | 1, 1.5, 2, 2.5, 3, 4 | nothing | the same search without feedback |
//!
//! [`QuantOptions::new`] is GPTQ on a grid, [`QuantOptions::trellis`] GPTQ on a trellis. Without a Hessian GPTQ
//! rounds to nearest, on a trellis it searches without feedback, and the report says so.
//!
//! It does not decide how many bits a matrix deserves (`mcmoe-allocator` does) and does not know any
//! model's layers (`mcmoe-mixtral` does).
//!
//! ```
//! use mcmoe_quant::{Hessian, Matrix, Method, QuantOptions, quantize};
//!
//! let weights: Vec<f32> = (0..16 * 256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 500.0).collect();
//! let inputs: Vec<f32> = (0..64 * 256).map(|i| ((i * 53 % 89) as f32 - 44.0) / 44.0).collect();
//!
//! let mut hessian = Hessian::new(256);
//! hessian.add(&inputs)?; // 64 tokens of 256 features
//!
//! let options = QuantOptions::new(2)?.method(Method::Gptq).group_size(128);
//! let quantized = quantize(Matrix::new(16, 256, &weights)?, Some(&hessian), &options)?;
//! assert_eq!(quantized.packed.shape().bits_per_weight(), 2.25);
//!
//! let mut y = vec![0.0; 16];
//! mcmoe_quant::matmul(&quantized.packed, &inputs[..256], &mut y)?;
//! # Ok::<(), mcmoe_quant::QuantError>(())
//! ```
//!
//! The same on a trellis, whose products rotate inputs by themselves; `examples/pack.rs` has every method and
//! rate side by side:
//!
//! ```
//! # use mcmoe_quant::{Hessian, Matrix, QuantOptions, quantize};
//! # let weights: Vec<f32> = (0..16 * 256).map(|i| ((i * 37 % 101) as f32 - 50.0) / 500.0).collect();
//! # let inputs: Vec<f32> = (0..64 * 256).map(|i| ((i * 53 % 89) as f32 - 44.0) / 44.0).collect();
//! let mut hessian = Hessian::new(256);
//! hessian.add(&inputs)?;
//!
//! let options = QuantOptions::trellis(2.0)?; // or 1, 1.5, 2.5, 3; groups of 256
//! let quantized = quantize(Matrix::new(16, 256, &weights)?, Some(&hessian), &options)?;
//! assert_eq!(quantized.packed.shape().bits_per_weight(), 2.0625);
//!
//! let mut y = vec![0.0; 16];
//! mcmoe_quant::matmul(&quantized.packed, &inputs[..256], &mut y)?;
//! let weights_kept = quantized.packed.dequantize(); // rotated back
//! assert_eq!(weights_kept.len(), weights.len());
//! # Ok::<(), mcmoe_quant::QuantError>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod gptq;
mod grid;
mod hessian;
mod hqq;
mod linalg;
mod matrix;
mod options;
mod quantize;
mod quantized;
mod report;
mod rtn;
pub mod store;
mod trellis;

pub use error::QuantError;
pub use grid::{Grid, GridSearch};
pub use hessian::Hessian;
pub use matrix::Matrix;
pub use mcmoe_tensor_kernels::{
    Backend, BitWidth, Coding, DenseMatrix, DenseType, KernelError, PackedMatrix, PackedShape, Precision,
    SharedBytes, TrellisRate, matmul,
};
pub use options::{Method, QuantOptions};
pub use quantize::{quantize, quantize_all};
pub use report::{ErrorReport, Fallback, Quantized};
