//! Expert significance factors (arXiv 2410.06270, section 3.2), collected layer by layer.

use burn::tensor::Tensor;
use mcmoe_allocator::Factors;
use mcmoe_quant::{Matrix, Method, QuantOptions, quantize};
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use super::{Routed, Stream};
use crate::model::{Expert, Linear, WeightSource, names, to_host};
use crate::{MixtralError, Progress};

/// What to measure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FactorOptions {
    /// Widths whose loss is measured, increasing. Empty: routing statistics only.
    pub bits: Vec<u8>,
    /// Weights that share a scale and a zero point.
    pub group_size: usize,
}

impl Default for FactorOptions {
    fn default() -> Self {
        Self { bits: vec![1, 2, 3], group_size: 128 }
    }
}

impl FactorOptions {
    /// Sets the group size.
    #[must_use]
    pub const fn group_size(mut self, group_size: usize) -> Self {
        self.group_size = group_size;
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
/// One layer's weights are in memory at a time.
///
/// # Errors
/// Those of loading layers; [`MixtralError::TokenId`] for tokens outside the vocabulary;
/// [`MixtralError::Quantize`] for weights that are not finite.
pub fn collect_factors<B: PackedOps>(
    source: &WeightSource<'_>,
    samples: &[Vec<u32>],
    options: &FactorOptions,
    device: &B::Device,
    progress: &dyn Progress,
) -> Result<Factors, MixtralError> {
    let config = source.config;
    let (layers, experts) = (config.num_hidden_layers, config.num_local_experts);
    let mut stream = Stream::<B>::embed(source, samples, device)?;
    let mut factors = Factors::unmeasured(layers, experts, options.bits.clone());
    let mut medians = Vec::with_capacity(layers);
    progress.start("measuring experts", (layers * experts) as u64);
    for l in 0..layers {
        let layer = source.layer::<B>(l, device)?;
        let contexts = stream.contexts(&layer);
        stream.add_attention(&layer, contexts);
        let routed = stream.route(l, &layer)?;
        let statistics = Statistics::of(&routed, experts);
        factors.frequency.push(statistics.frequency);
        factors.weight.push(statistics.weight);
        medians.push(statistics.median);
        let mut losses = Vec::with_capacity(experts);
        for (e, expert) in layer.moe.experts.iter().enumerate() {
            let round = |&bits: &u8| round_expert(source, l, e, bits, options.group_size, device);
            let rounded: Vec<Expert<B>> = options.bits.iter().map(round).collect::<Result<_, _>>()?;
            let loss = pass_expert(&mut stream, &routed, e, expert, &rounded);
            if !loss.iter().all(|loss| loss.is_finite()) {
                let what = format!("outputs of expert {e} of layer {l} on the calibration text");
                return Err(MixtralError::NotFinite { what });
            }
            losses.push(loss);
            progress.advance(1);
        }
        factors.quant_loss.push(losses);
    }
    progress.finish();
    factors.ratio_median = Some(medians);
    Ok(factors)
}

/// Adds expert `e`'s output to the stream and returns the loss of each of its `rounded` versions.
fn pass_expert<B: PackedOps>(
    stream: &mut Stream<B>,
    routed: &[Routed<B>],
    e: usize,
    expert: &Expert<B>,
    rounded: &[Expert<B>],
) -> Vec<f64> {
    let samples = routed.par_iter().zip(&mut stream.hidden);
    let losses: Vec<Vec<f64>> = samples
        .filter_map(|(routed, hidden)| {
            let picked = routed.pick(e)?;
            let y = expert.forward(picked.inputs.clone());
            let change = |rounded: &Expert<B>| y.clone() - rounded.forward(picked.inputs.clone());
            let losses = rounded.iter().map(|expert| frobenius(picked.weighted(change(expert)))).collect();
            *hidden = picked.add_to(hidden.clone(), y);
            Some(losses)
        })
        .collect();
    let sum = |width: usize| losses.iter().map(|losses| losses[width]).sum();
    (0..rounded.len()).map(sum).collect()
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
    fn of<B: PackedOps>(routed: &[Routed<B>], experts: usize) -> Self {
        let (mut frequency, mut weight) = (vec![0.0; experts], vec![0.0; experts]);
        for routing in routed.iter().map(|routed| &routed.routing) {
            for (&expert, &probability) in routing.experts.iter().zip(&routing.probabilities) {
                frequency[expert] += 1.0;
                weight[expert] += f64::from(probability);
            }
        }
        let ratios = routed.iter().flat_map(|routed| routed.routing.ratios()).collect();
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
