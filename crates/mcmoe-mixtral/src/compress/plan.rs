//! What a compression will take, before it is begun.

use std::path::Path;

use mcmoe_tensor_kernels::PackedOps;
use serde::Serialize;

use super::clock::flops;
use super::goal::{bytes_besides_experts, stored_bits};
use super::repair::Effort;
use super::{CompressOptions, Quantizer, SizeGoal};
use crate::bench::matmul_flops;
use crate::calibrate::{sample_bytes, samples_at_once};
use crate::folder::{MatrixInfo, MatrixKind, ModelFolder};
use crate::{MixtralConfig, MixtralError};

/// Memory besides weights and activations: the program, the tokenizer and the text, what allocators keep.
const FIXED_BYTES: u64 = 512 << 20;
/// Memory that experts worked on side by side may take.
const SIDE_BY_SIDE_BYTES: u64 = 1 << 30;
/// The part of the speed of a large product that the whole pipeline reaches.
const EFFICIENCY: f64 = 0.7;
/// Operations of a large product in the time in which one weight of a 2-bit trellis is searched for.
const SEARCH_FLOPS: f64 = 4e5;
/// Bytes that files are read and written a second.
const FILE_BYTES_A_SECOND: f64 = 1e9;
const F32: u64 = size_of::<f32>() as u64;

/// Size, memory, disk and time of a compression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Decoder layers.
    pub layers: usize,
    /// Tokens that pass through every layer, measuring not counted.
    pub calibration_tokens: u64,
    /// Bytes of the result: exact but for small files, the most where a size is asked for.
    pub result_bytes: u64,
    /// Most memory in use.
    pub memory_bytes: u64,
    /// Of these: one layer's weights in `f32` and the Hessians that are built at a time, for comparison.
    pub layer_bytes: u64,
    /// See `layer_bytes`.
    pub hessian_bytes: u64,
    /// Most disk in use: activations in the work folder and the result.
    pub disk_bytes: u64,
    /// Seconds, from operations and the measured speed of this machine. Rough: within a factor of two.
    pub seconds: f64,
    /// The measured speed: floating-point operations a second of a large product.
    pub flops: f64,
}

/// Plans the compression of the model in `model_dir`: reads its config and headers, and measures the machine
/// for about a second.
///
/// # Errors
/// Those that [`super::compress`] finds before it begins.
pub fn plan<B: PackedOps>(
    model_dir: &Path,
    options: &CompressOptions,
    device: &B::Device,
) -> Result<Plan, MixtralError> {
    let folder = ModelFolder::open(model_dir)?;
    folder.check_dense()?;
    options.check(folder.config())?;
    let (size, flops) = (Size::of(folder.config(), options), matmul_flops::<B>(device));
    let result_bytes = result_bytes(&folder, options)?;
    let disk_bytes = size.disk() + result_bytes;
    let files = size.file_traffic() + folder.checkpoint().bytes() as f64 * 3.0;
    Ok(Plan {
        layers: folder.config().num_hidden_layers,
        calibration_tokens: size.tokens(),
        result_bytes,
        memory_bytes: size.memory(),
        layer_bytes: size.layer(),
        hessian_bytes: size.hessians(),
        disk_bytes,
        seconds: size.flops() / (EFFICIENCY * flops) + files / FILE_BYTES_A_SECOND,
        flops,
    })
}

/// Experts of a layer that are quantized side by side.
pub(super) fn experts_at_once(config: &MixtralConfig) -> usize {
    let most = SIDE_BY_SIDE_BYTES / expert_bytes(config);
    (most as usize).clamp(1, config.num_local_experts)
}

/// Memory in which one expert is quantized: for `w1` and `w3`, or for `w2`, the Hessian, its triangular factor
/// and the inverse of that; weights, what is left of them to round, their rounded form, errors; codes.
fn expert_bytes(config: &MixtralConfig) -> u64 {
    let (hidden, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
    let weights = hidden * inner;
    let first = 3 * F32 * hidden * hidden + 5 * F32 * weights + 2 * weights;
    let second = 3 * F32 * inner * inner + 4 * F32 * weights + 2 * weights;
    first.max(second)
}

/// The sizes that everything follows from.
struct Size<'a> {
    config: &'a MixtralConfig,
    options: &'a CompressOptions,
    /// Samples and their length; 0 without calibration.
    samples: u64,
    len: usize,
}

impl<'a> Size<'a> {
    fn of(config: &'a MixtralConfig, options: &'a CompressOptions) -> Self {
        let calibration = options.calibration.as_ref();
        let (samples, len) =
            calibration.map_or((0, 0), |calibration| (calibration.samples, calibration.seq_len));
        Self { config, options, samples: samples as u64, len }
    }

    const fn tokens(&self) -> u64 {
        self.samples * self.len as u64
    }

    fn expert_weights(&self) -> u64 {
        self.config.hidden_size as u64 * self.config.intermediate_size as u64
    }

    /// Widths at which experts are measured.
    fn widths(&self) -> u64 {
        if self.options.needs_matrix_losses() {
            // The expert once more, and once for each matrix that is changed.
            return 4;
        }
        if self.options.allocation.is_none() && self.options.needs_losses() { 3 } else { 0 }
    }

    /// What searching the trellis of a layer takes.
    fn search(&self) -> f64 {
        if self.options.quantizer != Quantizer::Trellis {
            return 0.0;
        }
        3.0 * self.expert_weights() as f64 * self.config.num_local_experts as f64 * SEARCH_FLOPS
    }

    fn layer(&self) -> u64 {
        let matrices = MatrixInfo::of_layer(self.config, 0);
        matrices.iter().map(|matrix| F32 * matrix.rows as u64 * matrix.cols as u64).sum()
    }

    fn hessians(&self) -> u64 {
        let side = self.config.intermediate_size.max(self.config.hidden_size) as u64;
        let at_once = experts_at_once(self.config) as u64;
        if self.options.needs_hessians() { at_once * F32 * side * side } else { 0 }
    }

    fn memory(&self) -> u64 {
        let (config, at_once) = (self.config, experts_at_once(self.config) as u64);
        let attention = 4 * F32 * (config.hidden_size * config.query_size()) as u64;
        let measuring =
            3 * F32 * self.expert_weights() * (self.widths() + 1) + 3 * F32 * self.expert_weights();
        let quantizing = attention + at_once * expert_bytes(config);
        // Codes of a whole layer wait for their shard.
        let packed = self.layer() / F32 * 4 / 8;
        let tables = 2 * 2 * (config.vocab_size * config.hidden_size) as u64;
        let weights =
            if self.tokens() == 0 { 5 * F32 * self.expert_weights() } else { measuring.max(quantizing) };
        // A dense layer that is tuned, then all samples through it.
        let repair = self.repair().map_or(0, |effort| {
            let passing = effort.waiting_bytes() + self.passing(1);
            self.layer() + effort.tuning_bytes().max(passing)
        });
        FIXED_BYTES + (tables.max(weights) + self.activations()).max(repair) + packed
    }

    /// What repairing a layer takes, if it is asked for.
    fn repair(&self) -> Option<Effort> {
        let asked = self.options.repair_in_use().any() && self.tokens() > 0;
        asked.then(|| Effort::new(self.config, self.samples as usize, self.len))
    }

    /// Activations in memory: samples being worked on and those that wait at both ends.
    fn activations(&self) -> u64 {
        let config = self.config;
        if self.tokens() == 0 {
            return 0;
        }
        let gated =
            8 * self.expert_tokens(self.len as u64) as usize * config.intermediate_size * F32 as usize;
        self.passing(experts_at_once(config)) + gated as u64
    }

    /// Samples on their way through this many parts of a layer side by side, and those that wait.
    fn passing(&self, side_by_side: usize) -> u64 {
        let config = self.config;
        let working = samples_at_once(config, self.len) * sample_bytes(config, self.len);
        let waiting = 8 * self.len * config.hidden_size.max(config.query_size()) * F32 as usize;
        (working * side_by_side + waiting) as u64
    }

    /// Tokens of an expert that gets twice its share of `tokens`.
    fn expert_tokens(&self, tokens: u64) -> u64 {
        let (chosen, experts) =
            (self.config.num_experts_per_tok as u64, self.config.num_local_experts as u64);
        tokens * (2 * chosen).min(experts) / experts
    }

    fn disk(&self) -> u64 {
        let config = self.config;
        let row = |features: usize| F32 * features as u64;
        let stream = self.tokens() * row(config.hidden_size);
        let experts = config.num_experts_per_tok as u64;
        let gated = if self.options.needs_hessians() {
            experts_at_once(config) as u64 * self.expert_tokens(self.tokens()) * row(config.intermediate_size)
        } else {
            0
        };
        // Before and after attention and after the layer; the experts' inputs and outputs.
        let contexts = self.tokens() * row(config.query_size());
        (3 + 2 * experts) * stream + contexts.max(gated)
    }

    /// Bytes of activations read and written.
    fn file_traffic(&self) -> f64 {
        let passes = if self.options.needs_hessians() { 3.0 } else { 1.0 };
        2.0 * passes * self.disk() as f64 * self.config.num_hidden_layers as f64
    }

    fn flops(&self) -> f64 {
        let config = self.config;
        let pass = |versions| self.tokens() as f64 * config.layer_flops(self.len, versions);
        let measuring = pass(1 + self.widths() as usize);
        let quantizing = if self.options.needs_hessians() { pass(1) + self.gptq() } else { 0.0 };
        let repair = self.repair().map_or(0.0, |effort| {
            // And the quantized samples pass the layer once more.
            effort.passes() * config.layer_flops(effort.len(), 1) + pass(1)
        });
        config.num_hidden_layers as f64 * (measuring + quantizing + repair + self.search())
    }

    /// Hessians and rounding of a layer.
    fn gptq(&self) -> f64 {
        let (config, tokens) = (self.config, self.tokens() as usize);
        let matrices = MatrixInfo::of_layer(config, 0);
        let attention: Vec<&MatrixInfo> =
            matrices.iter().filter(|m| m.kind == MatrixKind::Attention).collect();
        let [w1, w2, w3] = [0, 1, 2].map(|i| &matrices[attention.len() + i]);
        let hessians = flops::hessian(config.hidden_size, tokens)
            + flops::hessian(config.query_size(), tokens)
            + flops::hessian(config.hidden_size, tokens * config.num_experts_per_tok)
            + flops::hessian(config.intermediate_size, tokens * config.num_experts_per_tok);
        let rounding = flops::rounding(&attention[..3]) + flops::rounding(&attention[3..]);
        let expert = flops::rounding(&[w1, w3]) + flops::rounding(&[w2]);
        hessians + rounding + config.num_local_experts as f64 * expert
    }
}

/// Bytes of the result. Between two widths, stored bits grow in a straight line with code bits.
fn result_bytes(folder: &ModelFolder, options: &CompressOptions) -> Result<u64, MixtralError> {
    if let (SizeGoal::Bytes(bytes), None) = (options.size, &options.allocation) {
        return Ok(bytes);
    }
    let config = folder.config();
    let others = bytes_besides_experts(folder, options)?;
    let experts = config.num_hidden_layers as f64 * config.num_local_experts as f64;
    let weights = experts * config.weights_per_expert() as f64;
    let bits = match (&options.allocation, options.size) {
        (Some(allocation), _) => stored(config, options, allocation.average_bits())?,
        (None, SizeGoal::BitsPerWeight(bits)) => bits,
        (None, SizeGoal::ExpertBits(bits)) => stored(config, options, bits)?,
        (None, SizeGoal::Bytes(_)) => unreachable!("handled above"),
    };
    Ok(others + (bits * weights / 8.0) as u64)
}

/// Stored bits a weight at this average of code bits.
fn stored(config: &MixtralConfig, options: &CompressOptions, bits: f64) -> Result<f64, MixtralError> {
    let [one, two] = [1, 2].map(|width| stored_bits(config, options, width));
    let (one, two) = (one?, two?);
    Ok(one + (bits - 1.0) * (two - one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::Calibration;
    use crate::synthetic::Shape;

    #[test]
    fn memory_is_bounded_by_a_layer_its_hessians_and_two_gibibytes() {
        for shape in Shape::ALL {
            let config = shape.config();
            let mut options = CompressOptions::default();
            for samples in [8, 128, 1024] {
                let data = "text:calibration.txt".parse().unwrap();
                options.calibration = Some(Calibration::new(data).samples(samples));
                let size = Size::of(&config, &options);
                let bound = size.layer() + size.hessians() + (2 << 30);
                assert!(size.memory() <= bound, "{shape}: {} of {bound}", size.memory());
                assert!(size.hessians() > 0 && size.memory() > size.hessians());
            }
        }
    }

    #[test]
    fn operations_grow_with_tokens() {
        let config = Shape::Mixtral8x7b.config();
        let flops = |samples| {
            let mut options = CompressOptions::default().method(mcmoe_quant::Method::Gptq);
            let data = "text:calibration.txt".parse().unwrap();
            options.calibration = Some(Calibration::new(data).samples(samples));
            Size::of(&config, &options).flops()
        };
        let (few, many) = (flops(1), flops(1001));
        // Two passes of all active weights and the three rounded versions, by hand: 12.9 billion weights
        // are active, 10.8 of them in experts; then Hessians of 14336² and more.
        let token = (many - few) / (1000.0 * 2048.0);
        let passes = 2.0 * (2.0 * 12.6e9 + 3.0 * 11.3e9);
        let hessians = 32.0 * (2.0 * (14336.0 * 14336.0 + 4096.0 * 4096.0) + 2.0 * 4096.0 * 4096.0);
        assert!((token / (passes + hessians) - 1.0).abs() < 0.05, "{token} {}", passes + hessians);
    }
}
