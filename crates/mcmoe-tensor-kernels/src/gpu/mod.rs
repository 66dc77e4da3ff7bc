//! Kernels for graphics cards: one source, through CubeCL, for all of them, and what burn needs to call them.
//!
//! They read the same bytes as the CPU's kernels. Activations stay floats, whatever [`Precision`] says: with
//! [`Precision::Int8`] products of many tokens may use 16-bit floats where a GPU has matrix units for them.
#![allow(unsafe_code)]
#![allow(clippy::needless_pass_by_value, reason = "what a kernel is compiled for is passed by value")]

mod attention;
mod code;
mod decode;
mod dense;
mod devices;
mod fused;
mod launch;
mod linear;
mod matrices;
mod ops;
mod rotate;
mod route;
mod routes;
mod steps;

#[cfg(feature = "cuda")]
pub use devices::{CudaBackend, cuda_device};
#[cfg(feature = "wgpu")]
pub use devices::{WgpuBackend, wgpu_device};
pub use matrices::{GpuDense, GpuExperts, GpuPacked};
pub use routes::{GpuRoutes, GpuTally};

#[cfg(doc)]
use crate::Precision;
