//! Every kernel for graphics cards against oracles, on every backend that this build has and this machine can
//! run: on wgpu a software driver will do (`mesa-vulkan-drivers`).
//!
//! Budgets: a product may be off by [`cases::F32_BUDGET`] of the lengths of its two vectors multiplied, or by
//! [`cases::F16_BUDGET`] where activations are 16-bit floats.

mod cases;
mod experts;
mod products;
mod rest;
mod sources;

use half::f16;
use mcmoe_tensor_kernels::{KernelError, PackedOps};

/// A device for tests; without one, they say so and pass.
fn device<B: PackedOps>(found: Result<B::Device, KernelError>, name: &str) -> Option<B::Device> {
    match found {
        Ok(device) => Some(device),
        Err(error) => {
            eprintln!("SKIPPED: no {name} here: {error}");
            None
        }
    }
}

macro_rules! suite {
    ($name:ident, $device:expr, $single:ty, $half:ty, $fused:ty) => {
        mod $name {
            use super::*;

            fn device() -> Option<<$single as burn::tensor::backend::BackendTypes>::Device> {
                super::device::<$single>($device(0), stringify!($name))
            }

            #[test]
            fn sources() {
                device().iter().for_each(sources::all::<$single>);
            }

            #[test]
            fn grids() {
                device().iter().for_each(products::grids::<$single>);
            }

            #[test]
            fn trellises() {
                device().iter().for_each(products::trellises::<$single>);
            }

            #[test]
            fn half_precision() {
                device().iter().for_each(products::half_precision::<$half>);
            }

            #[test]
            fn long_rotations() {
                device().iter().for_each(products::long_rotations::<$single>);
            }

            #[test]
            fn dense() {
                device().iter().for_each(products::dense::<$single>);
            }

            #[test]
            fn routes() {
                device().iter().for_each(experts::routes::<$single>);
            }

            #[test]
            fn protected_tokens() {
                device().iter().for_each(experts::protected_tokens::<$single>);
            }

            #[test]
            fn blocks_of_experts() {
                device().iter().for_each(experts::blocks::<$single>);
            }

            #[test]
            fn attention() {
                device().iter().for_each(rest::attention::<$single>);
            }

            #[test]
            fn positions() {
                device().iter().for_each(rest::positions::<$single>);
            }

            #[test]
            fn norms_and_heads() {
                device().iter().for_each(rest::norms_and_heads::<$single>);
            }

            #[test]
            fn fused() {
                device().iter().for_each(rest::fused::<$fused>);
            }
        }
    };
}

#[cfg(feature = "wgpu")]
suite!(
    wgpu,
    mcmoe_tensor_kernels::wgpu_device,
    mcmoe_tensor_kernels::WgpuBackend,
    burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f16, i32, u32>,
    burn_wgpu::Wgpu
);

#[cfg(feature = "cuda")]
suite!(
    cuda,
    mcmoe_tensor_kernels::cuda_device,
    mcmoe_tensor_kernels::CudaBackend,
    burn_cubecl::CubeBackend<cubecl::cuda::CudaRuntime, f16, i32, u8>,
    burn_cuda::Cuda
);
