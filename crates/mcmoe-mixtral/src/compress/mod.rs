//! The whole compression: factors, allocation, quantization layer by layer, the folder.

mod goal;
mod layer;
mod options;
mod report;

use std::path::Path;

use mcmoe_allocator::{Allocation, Allocator, Factors};
use mcmoe_tensor_kernels::PackedOps;

pub use goal::SizeGoal;
pub(crate) use goal::folder_bytes;
pub use options::CompressOptions;
pub use report::{CompressReport, MatrixReport, rarely_reached};

use crate::calibrate::{Calibration, CalibrationTokens, FactorOptions, Stream, collect_factors};
use crate::checkpoint::ShardWriter;
use crate::folder::{
    MatrixInfo, ModelFolder, QuantizationConfig, Staging, Thresholds, dense_tensors, files, packed_layer,
};
use crate::model::LayerWidths;
use crate::{MixtralError, Progress, Tokenizer, json};

/// Compresses the dense model in `model_dir` to the folder `out_dir`.
///
/// Layers are quantized in order, each calibrated on the outputs of the quantized ones before it; one
/// layer's weights are in memory at a time. `out_dir` appears only when everything in it is complete.
///
/// # Errors
/// [`MixtralError::OutputExists`], [`MixtralError::Option`] for options that contradict each other,
/// and whatever reading the model, the calibration text and writing the result can bring.
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
    let staging = Staging::create(out_dir)?;
    let tokens = options.tokens(&Tokenizer::read(model_dir)?)?;
    let job = Job { folder: &folder, options, tokens, progress };

    let (factors, allocation) = job.allocate::<B>(device)?;
    let average = allocation.average_bits();
    tracing::info!(expert_bits = average, "bits allocated");
    let quantization =
        QuantizationConfig::new(options.group_size, options.attention_bits, average, options.quantizer());
    let widths = quantization.widths(&allocation, model_dir)?;
    let report = job.quantize::<B>(&widths, staging.dir(), device)?;

    folder.config().write(staging.dir(), Some(&quantization))?;
    allocation.write(staging.dir().join(files::ALLOCATION))?;
    if let Some(factors) = &factors {
        job.write_factors(factors, staging.dir())?;
    }
    json::write(&staging.dir().join(files::REPORT), &report)?;
    staging.copy(model_dir, &files::COPIED)?;
    options.size.check_result(staging.dir())?;
    staging.commit()?;
    Ok(report)
}

/// Where the experts' widths come from.
enum Widths<'a> {
    Given(&'a Allocation),
    Sought(Allocator),
}

/// A compression under way.
struct Job<'a> {
    folder: &'a ModelFolder,
    options: &'a CompressOptions,
    /// The calibration text; `None` for methods that need none.
    tokens: Option<CalibrationTokens>,
    progress: &'a dyn Progress,
}

impl Job<'_> {
    /// Measures what the allocation needs and decides the widths.
    fn allocate<B: PackedOps>(
        &self,
        device: &B::Device,
    ) -> Result<(Option<Factors>, Allocation), MixtralError> {
        let config = self.folder.config();
        let (layers, experts) = (config.num_hidden_layers, config.num_local_experts);
        let widths = match &self.options.allocation {
            Some(allocation) => Widths::Given(allocation),
            None => Widths::Sought(Allocator::new(self.options.allocator(self.folder)?)),
        };
        if let Widths::Sought(allocator) = &widths {
            allocator.check(layers, experts, &CompressOptions::WIDTHS)?;
        }
        let losses = matches!(widths, Widths::Sought(_)) && self.options.needs_losses();
        let factors = match &self.tokens {
            None => None,
            Some(tokens) => {
                let bits = if losses { CompressOptions::WIDTHS.to_vec() } else { Vec::new() };
                let options = FactorOptions::default().bits(bits).group_size(self.options.group_size);
                let source = self.folder.source();
                let mut factors =
                    collect_factors::<B>(&source, &tokens.blocks()?, &options, device, self.progress)?;
                factors.bits = CompressOptions::WIDTHS.to_vec();
                Some(factors)
            }
        };
        let unmeasured = || Factors::unmeasured(layers, experts, CompressOptions::WIDTHS.to_vec());
        let allocation = match widths {
            Widths::Given(allocation) => allocation.clone(),
            Widths::Sought(allocator) => allocator.allocate(&factors.clone().unwrap_or_else(unmeasured))?,
        };
        allocation.validate(layers, experts, &CompressOptions::WIDTHS_IN_FILES)?;
        Ok((factors, allocation))
    }

    /// Quantizes and writes every layer.
    fn quantize<B: PackedOps>(
        &self,
        widths: &[LayerWidths],
        out_dir: &Path,
        device: &B::Device,
    ) -> Result<CompressReport, MixtralError> {
        let (config, source) = (self.folder.config(), self.folder.source());
        let mut shards = ShardWriter::new(out_dir, config.num_hidden_layers + 1);
        shards.write(&dense_tensors(source.checkpoint, config)?)?;
        let mut stream = match self.tokens.as_ref().filter(|_| self.options.needs_hessians()) {
            Some(tokens) => Some(Stream::<B>::embed(&source, &tokens.windows()?, device)?),
            None => None,
        };
        let mut report = CompressReport::new(self.options);
        let matrices = MatrixInfo::of_layer(config, 0).len();
        self.progress.start("quantizing", (matrices * widths.len()) as u64);
        for (l, widths) in widths.iter().enumerate() {
            let task = layer::LayerTask { source, l, widths, options: self.options, device };
            let done = match stream.as_mut() {
                Some(stream) => task.calibrated(stream, self.progress)?,
                None => task.data_free(self.progress)?,
            };
            let (packed, matrices): (Vec<_>, Vec<_>) =
                done.into_iter().map(|matrix| ((matrix.name, matrix.packed), matrix.report)).unzip();
            shards.write(&packed_layer(source.checkpoint, config, l, &packed)?)?;
            for matrix in &matrices {
                let MatrixReport { name, bits, tokens, errors } = matrix;
                tracing::debug!(name, bits, tokens, output_error = errors.output_error, "quantized");
            }
            tracing::info!(layer = l, "layer written");
            report.matrices.extend(matrices);
        }
        self.progress.finish();
        shards.finish()?;
        Ok(report)
    }

    /// Writes `pruning.json` and, if everything was measured, `factors.json`.
    fn write_factors(&self, factors: &Factors, dir: &Path) -> Result<(), MixtralError> {
        if let Some(medians) = &factors.ratio_median {
            let thresholds = medians.iter().map(|&median| median as f32).collect();
            json::write(&dir.join(files::PRUNING), &Thresholds { thresholds })?;
        }
        if factors.validate().is_ok() {
            let mut factors = factors.clone();
            let record = self.options.calibration.as_ref().map(Calibration::record);
            factors.calibration = record.map(|record| record.data.join(", "));
            factors.write(dir.join(files::FACTORS))?;
        }
        Ok(())
    }
}
