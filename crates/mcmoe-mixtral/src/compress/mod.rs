//! The whole compression: factors, allocation, quantization layer by layer, the folder.
//!
//! | file | holds |
//! |---|---|
//! | `job` | the steps, each done layer on record |
//! | `layer` | one layer: Hessians, rounding, the stream moved on |
//! | `moment` | Hessians, summed up where the model runs |
//! | `repair` | norms, scales and gate of a quantized layer tuned towards the 16-bit one |
//! | `work`, `journal`, `fingerprint` | what an unfinished run leaves and what it may go on from |
//! | `plan`, `clock` | what it will take, what it took |

mod clock;
mod fingerprint;
mod goal;
mod job;
mod journal;
mod layer;
mod moment;
mod options;
mod plan;
mod repair;
mod report;
mod work;

use std::path::Path;

use mcmoe_tensor_kernels::PackedOps;

pub use clock::{Spent, TimeSplit};
pub use goal::SizeGoal;
pub(crate) use goal::folder_bytes;
pub use options::{CompressOptions, Quantizer};
pub use plan::{Plan, plan};
pub use repair::{Change, Repair, RepairReport};
pub use report::{CompressReport, MatrixReport, rarely_reached};

use crate::folder::{ModelFolder, files};
use crate::{MixtralError, Progress, json};
use job::Job;
use work::{WorkFolder, names_besides_work};

/// Compresses the dense model in `model_dir` to the folder `out_dir`.
///
/// Layers are quantized in order, each calibrated on the outputs of the quantized ones before it. A few
/// matrices are in memory at a time ([`plan`] says how much that takes); the samples' activations lie in files
/// of the work folder, where everything is that a run which was stopped goes on from: the same call continues
/// it and ends in the same bytes. `out_dir` appears only when everything in it is complete.
///
/// # Errors
/// [`MixtralError::OutputExists`], [`MixtralError::Option`] for options that contradict each other,
/// [`MixtralError::OtherRun`] and its like for a work folder that cannot be used, and whatever reading the
/// model, the calibration text and writing the result can bring.
pub fn compress<B: PackedOps>(
    model_dir: &Path,
    out_dir: &Path,
    options: &CompressOptions,
    device: &B::Device,
    progress: &dyn Progress,
) -> Result<CompressReport, MixtralError> {
    let folder = ModelFolder::open(model_dir)?;
    folder.check_dense()?;
    options.check(folder.config())?;
    let occupied = !names_besides_work(out_dir)?.is_empty();
    let work = WorkFolder::open(out_dir, options.work_dir.as_deref())?;
    if occupied && !work.has_journal() {
        return leftover(work, out_dir, options);
    }
    let done = Job::begin(&folder, options, &work, progress).and_then(|(job, mut journal)| {
        if occupied && !journal.is_finished() {
            return Err(MixtralError::OutputExists { path: out_dir.to_owned() });
        }
        job.run::<B>(&mut journal, device)?;
        job.publish(&journal, out_dir)?;
        Ok(job.times())
    });
    let times = match done {
        Ok(times) => times,
        Err(error) => {
            work.leave(&error);
            return Err(error);
        }
    };
    if let Err(e) = work.remove() {
        tracing::warn!("the result is complete, but its work folder stays: {e}");
    }
    Ok(CompressReport { times, ..json::read(&out_dir.join(files::REPORT))? })
}

/// The output is the complete one of a run that was stopped while it removed its work folder; or it is
/// something else, and stays.
fn leftover(
    work: WorkFolder,
    out_dir: &Path,
    options: &CompressOptions,
) -> Result<CompressReport, MixtralError> {
    let known = work.is_known() && options.resume;
    work.remove()?;
    let report = known.then(|| json::read::<CompressReport>(&out_dir.join(files::REPORT)).ok()).flatten();
    match report {
        Some(report) if report.is_of(options) => Ok(report),
        _ => Err(MixtralError::OutputExists { path: out_dir.to_owned() }),
    }
}
