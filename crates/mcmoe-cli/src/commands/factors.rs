//! `mcmoe factors`.

use mcmoe_mixtral::calibrate::{Calibration, FactorOptions, collect_factors};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::{Factors, MixtralError, OnDevice, PackedOps, Tokenizer};

use super::Failure;
use super::shared::{self, run_on};
use crate::args::FactorsArgs;
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: FactorsArgs) -> Result<(), Failure> {
    let folder = ModelFolder::open(&args.model_dir)?;
    folder.check_dense()?;
    let Some(calibration) = shared::calibration(args.calibration, folder.config()) else {
        return Err(Failure::Usage(
            "--calibration KIND:PATH is needed, for example wikitext2:train.txt".into(),
        ));
    };
    shared::check_output(&args.output)?;
    // Activations of a large model's samples take many gigabytes: they go where the result goes.
    let work_dir = shared::folder_of(&args.output).to_owned();
    let options = FactorOptions::default().group_size(args.group_size).work_dir(work_dir);
    let options = options.matrices(args.matrices);
    let data = calibration.record().data.join(", ");
    let mut factors = run_on(&args.device, Collect { folder: &folder, calibration, options })?;
    factors.calibration = Some(data);
    factors.write(&args.output)?;
    if args.json { output::json(&factors) } else { Ok(()) }
}

struct Collect<'a> {
    folder: &'a ModelFolder,
    calibration: Calibration,
    options: FactorOptions,
}

impl OnDevice for Collect<'_> {
    type Output = Factors;

    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<Factors, MixtralError> {
        let samples = self.calibration.tokenize(&Tokenizer::read(self.folder.dir())?)?.blocks()?;
        collect_factors::<B>(&self.folder.source(), &samples, &self.options, &devices[0], &Reporter::new())
    }
}
