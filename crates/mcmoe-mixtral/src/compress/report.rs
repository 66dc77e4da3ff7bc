//! `report.json`: what was done and what it cost.

use mcmoe_quant::{ErrorReport, Fallback};
use serde::{Deserialize, Serialize};

use super::{CompressOptions, RepairReport, TimeSplit};
use crate::calibrate::{Calibration, CalibrationRecord};
use crate::json;

/// The record of a compression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CompressReport {
    /// Version of this crate.
    pub version: String,
    /// The quantizer.
    pub quantizer: String,
    /// What the model was calibrated on.
    pub calibration: Option<CalibrationRecord>,
    /// Every packed matrix, layer by layer.
    pub matrices: Vec<MatrixReport>,
    /// What repair did to each layer, if it was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<RepairReport>,
    /// Where the time went. Not in the file, which is the same whenever it is made.
    #[serde(skip)]
    pub times: TimeSplit,
}

/// One packed matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MatrixReport {
    /// Full name, without `.weight`.
    pub name: String,
    /// Bits a code.
    #[serde(serialize_with = "json::whole_or_not")]
    pub bits: f64,
    /// Calibration tokens that reached it; absent for methods that need none.
    pub tokens: Option<usize>,
    /// What was lost.
    #[serde(flatten)]
    pub errors: ErrorReport,
}

impl CompressReport {
    pub(super) fn new(options: &CompressOptions) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            quantizer: options.quantizer.name().to_owned(),
            calibration: options.calibration.as_ref().map(Calibration::record),
            matrices: Vec::new(),
            repairs: Vec::new(),
            times: TimeSplit::default(),
        }
    }

    /// Whether it is of a compression with this quantizer and calibration.
    pub(super) fn is_of(&self, options: &CompressOptions) -> bool {
        let Self { version, quantizer, calibration, .. } = Self::new(options);
        (version, quantizer, calibration)
            == (self.version.clone(), self.quantizer.clone(), self.calibration.clone())
    }
}

/// Matrices that calibration did not reach well enough to be quantized as asked.
pub fn rarely_reached(report: &CompressReport) -> impl Iterator<Item = (&MatrixReport, Fallback)> {
    let calibrated = report.matrices.iter().filter(|matrix| matrix.tokens.is_some());
    calibrated.filter_map(|matrix| matrix.errors.fallback.map(|fallback| (matrix, fallback)))
}
