//! What the machine itself can do.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use mcmoe_tensor_kernels::Bandwidth;

use crate::model::to_host;

/// Bytes of the buffer that is read: far more than caches hold.
const BUFFER: usize = 1 << 30;
/// Side of the matrices that are multiplied.
const SIDE: usize = 2048;
/// Products of a measurement.
const PRODUCTS: usize = 2;

pub(super) struct Machine {
    bandwidth: Bandwidth,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { bandwidth: Bandwidth::new(BUFFER) }
    }

    /// Bytes read a second, with all threads.
    pub(super) fn read(&self) -> f64 {
        self.bandwidth.read()
    }
}

/// Floating-point operations a second of burn's `f32` matrix product.
pub(crate) fn matmul_flops<B: Backend>(device: &B::Device) -> f64 {
    let random = || Tensor::<B, 2>::random([SIDE, SIDE], Distribution::Default, device);
    let (a, b) = (random(), random());
    black_box(to_host(a.clone().matmul(b.clone())));
    let start = Instant::now();
    for _ in 0..PRODUCTS {
        black_box(to_host(a.clone().matmul(b.clone())));
    }
    (2 * PRODUCTS * SIDE.pow(3)) as f64 / start.elapsed().as_secs_f64()
}

/// The mean value.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The middle value, of an even number the upper one.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
