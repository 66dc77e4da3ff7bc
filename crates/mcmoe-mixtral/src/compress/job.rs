//! The steps of a compression, each finished layer on record before the next begins.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use mcmoe_allocator::{Allocation, Allocator, Factors};
use mcmoe_quant::TrellisRate;
use mcmoe_quant::store::StoredTensor;
use mcmoe_tensor_kernels::PackedOps;

use super::clock::{Clock, Part, TimeSplit};
use super::fingerprint::Fingerprint;
use super::journal::Journal;
use super::layer::{Done, LayerTask};
use super::repair::{RepairReport, Repairs, Tuned};
use super::work::{WorkFolder, names_besides_work};
use super::{CompressOptions, CompressReport, MatrixReport};
use crate::calibrate::{
    Advanced, Calibration, CalibrationTokens, FactorOptions, LayerFactors, Measuring, Place, Stream,
    sensitivities,
};
use crate::checkpoint::ShardWriter;
use crate::durable::{self, Digest};
use crate::folder::{
    Checksums, MatrixInfo, ModelFolder, QuantizationConfig, Thresholds, copy_files, dense_tensors, files,
    packed_layer, publish, sync,
};
use crate::model::{LayerWidths, names};
use crate::{MixtralError, Progress, Tokenizer, json};

/// Where the experts' widths come from.
enum Widths<'a> {
    Given(&'a Allocation),
    Sought(Allocator),
}

/// Calibration samples behind the layers that are quantized.
struct Samples<'a, B: PackedOps> {
    stream: Stream<'a, B>,
    repairs: Option<Repairs<'a, B>>,
}

/// A layer as it is to be written.
struct Layer {
    matrices: Vec<Done>,
    /// New values of what is not packed, and what that was good for.
    repaired: Option<(Vec<Tuned>, RepairReport)>,
    advanced: Option<Advanced>,
}

impl<B: PackedOps> Samples<'_, B> {
    /// Quantizes and repairs the next layer, and goes behind it.
    fn layer(&mut self, task: &LayerTask<'_, B>, progress: &dyn Progress) -> Result<Layer, MixtralError> {
        let (mut matrices, mut advanced) = task.calibrated(&mut self.stream, progress)?;
        let repaired = match &mut self.repairs {
            Some(repairs) => {
                let repair = || repairs.layer(task, &mut matrices, &mut self.stream, &mut advanced);
                Some(task.clock.time(Part::Repair, repair)?)
            }
            None => None,
        };
        Ok(Layer { matrices, repaired, advanced: Some(advanced) })
    }
}

/// A compression under way.
pub(super) struct Job<'a> {
    folder: &'a ModelFolder,
    options: &'a CompressOptions,
    /// The calibration text; `None` for methods that need none.
    tokens: Option<CalibrationTokens>,
    work: &'a WorkFolder,
    progress: &'a dyn Progress,
    clock: Clock,
    /// The result was complete when this run began.
    resumed: bool,
}

impl<'a> Job<'a> {
    /// Reads the inputs and finds where the work left off, if it was begun.
    pub(super) fn begin(
        folder: &'a ModelFolder,
        options: &'a CompressOptions,
        work: &'a WorkFolder,
        progress: &'a dyn Progress,
    ) -> Result<(Self, Journal), MixtralError> {
        let tokens = options.tokens(&Tokenizer::read(folder.dir())?)?;
        let fingerprint = Fingerprint::of(folder, options, tokens.as_ref(), progress)?;
        let journal = work.journal(fingerprint, options.resume)?;
        let clock = Clock::from(journal.state.times);
        let resumed = journal.is_finished();
        Ok((Self { folder, options, tokens, work, progress, clock, resumed }, journal))
    }

    /// Time spent so far.
    pub(super) fn times(&self) -> TimeSplit {
        self.clock.split()
    }

    /// Does everything that is not done yet. The result is complete then, in the work folder.
    pub(super) fn run<B: PackedOps>(
        &self,
        journal: &mut Journal,
        device: &B::Device,
    ) -> Result<(), MixtralError> {
        if journal.is_finished() {
            return Ok(());
        }
        let (factors, allocation) = self.allocate::<B>(journal, device)?;
        let average = allocation.average_bits();
        tracing::info!(expert_bits = average, "bits allocated");
        let options = self.options;
        let quantization = QuantizationConfig::new(options, average);
        let widths = quantization.widths(&allocation, self.folder.dir())?;
        let shards = self.quantize::<B>(&widths, journal, device)?;

        let dir = self.work.result();
        self.folder.config().write(&dir, Some(&quantization))?;
        allocation.write(dir.join(files::ALLOCATION))?;
        if let Some(factors) = &factors {
            self.write_factors(factors, &dir)?;
        }
        let mut report = CompressReport::new(options);
        let records = journal.state.quantized.iter().flatten().cloned();
        report.matrices = records.map(MatrixReport::from).collect();
        report.repairs.clone_from(&journal.state.repairs);
        json::write(&dir.join(files::REPORT), &report)?;
        copy_files(self.folder.dir(), &dir, &files::COPIED)?;
        let checksums = self.clock.time(Part::Files, || Checksums::of(&dir, &shards))?;
        checksums.write(&dir)?;
        options.size.check_result(&dir)?;
        sync(&dir).map_err(|e| MixtralError::write(&dir, e))?;
        journal.state.finished = Some(checksums.0);
        self.record(journal)
    }

    /// Gives the complete result its name. Can be repeated if it was interrupted.
    pub(super) fn publish(&self, journal: &Journal, out_dir: &Path) -> Result<(), MixtralError> {
        let Some(finished) = &journal.state.finished else { return Ok(()) };
        let known = |name: &String| {
            [files::CHECKSUMS, files::PARTIAL].contains(&name.as_str())
                || finished.iter().any(|(other, _)| other == name)
        };
        let foreign = || MixtralError::OutputExists { path: out_dir.to_owned() };
        if !names_besides_work(out_dir)?.iter().all(known) {
            return Err(foreign());
        }
        // What lies there under the same names must be what an interrupted run put there, and what lies in
        // the work folder what was finished.
        let result = self.work.result();
        for (name, digest) in finished {
            let (there, here) = (out_dir.join(name), result.join(name));
            if there.exists() {
                digest.check_file(&there).map_err(|_| foreign())?;
            } else if self.resumed {
                digest.check_file(&here)?;
            }
        }
        self.clock.time(Part::Files, || publish(&result, out_dir))
    }

    fn record(&self, journal: &mut Journal) -> Result<(), MixtralError> {
        journal.state.times = self.times();
        journal.record()
    }

    /// Measures what the allocation needs and decides the widths.
    fn allocate<B: PackedOps>(
        &self,
        journal: &mut Journal,
        device: &B::Device,
    ) -> Result<(Option<Factors>, Allocation), MixtralError> {
        let config = self.folder.config();
        let (layers, experts) = (config.num_hidden_layers, config.num_local_experts);
        let widths = match &self.options.allocation {
            Some(allocation) => Widths::Given(allocation),
            None => Widths::Sought(Allocator::new(self.options.allocator(self.folder)?)),
        };
        let matrices = self.options.needs_matrix_losses();
        if let Widths::Sought(allocator) = &widths {
            if matrices {
                let bits = TrellisRate::ALL.map(TrellisRate::bits).to_vec();
                allocator.check_matrices(layers, experts, names::EXPERT.len(), bits)?;
            } else {
                allocator.check(layers, experts, &CompressOptions::WIDTHS)?;
            }
        }
        let losses = matches!(widths, Widths::Sought(_)) && self.options.needs_losses();
        let factors = match &self.tokens {
            None => None,
            Some(tokens) => {
                let bits = if losses { CompressOptions::WIDTHS.to_vec() } else { Vec::new() };
                let options = FactorOptions::default().bits(bits).group_size(self.options.group_size);
                let (options, samples) = (options.matrices(matrices), tokens.blocks()?);
                if matrices && journal.state.sensitivities.is_empty() {
                    let source = self.folder.source();
                    let measure = || sensitivities::<B>(&source, &samples, device, self.progress);
                    journal.state.sensitivities = self.clock.time(Part::Measuring, measure)?;
                    self.record(journal)?;
                }
                self.measure::<B>(&samples, &options, journal, device)?;
                let state = &journal.state;
                let mut factors =
                    LayerFactors::collect(state.measured.clone(), &options.bits, &state.sensitivities);
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

    /// Measures the layers that are not measured yet.
    fn measure<B: PackedOps>(
        &self,
        samples: &[Vec<u32>],
        options: &FactorOptions,
        journal: &mut Journal,
        device: &B::Device,
    ) -> Result<(), MixtralError> {
        let (config, source) = (self.folder.config(), self.folder.source());
        let (layers, done) = (config.num_hidden_layers, journal.state.measured.len());
        if done == layers {
            return Ok(());
        }
        let place = Measuring::<B>::place(self.work.dir());
        let stream = self.stream::<B>(samples, place, done, journal, device)?;
        let mut measuring = Measuring { source, options, stream, device };
        self.progress.start("measuring experts", ((layers - done) * config.num_local_experts) as u64);
        for l in done..layers {
            let work = measuring.flops();
            let layer = self.clock.work(Part::Measuring, work, || measuring.layer(l, self.progress));
            let (layer, advanced) = layer?;
            journal.state.measured.push(layer);
            self.advance(journal, advanced, l + 1 == layers)?;
            tracing::info!(layer = l, "layer measured");
        }
        self.progress.finish();
        measuring.stream.finish();
        Ok(())
    }

    /// Quantizes and writes the layers that are not quantized yet; returns the digests of all shards.
    fn quantize<B: PackedOps>(
        &self,
        widths: &[LayerWidths],
        journal: &mut Journal,
        device: &B::Device,
    ) -> Result<HashMap<PathBuf, Digest>, MixtralError> {
        let (config, source) = (self.folder.config(), self.folder.source());
        let (layers, done) = (config.num_hidden_layers, journal.state.quantized.len());
        let mut shards = self.shards(journal)?;
        let mut samples = self.samples::<B>(done, journal, device)?;
        let matrices = MatrixInfo::of_layer(config, 0).len();
        self.progress.start("quantizing", (matrices * (layers - done)) as u64);
        for l in done..layers {
            let (widths, clock) = (&widths[l], &self.clock);
            let task = LayerTask { source, l, widths, options: self.options, device, clock };
            let Layer { matrices, repaired, advanced } = match &mut samples {
                Some(samples) => samples.layer(&task, self.progress)?,
                None => Layer { matrices: task.data_free(self.progress)?, repaired: None, advanced: None },
            };
            self.keep(l, matrices, repaired, &mut shards, journal)?;
            match advanced {
                Some(advanced) => self.advance(journal, advanced, l + 1 == layers)?,
                None => self.record(journal)?,
            }
            tracing::info!(layer = l, "layer written");
        }
        self.progress.finish();
        if let Some(samples) = samples {
            samples.stream.finish();
        }
        let digests = shards.written().zip(journal.state.shards.iter().copied()).collect();
        shards.finish()?;
        Ok(digests)
    }

    /// The shards of the result so far, at least the one that is not of a layer.
    fn shards(&self, journal: &mut Journal) -> Result<ShardWriter, MixtralError> {
        let (config, checkpoint) = (self.folder.config(), self.folder.checkpoint());
        let count = config.num_hidden_layers + 1;
        let mut shards = ShardWriter::new(&self.work.result(), count).after(journal.state.shards.len());
        let written: Vec<_> = shards.written().collect();
        self.work.keep_only(&written)?;
        for (path, digest) in written.iter().zip(&journal.state.shards) {
            digest.check_file(path)?;
        }
        if journal.state.shards.is_empty() {
            let tensors = dense_tensors(checkpoint, config)?;
            let digest = self.shard(&mut shards, &tensors)?;
            tensors.iter().for_each(|tensor| tensor.data.unload());
            journal.state.shards.push(digest);
        }
        Ok(shards)
    }

    /// The samples before layer `l`, if layers are quantized on samples and any are left.
    fn samples<B: PackedOps>(
        &self,
        l: usize,
        journal: &Journal,
        device: &B::Device,
    ) -> Result<Option<Samples<'_, B>>, MixtralError> {
        let wanted = self.options.needs_hessians() && l < self.folder.config().num_hidden_layers;
        let Some(tokens) = self.tokens.as_ref().filter(|_| wanted) else { return Ok(None) };
        let windows = tokens.windows()?;
        let place = Place { dir: self.work.dir(), name: "quantizing" };
        let stream = self.stream::<B>(&windows, place, l, journal, device)?;
        let repair = self.options.repair_in_use();
        let begin = || Repairs::before(l, repair, self.folder.source(), &windows, device);
        let repairs = repair.any().then(|| self.clock.time(Part::Repair, begin)).transpose()?;
        Ok(Some(Samples { stream, repairs }))
    }

    /// Writes the shard of layer `l`.
    fn keep(
        &self,
        l: usize,
        done: Vec<Done>,
        repaired: Option<(Vec<Tuned>, RepairReport)>,
        shards: &mut ShardWriter,
        journal: &mut Journal,
    ) -> Result<(), MixtralError> {
        let (packed, matrices): (Vec<_>, Vec<_>) =
            done.into_iter().map(|matrix| ((matrix.name, matrix.packed), matrix.report)).unzip();
        for MatrixReport { name, bits, tokens, errors } in &matrices {
            tracing::debug!(name, bits, tokens, output_error = errors.output_error, "quantized");
        }
        let mut tensors = packed_layer(self.folder.checkpoint(), self.folder.config(), l, &packed)?;
        if let Some((tuned, report)) = repaired {
            tuned.into_iter().for_each(|tuned| tuned.replace_in(&mut tensors));
            journal.state.repairs.push(report);
        }
        journal.state.shards.push(self.shard(shards, &tensors)?);
        journal.state.quantized.push(matrices.iter().map(Into::into).collect());
        Ok(())
    }

    /// Writes a shard that survives a crash.
    fn shard(&self, shards: &mut ShardWriter, tensors: &[StoredTensor]) -> Result<Digest, MixtralError> {
        self.clock.time(Part::Files, || {
            let path = shards.write(tensors)?;
            durable::sync_file(&path)?;
            let dir = self.work.result();
            durable::sync_folder(&dir).map_err(|e| MixtralError::write(&dir, e))?;
            Digest::of_file(&path)
        })
    }

    /// The samples before layer `l`, as the journal left them.
    fn stream<'s, B: PackedOps>(
        &'s self,
        samples: &[Vec<u32>],
        place: Place<'s>,
        l: usize,
        journal: &Journal,
        device: &B::Device,
    ) -> Result<Stream<'s, B>, MixtralError> {
        let source = self.folder.source();
        match journal.state.activations.filter(|_| l > 0) {
            Some(digest) => {
                self.work.remove_activations(Some(&place.before(l)))?;
                let rows = samples.iter().map(Vec::len).collect();
                Stream::resume(&source, rows, place, (l, digest), device)
            }
            None => {
                self.work.remove_activations(None)?;
                Stream::embed(&source, samples, place, device)
            }
        }
    }

    /// Puts a layer on record and lets go of the samples as they were before it; after the last layer of a
    /// phase nobody needs the new ones either.
    fn advance(&self, journal: &mut Journal, advanced: Advanced, last: bool) -> Result<(), MixtralError> {
        let dir = self.work.dir();
        durable::sync_folder(dir).map_err(|e| MixtralError::write(dir, e))?;
        journal.state.activations = (!last).then_some(advanced.digest);
        self.record(journal)?;
        advanced.old.remove();
        Ok(())
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
