//! Calibration: text to samples, samples to significance factors.

mod activations;
mod factors;
mod matrices;
mod samples;
mod sensitivity;
mod stream;

pub(crate) use activations::ActivationFile;
pub use factors::{FactorOptions, collect_factors};
pub(crate) use factors::{LayerFactors, Measuring};
pub use samples::{Calibration, CalibrationRecord, CalibrationTokens};
pub(crate) use sensitivity::sensitivities;
pub(crate) use stream::{Advanced, Place, Routed, Stream, Weights, sample_bytes, samples_at_once};
