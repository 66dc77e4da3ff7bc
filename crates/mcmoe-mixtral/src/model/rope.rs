//! Rotary position embedding (Su et al. 2021), in the half-split form of Hugging Face.

use std::marker::PhantomData;
use std::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use mcmoe_tensor_kernels::{PackedOps, plain, rotate_heads};

use super::{from_host, moved};

/// Wavelengths of the rotation; angles are computed for the positions at hand.
#[derive(Clone, Debug)]
pub struct Rope<B: Backend> {
    inverse_frequencies: Vec<f32>,
    backend: PhantomData<B>,
}

/// Cosines and sines of some positions, each `[1, positions · head_dim]`: one row for every head.
#[derive(Clone, Debug)]
pub struct Angles<B: Backend> {
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
}

impl<B: Backend> Rope<B> {
    /// Rotations of heads of `head_dim` features with base `theta`.
    pub fn new(head_dim: usize, theta: f64) -> Self {
        let exponent = |i: usize| (2 * i) as f64 / head_dim as f64;
        let inverse_frequencies = (0..head_dim / 2).map(|i| theta.powf(-exponent(i)) as f32).collect();
        Self { inverse_frequencies, backend: PhantomData }
    }

    /// The angles of `positions`.
    pub fn angles(&self, positions: Range<usize>, device: &B::Device) -> Angles<B> {
        let count = positions.len();
        let width = 2 * self.inverse_frequencies.len();
        let angle = |position: usize| {
            let half = self.inverse_frequencies.iter().map(move |f| position as f32 * f);
            half.clone().chain(half)
        };
        let table = |function: fn(f32) -> f32| {
            let values = positions.clone().flat_map(angle).map(function).collect();
            from_host(values, [1, count * width], device)
        };
        Angles { cos: table(f32::cos), sin: table(f32::sin) }
    }
}

impl<B: Backend> Angles<B> {
    /// Splits `x`, `[batch · len, heads · head_dim]`, into heads, `[batch, heads, len, head_dim]`, and rotates
    /// them.
    pub fn rotate(&self, x: Tensor<B, 2>, batch: usize, heads: usize) -> Tensor<B, 4>
    where
        B: PackedOps,
    {
        rotate_heads(x, [self.cos.clone(), self.sin.clone()], [batch, heads])
    }

    /// As [`Angles::rotate`], with burn's own operators.
    pub(crate) fn rotate_plain(&self, x: Tensor<B, 2>, batch: usize, heads: usize) -> Tensor<B, 4> {
        plain::rotate_heads(plain::split_heads(x, batch, heads), &self.cos, &self.sin)
    }

    /// The same angles on another device.
    pub(crate) fn moved(self, device: &B::Device) -> Self {
        Self { cos: moved(self.cos, device), sin: moved(self.sin, device) }
    }
}
