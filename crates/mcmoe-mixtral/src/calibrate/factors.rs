//! Expert significance factors (arXiv 2410.06270, section 3.2), collected layer by layer.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use mcmoe_allocator::{Factors, MatrixFactors};
use mcmoe_quant::{Matrix, Method, QuantOptions, TrellisRate, quantize};
use mcmoe_tensor_kernels::PackedOps;
use serde::{Deserialize, Serialize};

use super::matrices::{BITS, MatrixLosses};
use super::{ActivationFile, Advanced, Place, Routed, Stream, Weights, sensitivities};
use crate::model::{Expert, Linear, Routing, WeightSource, names, to_host};
use crate::{MixtralError, Progress};

/// What to measure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FactorOptions {
    /// Widths whose loss is measured, increasing. Empty: routing statistics only.
    pub bits: Vec<u8>,
    /// Weights that share a scale and a zero point.
    pub group_size: usize,
    /// Whether to measure what quantizing each matrix on a trellis does.
    pub matrices: bool,
    /// Where a temporary folder with the samples' activations is made; the system's if absent.
    pub work_dir: Option<PathBuf>,
}

impl Default for FactorOptions {
    fn default() -> Self {
        Self { bits: vec![1, 2, 3], group_size: 128, matrices: false, work_dir: None }
    }
}

impl FactorOptions {
    /// Sets the group size.
    #[must_use]
    pub const fn group_size(mut self, group_size: usize) -> Self {
        self.group_size = group_size;
        self
    }

    /// Sets where a temporary folder is made.
    #[must_use]
    pub fn work_dir(mut self, dir: PathBuf) -> Self {
        self.work_dir = Some(dir);
        self
    }

    /// Sets whether matrices are measured.
    #[must_use]
    pub const fn matrices(mut self, matrices: bool) -> Self {
        self.matrices = matrices;
        self
    }

    /// Sets the widths; none to measure routing only.
    #[must_use]
    pub fn bits(mut self, bits: Vec<u8>) -> Self {
        self.bits = bits;
        self
    }
}

/// Runs the 16-bit model over `samples` and measures, for every layer: how often each expert is
/// chosen (φ), the sum of its softmax weights (w), the Frobenius norm of the change of the block's
/// output when it alone is rounded to b bits, summed over samples (ε), and the median ratio of second
/// to first routing weight (μ, in [`Factors::ratio_median`]).
///
/// A few experts' weights and a few samples' activations are in memory at a time; all samples'
/// activations lie in files of a temporary folder.
///
/// # Errors
/// Those of loading layers; [`MixtralError::TokenId`] for tokens outside the vocabulary;
/// [`MixtralError::Quantize`] for weights that are not finite; [`MixtralError::Read`] and
/// [`MixtralError::Write`] for the temporary files.
pub fn collect_factors<B: PackedOps>(
    source: &WeightSource<'_>,
    samples: &[Vec<u32>],
    options: &FactorOptions,
    device: &B::Device,
    progress: &dyn Progress,
) -> Result<Factors, MixtralError> {
    let parent = options.work_dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::tempdir_in(&parent).map_err(|e| MixtralError::write(&parent, e))?;
    let place = Measuring::<B>::place(dir.path());
    let stream = Stream::embed(source, samples, place, device)?;
    let sensitivities =
        if options.matrices { sensitivities::<B>(source, samples, device, progress)? } else { Vec::new() };
    let mut measuring = Measuring::<B> { source: *source, options, stream, device };
    let config = source.config;
    progress.start("measuring experts", (config.num_hidden_layers * config.num_local_experts) as u64);
    let mut measured = Vec::with_capacity(config.num_hidden_layers);
    for l in 0..config.num_hidden_layers {
        let (layer, advanced) = measuring.layer(l, progress)?;
        advanced.old.remove();
        measured.push(layer);
    }
    progress.finish();
    measuring.stream.finish();
    Ok(LayerFactors::collect(measured, &options.bits, &sensitivities))
}

/// What is measured of one layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerFactors {
    frequency: Vec<f64>,
    weight: Vec<f64>,
    median: f64,
    /// `[expert][bits]`.
    losses: Vec<Vec<f64>>,
    /// By expert, if they were measured.
    matrices: Vec<MatrixLosses>,
}

impl LayerFactors {
    /// The factors of all layers, losses being those of `bits`; with the layers' sensitivities also those
    /// of matrices.
    pub(crate) fn collect(layers: Vec<Self>, bits: &[u8], sensitivities: &[f64]) -> Factors {
        let experts = layers.first().map_or(0, |layer| layer.frequency.len());
        let mut factors = Factors::unmeasured(layers.len(), experts, bits.to_vec());
        if sensitivities.len() == layers.len() {
            // Errors at other rates are to those measured as their distortions are, and hurt more than in
            // proportion: on models that were quantized, the square served best.
            let distortion = |rate: &TrellisRate| rate.distortion().powi(2);
            let measured = TrellisRate::ALL.iter().find(|rate| rate.bits() == BITS).map_or(1.0, distortion);
            let rates =
                |loss: f64| TrellisRate::ALL.iter().map(|r| loss * distortion(r) / measured).collect();
            let expert =
                |sensitivity: f64, losses: &MatrixLosses| losses.map(|l| rates(sensitivity * l)).to_vec();
            let layer = |(layer, &sensitivity): (&Self, &f64)| {
                layer.matrices.iter().map(|losses| expert(sensitivity, losses)).collect()
            };
            let losses = layers.iter().zip(sensitivities).map(layer).collect();
            let bits = TrellisRate::ALL.map(TrellisRate::bits).to_vec();
            factors = factors.with_matrices(MatrixFactors::new(bits, losses));
        }
        factors.ratio_median = Some(layers.iter().map(|layer| layer.median).collect());
        for layer in layers {
            factors.frequency.push(layer.frequency);
            factors.weight.push(layer.weight);
            if !bits.is_empty() {
                factors.quant_loss.push(layer.losses);
            }
        }
        factors
    }
}

/// The 16-bit model being measured layer by layer.
pub(crate) struct Measuring<'a, B: PackedOps> {
    pub(crate) source: WeightSource<'a>,
    pub(crate) options: &'a FactorOptions,
    pub(crate) stream: Stream<'a, B>,
    pub(crate) device: &'a B::Device,
}

impl<B: PackedOps> Measuring<'_, B> {
    /// Where the stream's files lie.
    pub(crate) const fn place(dir: &Path) -> Place<'_> {
        Place { dir, name: "measuring" }
    }

    /// Floating-point operations of a layer.
    pub(crate) fn flops(&self) -> f64 {
        let token = self.source.config.layer_flops(self.stream.len(), 1 + self.options.bits.len());
        token * self.stream.tokens() as f64
    }

    /// Measures layer `l` and takes the stream through it.
    pub(crate) fn layer(
        &mut self,
        l: usize,
        progress: &dyn Progress,
    ) -> Result<(LayerFactors, Advanced), MixtralError> {
        let layer = self.source.frame::<B>(l, self.device)?;
        let contexts = self.stream.contexts(&layer, |_| Ok(()))?;
        let routed = self.stream.route(l, &layer, &contexts)?;
        drop(contexts);
        let experts = self.source.config.num_local_experts;
        let statistics = Statistics::of(&routed.routing, experts);
        let (mut losses, mut outputs) = (Vec::with_capacity(experts), Vec::with_capacity(experts));
        let mut matrices = Vec::new();
        for e in 0..experts {
            let (loss, output, of_matrices) = self.expert(l, e, &routed)?;
            matrices.extend(of_matrices);
            let of_matrices = of_matrices.iter().flatten();
            if !loss.iter().chain(of_matrices).all(|loss| loss.is_finite()) {
                let what = format!("outputs of expert {e} of layer {l} on the calibration text");
                return Err(MixtralError::NotFinite { what });
            }
            losses.push(loss);
            outputs.push(output);
            progress.advance(1);
        }
        let advanced = self.stream.advance(l, &routed, &outputs)?;
        let Statistics { frequency, weight, median } = statistics;
        Ok((LayerFactors { frequency, weight, median, losses, matrices }, advanced))
    }

    /// The loss of each rounded version of expert `e`, the weighted outputs of the expert itself, and the
    /// losses of its matrices if they are asked for.
    fn expert(
        &self,
        l: usize,
        e: usize,
        routed: &Routed,
    ) -> Result<(Vec<f64>, ActivationFile, Option<MatrixLosses>), MixtralError> {
        let (source, device) = (&self.source, self.device);
        let round = |&bits: &u8| round_expert(source, l, e, bits, self.options.group_size, device);
        let rounded: Vec<Expert<B>> = self.options.bits.iter().map(round).collect::<Result<_, _>>()?;
        let expert = source.expert::<B>(l, e, device)?;
        let mut outputs = self.stream.scratch(&format!("outputs-{e:03}"), source.config.hidden_size)?;
        let mut losses = vec![0.0; rounded.len()];
        let measure = |inputs: Tensor<B, 2>, weights: &Weights<B>| {
            let y = expert.forward(inputs.clone());
            let change = |rounded: &Expert<B>| y.clone() - rounded.forward(inputs.clone());
            let losses: Vec<f64> =
                rounded.iter().map(|expert| frobenius(weights.times(change(expert)))).collect();
            (losses, to_host(weights.times(y)))
        };
        routed.each(e, &routed.inputs[e], &self.stream, measure, |measured| {
            let (loss, output) = measured.unwrap_or_default();
            losses.iter_mut().zip(loss).for_each(|(total, loss)| *total += loss);
            outputs.push(output)
        })?;
        let matrices =
            self.options.matrices.then(|| self.matrix_losses(l, e, &expert, routed)).transpose()?;
        Ok((losses, outputs.finish()?.0, matrices))
    }
}

fn frobenius<B: PackedOps>(change: Tensor<B, 2>) -> f64 {
    to_host(change).iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// The expert rounded to nearest, as dense weights.
fn round_expert<B: PackedOps>(
    source: &WeightSource<'_>,
    l: usize,
    e: usize,
    bits: u8,
    group_size: usize,
    device: &B::Device,
) -> Result<Expert<B>, MixtralError> {
    let options = QuantOptions::new(bits).map_err(|e| MixtralError::shape("bits", &e))?;
    let options = options.method(Method::Rtn).group_size(group_size);
    let (hidden, inner) = (source.config.hidden_size, source.config.intermediate_size);
    let matrix = |name: &str, rows: usize, cols: usize| {
        let name = crate::model::weight(&names::expert(l, e, name));
        let values = source.checkpoint.read_f32(&name, &[rows, cols])?;
        let matrix = Matrix::new(rows, cols, &values);
        let rounded = matrix.and_then(|matrix| quantize(matrix, None, &options));
        let packed = rounded.map_err(|source| MixtralError::quantize(&name, source))?.packed;
        Ok::<_, MixtralError>(Linear::dense(packed.dequantize(), rows, cols, device))
    };
    Ok(Expert {
        w1: matrix("w1", inner, hidden)?,
        w2: matrix("w2", hidden, inner)?,
        w3: matrix("w3", inner, hidden)?,
    })
}

/// Routing statistics of one block.
struct Statistics {
    frequency: Vec<f64>,
    weight: Vec<f64>,
    median: f64,
}

impl Statistics {
    fn of(routings: &[Routing], experts: usize) -> Self {
        let (mut frequency, mut weight) = (vec![0.0; experts], vec![0.0; experts]);
        for routing in routings {
            for (&expert, &probability) in routing.experts.iter().zip(&routing.probabilities) {
                frequency[expert] += 1.0;
                weight[expert] += f64::from(probability);
            }
        }
        let ratios = routings.iter().flat_map(Routing::ratios).collect();
        Self { frequency, weight, median: median(ratios) }
    }
}

/// The middle value, or the mean of the two; 0 of nothing.
fn median(mut values: Vec<f32>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable_by(f32::total_cmp);
    let middle = values.len() / 2;
    let upper = f64::from(values[middle]);
    if values.len().is_multiple_of(2) { f64::midpoint(f64::from(values[middle - 1]), upper) } else { upper }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![0.5, 0.1, 0.4]), f64::from(0.4_f32));
        assert_eq!(median(vec![0.5, 0.25, 0.0, 1.0]), 0.375);
    }
}
