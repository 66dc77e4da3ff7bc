//! Calibration: text to samples, samples to significance factors.

mod factors;
mod samples;
mod stream;

pub use factors::{FactorOptions, collect_factors};
pub use samples::{Calibration, CalibrationRecord, CalibrationTokens};
pub(crate) use stream::{Routed, Stream};
