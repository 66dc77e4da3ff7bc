//! What all launches have in common.

use burn_cubecl::CubeRuntime;
/// A tensor as kernels read it.
pub(super) use burn_cubecl::kernel::into_contiguous as contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::Plane;
use cubecl::prelude::*;
use cubecl::server::Handle;

use super::linear::UNITS;

/// The most tokens whose products share a cube.
const MOST_TOKENS: usize = 8;

/// Tokens that share a cube, for so many: a kernel is compiled for each number there is.
pub(super) fn batch(tokens: usize) -> usize {
    tokens.next_power_of_two().min(MOST_TOKENS)
}

/// The units of a plane, if kernels can rely on planes; else 0.
pub(super) fn plane<R: CubeRuntime>(client: &ComputeClient<R>) -> usize {
    let properties = client.properties();
    let (least, most) = (properties.hardware.plane_size_min, properties.hardware.plane_size_max);
    let usable = least == most && least.is_power_of_two() && (8..=64).contains(&least);
    if usable && properties.features.plane.contains(Plane::Ops) { least as usize } else { 0 }
}

/// Cubes for at least so many units, each of which looks whether there is work for it.
pub(super) fn cubes<R: CubeRuntime>(client: &ComputeClient<R>, units: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new_1d(UNITS as u32);
    (cubecl::calculate_cube_count_elemwise(client, units, dim), dim)
}

/// A grid of cubes of `UNITS` units.
pub(super) fn grid(x: usize, y: usize) -> (CubeCount, CubeDim) {
    (CubeCount::Static(x as u32, y as u32, 1), CubeDim::new_1d(UNITS as u32))
}

/// A tensor of the device and type of `like`, of any content.
pub(super) fn empty<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
) -> CubeTensor<R> {
    empty_of(like, shape, like.dtype)
}

/// A tensor of the device of `like`, of any content.
pub(super) fn empty_of<R: CubeRuntime, const D: usize>(
    like: &CubeTensor<R>,
    shape: [usize; D],
    dtype: burn::tensor::DType,
) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape.into(), dtype)
}

/// The sides of a tensor.
pub(super) fn dims<R: CubeRuntime, const D: usize>(tensor: &CubeTensor<R>) -> [usize; D] {
    std::array::from_fn(|dim| tensor.meta.shape()[dim])
}

/// A tensor's memory as an argument.
pub(super) fn arg<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    let len = tensor.meta.num_elements();
    // SAFETY: a contiguous tensor's memory holds all its elements.
    unsafe { ArrayArg::from_raw_parts(tensor.handle.clone(), len) }
}

/// Memory of so many bytes as an argument.
pub(super) fn raw<R: CubeRuntime>(handle: &Handle, bytes: usize) -> ArrayArg<R> {
    // SAFETY: lengths only serve checks, which unchecked launches leave out.
    unsafe { ArrayArg::from_raw_parts(handle.clone(), bytes / size_of::<u32>()) }
}
