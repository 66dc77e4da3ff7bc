//! The samples that layers are tuned on, on their way through the 16-bit model.

use burn::backend::Autodiff;
use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use crate::MixtralError;
use crate::model::{Angles, WeightSource, embed};

/// The residual stream of some samples before a layer of the 16-bit model, in memory.
pub(super) struct Reference<'a, B: PackedOps> {
    source: WeightSource<'a>,
    angles: Angles<B>,
    len: usize,
    hidden: Vec<Tensor<B, 2>>,
    device: B::Device,
}

/// A sample after a layer.
pub(super) struct Passed<B: PackedOps> {
    /// The residual stream, `[len, hidden]`.
    pub(super) output: Tensor<B, 2>,
    /// Log probabilities of the layer's router, `[len, experts]`.
    pub(super) log_router: Tensor<B, 2>,
}

impl<'a, B: PackedOps> Reference<'a, B> {
    /// The embeddings of samples of one length.
    pub(super) fn embed(
        source: WeightSource<'a>,
        samples: &[&[u32]],
        device: &B::Device,
    ) -> Result<Self, MixtralError> {
        let table = source.embedding::<B>(device)?;
        let hidden = samples.iter().map(|sample| embed::<B>(&table, sample, device)).collect();
        let len = samples.first().map_or(0, |sample| sample.len());
        Ok(Self { source, angles: source.rope().angles(0..len, device), len, hidden, device: device.clone() })
    }

    /// The angles of the samples' positions, for tensors with gradients.
    pub(super) fn angles(&self) -> Angles<Autodiff<B>> {
        self.source.rope().angles(0..self.len, &self.device)
    }

    /// Takes the samples through layer `l`.
    pub(super) fn advance(&mut self, l: usize) -> Result<Vec<Passed<B>>, MixtralError> {
        let layer = self.source.layer::<B>(l, &self.device)?;
        let pass = |hidden: &Tensor<B, 2>| {
            let passed = layer.forward_alone(l, hidden.clone(), &self.angles);
            Passed { output: passed.hidden, log_router: log_softmax(passed.router_logits, 1) }
        };
        let passed: Vec<Passed<B>> = self.hidden.par_iter().map(pass).collect();
        self.hidden = passed.iter().map(|passed| passed.output.clone()).collect();
        Ok(passed)
    }
}
