//! Compressed folders for tests.

use std::path::Path;

use mcmoe_mixtral::calibrate::Calibration;
use mcmoe_mixtral::compress::{CompressOptions, CompressReport, SizeGoal, compress};
use mcmoe_mixtral::{CpuBackend, Method, MixtralError, Mode, Silent};
use tempfile::TempDir;

/// 8 sequences of 64 tokens of the demo model's calibration text.
pub(crate) fn calibration() -> Calibration {
    let path = super::demo().join("calibration.txt");
    Calibration::new(format!("text:{}", path.display()).parse().unwrap()).samples(8).seq_len(64)
}

/// [`compress`] on the CPU.
pub(crate) fn try_run(
    model: &Path,
    out: &Path,
    options: &CompressOptions,
) -> Result<CompressReport, MixtralError> {
    compress::<CpuBackend>(model, out, options, &Default::default(), &Silent)
}

/// A compression into a temporary folder.
pub(crate) fn run(model: &Path, options: &CompressOptions) -> (TempDir, CompressReport) {
    let dir = TempDir::new().unwrap();
    let report = try_run(model, dir.path(), options).unwrap();
    (dir, report)
}

/// The demo model with every expert at `bits` bits, rounded to nearest without calibration.
pub(crate) fn data_free(bits: u8) -> TempDir {
    let size = SizeGoal::ExpertBits(f64::from(bits));
    let options = CompressOptions::default().size(size).mode(Mode::Uniform).method(Method::Rtn);
    run(&super::demo(), &options).0
}
