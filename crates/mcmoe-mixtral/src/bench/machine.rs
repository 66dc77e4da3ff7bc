//! What the machine itself can do.

use std::hint::black_box;
use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use mcmoe_tensor_kernels::{Bandwidth, PackedOps};

use crate::model::to_host;

/// Bytes of the buffer that is read: far more than caches hold.
const BUFFER: usize = 1 << 30;
/// Side of the matrices that are multiplied.
const SIDE: usize = 2048;
/// Products of a measurement.
const PRODUCTS: usize = 2;

/// Bytes of the tensor that a graphics card copies: within what any of them takes in one piece.
const CARD_BUFFER: usize = 120 << 20;
/// Copies of a measurement.
const COPIES: usize = 8;

/// What weights are read from: the memory of the machine, or of a graphics card.
pub(super) enum Machine<B: Backend> {
    /// Read with all threads.
    Host(Bandwidth),
    /// Copied by the card.
    Card(Tensor<B, 1>),
}

impl<B: PackedOps> Machine<B> {
    pub(super) fn new(device: &B::Device) -> Self {
        if B::ON_HOST {
            return Self::Host(Bandwidth::new(BUFFER));
        }
        Self::Card(Tensor::zeros([CARD_BUFFER / size_of::<f32>()], device))
    }

    /// Bytes a second: read on the host, read and written on a card.
    pub(super) fn read(&self) -> f64 {
        match self {
            Self::Host(bandwidth) => bandwidth.read(),
            Self::Card(tensor) => {
                let copies = |count: usize| {
                    let copies: Vec<Tensor<B, 1>> =
                        (0..count).map(|_| tensor.clone().add_scalar(1.0)).collect();
                    wait::<B>(&tensor.device());
                    drop(copies);
                };
                copies(1);
                let start = Instant::now();
                copies(COPIES);
                (2 * COPIES * CARD_BUFFER) as f64 / start.elapsed().as_secs_f64()
            }
        }
    }
}

/// Waits until a device has done all that it was given.
pub(super) fn wait<B: Backend>(device: &B::Device) {
    B::sync(device).unwrap_or_else(|error| panic!("{error:?}"));
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
