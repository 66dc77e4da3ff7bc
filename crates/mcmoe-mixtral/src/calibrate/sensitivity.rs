//! How much the model's predictions suffer from errors in each layer's output.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use crate::model::{Places, WeightSource, from_host, to_host};
use crate::random::Xorshift;
use crate::{MixtralError, Progress};

/// Tokens that go through the model once more for every layer.
const TOKENS: usize = 4096;
/// Size of the errors, as a share of the residual stream's.
const NOISE: f32 = 0.05;

/// For every layer the divergence (Kullback–Leibler, in nats) of the model's predictions for each unit of
/// squared error in the layer's output, both summed over tokens.
///
/// Some samples run through the 16-bit model, and again for every layer with random errors added to the
/// residual stream after it. One layer's weights are in memory at a time.
///
/// # Errors
/// Those of loading layers; [`MixtralError::NotFinite`] if predictions are not finite.
pub(crate) fn sensitivities<B: PackedOps>(
    source: &WeightSource<'_>,
    samples: &[Vec<u32>],
    device: &B::Device,
    progress: &dyn Progress,
) -> Result<Vec<f64>, MixtralError> {
    let len = samples.first().map_or(1, Vec::len);
    let samples: Vec<&[u32]> = samples.iter().take((TOKENS / len).max(1)).map(Vec::as_slice).collect();
    let ends = source.ends(Places::<B>::spread(std::slice::from_ref(device), 0))?;
    let angles = source.rope().angles(0..len, device);
    // Sample by sample, as all calibration is: results then do not depend on the number of threads.
    let embedded = samples.iter().map(|sample| ends.embedded(&[sample]));
    let mut streams: Vec<Vec<Tensor<B, 2>>> = vec![embedded.collect::<Result<_, _>>()?];
    let mut energies = Vec::new();
    let layers = source.config.num_hidden_layers;
    progress.start("measuring layers", layers as u64);
    for l in 0..layers {
        let layer = source.layer::<B>(l, device)?;
        let forward = |hidden: &Tensor<B, 2>| layer.forward_alone(l, hidden.clone(), &angles).hidden;
        streams.iter_mut().for_each(|stream| *stream = stream.par_iter().map(forward).collect());
        let (disturbed, energy) = disturb(&streams[0], l as u64);
        streams.push(disturbed);
        energies.push(energy);
        progress.advance(1);
    }
    progress.finish();
    let vocab = source.config.vocab_size;
    let logits = |hidden: &Tensor<B, 2>| to_host(ends.logits(hidden.clone(), 1));
    let expected: Vec<Vec<f32>> = streams[0].par_iter().map(logits).collect();
    let sensitivity = |(stream, energy): (&Vec<Tensor<B, 2>>, f64)| {
        let samples = stream.par_iter().zip(&expected);
        let each: Vec<f64> = samples.map(|(s, expected)| divergence(expected, &logits(s), vocab)).collect();
        let divergence = each.iter().sum::<f64>();
        if divergence.is_finite() && energy > 0.0 {
            return Ok(divergence / energy);
        }
        Err(MixtralError::NotFinite { what: "the model's predictions".to_owned() })
    };
    streams[1..].iter().zip(energies).map(sensitivity).collect()
}

/// The stream with errors of random signs, and their squared sum.
fn disturb<B: PackedOps>(stream: &[Tensor<B, 2>], seed: u64) -> (Vec<Tensor<B, 2>>, f64) {
    let values: Vec<Vec<f32>> = stream.iter().map(|sample| to_host(sample.clone())).collect();
    let all = || values.iter().flatten().map(|&value| f64::from(value));
    let size = (f64::from(NOISE) * (all().map(|v| v * v).sum::<f64>() / all().count() as f64).sqrt()) as f32;
    let energy = f64::from(size).powi(2) * all().count() as f64;
    let mut random = Xorshift::new(seed);
    let mut noise = || if random.next() >> 63 == 0 { size } else { -size };
    let disturbed = stream.iter().zip(values).map(|(sample, mut values)| {
        values.iter_mut().for_each(|value| *value += noise());
        from_host(values, sample.dims(), &sample.device())
    });
    (disturbed.collect(), energy)
}

/// Sum over tokens of the divergence of predictions, both given as logits `[tokens, vocab]`.
fn divergence(expected: &[f32], found: &[f32], vocab: usize) -> f64 {
    let tokens = expected.par_chunks_exact(vocab).zip(found.par_chunks_exact(vocab));
    let of_token = |(expected, found): (&[f32], &[f32])| {
        let (expected, found) = (log_probabilities(expected), log_probabilities(found));
        expected.iter().zip(&found).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()
    };
    let tokens: Vec<f64> = tokens.map(of_token).collect();
    tokens.iter().sum()
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let total = crate::evaluate::log_sum_exp(logits);
    logits.iter().map(|&logit| f64::from(logit) - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_distributions() {
        // From (1/2, 1/2) to (1/4, 3/4), and to itself.
        let (even, uneven) = ([0.0, 0.0], [0.0, 3_f32.ln()]);
        let expected = 0.5 * 2_f64.ln() + 0.5 * (2.0_f64 / 3.0).ln();
        assert!((divergence(&even, &uneven, 2) - expected).abs() < 1e-6);
        assert_eq!(divergence(&uneven, &uneven, 2), 0.0);
    }
}
