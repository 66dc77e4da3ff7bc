//! Random inputs, oracles, and what may differ.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use half::f16;
use mcmoe_tensor_kernels::{Coding, PackedMatrix, PackedShape};

/// Of the lengths of the two vectors of a product, with 32-bit activations.
pub(crate) const F32_BUDGET: f64 = 1e-6;
/// The same with 16-bit activations.
pub(crate) const F16_BUDGET: f64 = 1e-3;

/// Numbers around zero that 16-bit floats can hold, the same for the same seed.
pub(crate) fn random(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f16::from_f32((state >> 40) as f32 / (1_u32 << 23) as f32 - 1.0).to_f32()
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn tensor<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub(crate) fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap()
}

/// A matrix of random codes.
pub(crate) fn packed(rows: usize, cols: usize, coding: Coding, group_size: usize, seed: u64) -> PackedMatrix {
    PackedMatrix::synthetic(PackedShape::new(rows, cols, coding, group_size).unwrap(), seed)
}

/// Asserts that `found` is `x Wᵀ` up to `budget`.
pub(crate) fn assert_product(
    what: &str,
    found: &[f32],
    x: &[f32],
    weights: &[f32],
    cols: usize,
    budget: f64,
) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let expected = x
        .chunks(cols)
        .flat_map(|x| weights.chunks(cols).map(move |w| (dot(w, x), (dot(w, w) * dot(x, x)).sqrt())));
    assert_eq!(found.len(), x.len() / cols * (weights.len() / cols), "{what}");
    let mut worst = 0.0_f64;
    for (found, (expected, size)) in found.iter().zip(expected) {
        let off = (f64::from(*found) - expected).abs() / size;
        assert!(off <= budget, "{what}: {found} for {expected}, off by {off:.1e} of {size}");
        worst = worst.max(off);
    }
    println!("{what}: off by {worst:.1e}");
}

/// Asserts that numbers are the same up to `budget` of their size and a little.
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], budget: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= budget * size, "{what}: {found} for {expected} at {at}");
    }
}
