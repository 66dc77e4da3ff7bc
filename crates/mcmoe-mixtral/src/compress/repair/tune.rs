//! Gradient descent on norms, gate and scales, judged by samples that it does not see.

use burn::backend::Autodiff;
use burn::optim::{Adam, AdamConfig, SimpleOptimizer};
use burn::tensor::Tensor;
use mcmoe_quant::DenseType;
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use super::Repair;
use super::block::{Block, Tunable};
use crate::checkpoint::{from_f32, to_f32};
use crate::model::{from_host, to_host};

/// Times that every sample is seen.
pub(super) const EPOCHS: usize = 4;
/// Samples a step.
pub(super) const BATCH: usize = 4;
/// The first step's length, as a share of a weight; later ones are shorter, down to none.
const RATE: f64 = 1e-2;
/// One sample of so many is held out.
const HELD_OUT: usize = 5;

/// A sequence before a quantized layer, and what the 16-bit model makes of it there.
pub(super) struct Sample<B: PackedOps> {
    /// The quantized model's residual stream before the layer, `[len, hidden]`.
    pub(super) hidden: Tensor<B, 2>,
    /// The 16-bit model's residual stream after the layer, `[len, hidden]`.
    pub(super) output: Tensor<B, 2>,
    /// Log probabilities of the 16-bit model's router, `[len, experts]`.
    pub(super) log_router: Tensor<B, 2>,
}

/// How far a layer is from the 16-bit one. What is not to be repaired is not measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distance {
    /// Divergence (Kullback–Leibler) of the router's choice, in nats a token.
    pub(super) router: Option<f64>,
    /// Mean square error of the output.
    pub(super) output: Option<f64>,
}

/// A layer to tune.
pub(super) struct Tuner<B: PackedOps> {
    pub(super) block: Block<Autodiff<B>>,
    /// Everything as it is.
    pub(super) start: Tunable<Tensor<B, 2>>,
    /// The types that they are stored with.
    pub(super) types: Tunable<DenseType>,
    pub(super) repair: Repair,
    /// Samples whose gradients are computed side by side.
    pub(super) at_once: usize,
}

impl<B: PackedOps> Tuner<B> {
    /// The best values found, as they will be stored, and how far the layer was and is from the
    /// 16-bit one on samples held out. `None` if nothing better was found.
    pub(super) fn run(&self, samples: &[Sample<B>]) -> (Option<Tunable<Tensor<B, 2>>>, [Distance; 2]) {
        let (held_out, training) = samples.split_at(samples.len().div_ceil(HELD_OUT));
        let before = self.distance(&self.start, held_out);
        let (mut best, mut least) = (None, before);
        let adam = AdamConfig::new().build();
        let mut parameters = self.parameters();
        let batches = training.len().div_ceil(BATCH);
        for epoch in 0..EPOCHS {
            for (i, batch) in training.chunks(BATCH).enumerate() {
                let left = 1.0 - (epoch * batches + i) as f64 / (EPOCHS * batches) as f64;
                let gradients = self.gradients(&parameters, &before, batch);
                for (parameter, gradient) in parameters.iter_mut().zip(gradients) {
                    parameter.step(&adam, RATE * left, gradient);
                }
            }
            let mut values = parameters.iter();
            let tuned = self.types.as_ref().map(|&dtype| values.next().expect("one for each").stored(dtype));
            let distance = self.distance(&tuned, held_out);
            if distance.relative_to(&before) < least.relative_to(&before) {
                (best, least) = (Some(tuned), distance);
            }
        }
        (best, [before, least])
    }

    /// Everything as it is, and what of it is tuned.
    pub(super) fn parameters(&self) -> Vec<Parameter<B>> {
        let Repair { routers, norms, scales } = self.repair;
        let Tunable { norms: [first, second], gate, rows } = self.start.as_ref();
        // A gate's weights are of any size and sign, one length does for all; the others are factors.
        let rms = (gate.clone() * gate.clone()).mean_dim(0).mean_dim(1).sqrt().expand(gate.dims());
        let factor = |start: &Tensor<B, 2>, tuned| Parameter::new(start.clone(), start.clone(), tuned);
        let gate = Parameter::new(gate.clone(), rms, routers);
        let rows = rows.into_iter().map(|rows| factor(rows, scales));
        [factor(first, norms), factor(second, norms), gate].into_iter().chain(rows).collect()
    }

    /// Gradients of the distance of a batch, relative to the one `before`.
    pub(super) fn gradients(
        &self,
        parameters: &[Parameter<B>],
        before: &Distance,
        batch: &[Sample<B>],
    ) -> Vec<Option<Tensor<B, 2>>> {
        let gradients = |sample: &Sample<B>| {
            let leaves: Vec<_> = parameters.iter().map(Parameter::leaf).collect();
            let mut values = parameters.iter().zip(&leaves).map(|(p, leaf)| p.value(leaf.as_ref()));
            let tunable = self.start.as_ref().map(|_| values.next().expect("a parameter for each"));
            let [router, output] = self.losses(&tunable, sample);
            let losses = [(router, before.router), (output, before.output)].into_iter();
            let losses = losses.filter_map(|(loss, before)| Some(loss?.div_scalar(scale(before?))));
            let gradients = losses.reduce(|a, b| a + b).map(|loss| loss.backward());
            leaves.into_iter().map(|leaf| leaf?.grad(gradients.as_ref()?)).collect()
        };
        let side_by_side =
            batch.chunks(self.at_once).map(|samples| samples.par_iter().map(gradients).collect::<Vec<_>>());
        let each: Vec<Vec<Option<Tensor<B, 2>>>> = side_by_side.flatten().collect();
        // In the order of samples, so that it does not depend on threads.
        let sum = |i: usize| each.iter().filter_map(|gradients| gradients[i].clone()).reduce(|a, b| a + b);
        (0..parameters.len()).map(|i| Some(sum(i)?.div_scalar(batch.len() as f64))).collect()
    }

    /// Losses of one sample: of the router and of the output, each only where it is to be repaired.
    fn losses(
        &self,
        tunable: &Tunable<Tensor<Autodiff<B>, 2>>,
        sample: &Sample<B>,
    ) -> [Option<Tensor<Autodiff<B>, 1>>; 2] {
        let attended = self.block.attend(tunable, Tensor::from_inner(sample.hidden.clone()));
        let router = self.repair.routers.then(|| {
            let expected = Tensor::from_inner(sample.log_router.clone());
            let surprise = expected.clone() - attended.log_router.clone();
            (expected.exp() * surprise).sum_dim(1).mean()
        });
        let output = (self.repair.norms || self.repair.scales).then(|| {
            let error = self.block.experts(tunable, attended) - Tensor::from_inner(sample.output.clone());
            (error.clone() * error).mean()
        });
        [router, output]
    }

    /// How far the layer is from the 16-bit one, on average over samples.
    pub(super) fn distance(&self, tunable: &Tunable<Tensor<B, 2>>, samples: &[Sample<B>]) -> Distance {
        let tunable = tunable.as_ref().map(|tensor| Tensor::from_inner(tensor.clone()));
        let value = |loss: Tensor<Autodiff<B>, 1>| to_host(loss.inner()).iter().copied().map(f64::from).sum();
        let losses = |sample| self.losses(&tunable, sample).map(|loss| loss.map(value));
        let each: Vec<[Option<f64>; 2]> = samples.par_iter().map(losses).collect();
        let mean = |i: usize| {
            let sum = each.iter().map(|losses| losses[i]).sum::<Option<f64>>();
            sum.map(|sum| sum / samples.len() as f64)
        };
        Distance { router: mean(0), output: mean(1) }
    }
}

impl Distance {
    /// The sum of both parts, each as a share of what it was `before`.
    pub(super) fn relative_to(&self, before: &Self) -> f64 {
        let parts = [(self.router, before.router), (self.output, before.output)];
        parts.into_iter().filter_map(|(now, before)| Some(now? / scale(before?))).sum()
    }
}

/// What a loss is divided by.
const fn scale(before: f64) -> f64 {
    before.max(f32::MIN_POSITIVE as f64)
}

/// One tensor that can be tuned: `start + steps · unit`.
pub(super) struct Parameter<B: PackedOps> {
    start: Tensor<B, 2>,
    unit: Tensor<B, 2>,
    /// `None` if it stays as it is.
    pub(super) steps: Option<Tensor<B, 2>>,
    state: Option<<Adam as SimpleOptimizer<B>>::State<2>>,
}

impl<B: PackedOps> Parameter<B> {
    fn new(start: Tensor<B, 2>, unit: Tensor<B, 2>, tuned: bool) -> Self {
        let steps = tuned.then(|| start.zeros_like());
        Self { start, unit, steps, state: None }
    }

    /// Its steps, to be differentiated by.
    fn leaf(&self) -> Option<Tensor<Autodiff<B>, 2>> {
        self.steps.clone().map(|steps| Tensor::from_inner(steps).require_grad())
    }

    fn value(&self, steps: Option<&Tensor<Autodiff<B>, 2>>) -> Tensor<Autodiff<B>, 2> {
        let start = Tensor::from_inner(self.start.clone());
        match steps {
            Some(steps) => start + steps.clone() * Tensor::from_inner(self.unit.clone()),
            None => start,
        }
    }

    /// Its value, rounded to the type that it is stored with.
    pub(super) fn stored(&self, dtype: DenseType) -> Tensor<B, 2> {
        let Some(steps) = self.steps.clone() else { return self.start.clone() };
        let value = self.start.clone() + steps * self.unit.clone();
        let rounded = to_f32(dtype, &from_f32(dtype, &to_host(value)));
        from_host(rounded, self.start.dims(), &self.start.device())
    }

    fn step(&mut self, adam: &Adam, rate: f64, gradient: Option<Tensor<B, 2>>) {
        if let (Some(steps), Some(gradient)) = (self.steps.take(), gradient) {
            let (steps, state) = adam.step(rate, steps, gradient, self.state.take());
            (self.steps, self.state) = (Some(steps), state);
        }
    }
}
