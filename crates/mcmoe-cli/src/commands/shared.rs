//! What several commands do with their arguments.

use std::path::Path;

use mcmoe_mixtral::calibrate::Calibration;
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::model::{Mixtral, Pruning};
use mcmoe_mixtral::{Device, MixtralConfig, MixtralError, OnDevice, PackedOps, Precision};

use crate::args::{CalibrationArgs, ModeArg, ModeArgs, RunArgs};
use crate::progress::Reporter;

/// Tokens a sequence where the user does not say.
const DEFAULT_SEQ_LEN: usize = 2048;

/// The tokens a sequence: what the user says, else 2048, but no more than the model was made for.
pub(super) fn seq_len(wanted: Option<usize>, config: &MixtralConfig) -> usize {
    let most = config.max_position_embeddings().unwrap_or(DEFAULT_SEQ_LEN);
    wanted.unwrap_or_else(|| DEFAULT_SEQ_LEN.min(most))
}

/// The calibration that the arguments describe, if any.
pub(super) fn calibration(args: CalibrationArgs, config: &MixtralConfig) -> Option<Calibration> {
    let seq_len = seq_len(args.seq_len, config);
    let calibration = Calibration::new(args.calibration?);
    Some(calibration.samples(args.samples).seq_len(seq_len).seed(args.seed))
}

pub(super) fn mode(mode: ModeArg, args: &ModeArgs) -> mcmoe_mixtral::Mode {
    match mode {
        ModeArg::Global => mcmoe_mixtral::Mode::Global,
        ModeArg::Mixed => mcmoe_mixtral::Mode::Mixed,
        ModeArg::Uniform => mcmoe_mixtral::Mode::Uniform,
        ModeArg::Random => mcmoe_mixtral::Mode::Random,
        ModeArg::Manual => mcmoe_mixtral::Mode::Manual { high: args.high, low: args.low },
    }
}

/// Work with a loaded model.
pub(super) trait WithModel {
    type Output;

    fn run<B: PackedOps>(self, model: &Mixtral<B>) -> Result<Self::Output, MixtralError>;
}

/// Does `work` on `device`. A graphics card tells of its failures by panics, which become errors: nobody has to
/// read about them twice.
pub(crate) fn run_on<W: OnDevice>(device: &Device, work: W) -> Result<W::Output, MixtralError> {
    if *device != Device::Cpu {
        std::panic::set_hook(Box::new(|_| ()));
    }
    device.run(work)
}

/// Loads the model of `folder` on `device` with the wanted pruning and does `work` with it.
pub(super) fn with_model<W: WithModel>(
    folder: &ModelFolder,
    args: &RunArgs,
    work: W,
) -> Result<W::Output, MixtralError> {
    if args.verify {
        folder.verify(&Reporter::new())?;
    }
    let prune = &args.prune;
    let pruning = if prune.prune { Some(folder.pruning(prune.protect)?) } else { None };
    let work = Loaded { folder, pruning, precision: args.compute.activations, work };
    run_on(&args.compute.device, work).map_err(|error| match error {
        // Opening looks at no packed byte: perhaps one of them is to blame, and can be named.
        MixtralError::NotFinite { .. } => folder.check_contents().err().unwrap_or(error),
        error => error,
    })
}

/// Makes sure that a file can come to lie at `path`, before hours of work for it.
pub(super) fn check_output(path: &Path) -> Result<(), MixtralError> {
    let refused = |source| MixtralError::Write { path: path.to_owned(), source };
    if path.is_dir() {
        return Err(refused(std::io::ErrorKind::IsADirectory.into()));
    }
    std::fs::read_dir(folder_of(path)).map(drop).map_err(refused)
}

/// The folder that `path` lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

struct Loaded<'a, W> {
    folder: &'a ModelFolder,
    pruning: Option<Pruning>,
    precision: Precision,
    work: W,
}

impl<W: WithModel> OnDevice for Loaded<'_, W> {
    type Output = W::Output;

    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<W::Output, MixtralError> {
        let mut model = self.folder.model_with::<B>(self.precision, devices)?;
        model.set_pruning(self.pruning)?;
        self.work.run(&model)
    }
}
