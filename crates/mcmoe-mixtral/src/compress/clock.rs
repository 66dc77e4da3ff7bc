//! Where the time of a compression goes.

use std::cell::Cell;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Measuring experts, all of it.
    Measuring,
    /// Samples through quantized layers.
    Forward,
    /// Second moments of inputs.
    Hessians,
    /// Factoring Hessians, rounding, packing, errors.
    Rounding,
    /// Tuning norms, scales and gates.
    Repair,
    /// Reading weights, writing results, checksums.
    Files,
}

/// Seconds and floating-point operations of each kind of work, over all runs of a compression that was
/// resumed. Experts worked on side by side count each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimeSplit {
    /// Measuring experts: the 16-bit model and rounded experts.
    pub measuring: Spent,
    /// Calibration samples through quantized layers.
    pub forward: Spent,
    /// Second moments of the inputs of matrices.
    pub hessians: Spent,
    /// Factoring Hessians, rounding, packing, errors.
    pub rounding: Spent,
    /// Tuning norms, scales and gates.
    pub repair: Spent,
    /// Reading weights, writing results and activations, checksums.
    pub files: Spent,
}

/// What one kind of work took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Spent {
    /// Seconds.
    pub seconds: f64,
    /// Floating-point operations of its matrix products, sums and products counted each.
    pub flops: f64,
}

impl TimeSplit {
    /// The parts with their names.
    pub fn parts(&self) -> [(&'static str, Spent); 6] {
        [
            ("measuring experts", self.measuring),
            ("samples through layers", self.forward),
            ("Hessians", self.hessians),
            ("rounding and packing", self.rounding),
            ("repair", self.repair),
            ("files", self.files),
        ]
    }

    /// Seconds and operations of everything.
    pub fn total(&self) -> Spent {
        let parts = self.parts().map(|(_, spent)| spent);
        Spent {
            seconds: parts.iter().map(|spent| spent.seconds).sum(),
            flops: parts.iter().map(|spent| spent.flops).sum(),
        }
    }

    const fn part(&mut self, part: Part) -> &mut Spent {
        match part {
            Part::Measuring => &mut self.measuring,
            Part::Forward => &mut self.forward,
            Part::Hessians => &mut self.hessians,
            Part::Rounding => &mut self.rounding,
            Part::Repair => &mut self.repair,
            Part::Files => &mut self.files,
        }
    }
}

/// Adds up time from any thread.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<TimeSplit>);

impl Clock {
    /// Goes on from `split`.
    pub(super) const fn from(split: TimeSplit) -> Self {
        Self(Mutex::new(split))
    }

    /// What has been spent so far.
    pub(super) fn split(&self) -> TimeSplit {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does `work` of a kind without products.
    pub(super) fn time<T>(&self, part: Part, work: impl FnOnce() -> T) -> T {
        self.work(part, 0.0, work)
    }

    /// Does `work` of this many operations.
    pub(super) fn work<T>(&self, part: Part, flops: f64, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.add(part, start.elapsed(), flops);
        result
    }

    /// Counts time until dropped as samples passing a layer with this many operations.
    pub(super) fn forward(&self, flops: f64) -> Forward<'_> {
        Forward { clock: self, start: Instant::now(), apart: Cell::default(), flops }
    }

    fn add(&self, part: Part, time: Duration, flops: f64) {
        let mut split = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let spent = split.part(part);
        spent.seconds += time.as_secs_f64();
        spent.flops += flops;
    }
}

/// Samples passing a layer, other work in between left out.
pub(super) struct Forward<'a> {
    clock: &'a Clock,
    start: Instant,
    apart: Cell<Duration>,
    flops: f64,
}

impl Forward<'_> {
    /// Does `work` that counts elsewhere.
    pub(super) fn apart<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.apart.set(self.apart.get() + start.elapsed());
        result
    }
}

impl Drop for Forward<'_> {
    fn drop(&mut self) {
        self.clock.add(Part::Forward, self.start.elapsed().saturating_sub(self.apart.get()), self.flops);
    }
}

/// Floating-point operations of the pipeline's steps.
pub(super) mod flops {
    use crate::folder::MatrixInfo;

    /// `tokens` through a matrix.
    pub(in crate::compress) fn product(info: &MatrixInfo, tokens: usize) -> f64 {
        2.0 * info.rows as f64 * info.cols as f64 * tokens as f64
    }

    /// `tokens` added to a Hessian, of which one half is computed.
    pub(in crate::compress) fn hessian(features: usize, tokens: usize) -> f64 {
        (features as f64).powi(2) * tokens as f64
    }

    /// GPTQ of matrices of the same inputs: Cholesky and triangular inverse once, and for each the sweep and
    /// the energies of weights and errors.
    pub(in crate::compress) fn rounding(infos: &[&MatrixInfo]) -> f64 {
        let cols = infos[0].cols as f64;
        let rows: f64 = infos.iter().map(|info| info.rows as f64).sum();
        2.0 / 3.0 * cols.powi(3) + 3.0 * rows * cols.powi(2)
    }
}
