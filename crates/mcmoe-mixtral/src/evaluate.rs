//! Perplexity.

use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;
use serde::Serialize;

use crate::dataset::windows;
use crate::model::{Activations, Mixtral, to_host};
use crate::{MixtralError, Progress};

/// Tokens run at a time, in whole windows.
const TOKENS_A_BATCH: usize = 2048;

/// How to evaluate.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EvalOptions {
    /// Tokens a window.
    pub seq_len: usize,
    /// Windows from the start of the text; all of them if absent.
    pub windows: Option<usize>,
}

impl EvalOptions {
    /// All windows of `seq_len` tokens.
    pub const fn new(seq_len: usize) -> Self {
        Self { seq_len, windows: None }
    }

    /// Sets the number of windows.
    #[must_use]
    pub const fn windows(mut self, windows: Option<usize>) -> Self {
        self.windows = windows;
        self
    }
}

/// The perplexity of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Perplexity {
    /// Windows evaluated.
    pub windows: usize,
    /// Tokens predicted: all but the first of each window.
    pub tokens: usize,
    /// Mean negative log-likelihood of a token, in nats.
    pub nll: f64,
    /// `exp(nll)`.
    pub perplexity: f64,
    /// Share of expert activations that dynamic pruning dropped.
    pub pruned_fraction: f64,
}

/// The perplexity of `tokens` in non-overlapping windows, each predicted from its own start.
///
/// # Errors
/// [`MixtralError::Dataset`] if the text is shorter than a window, [`MixtralError::NotFinite`] if the
/// model computes no sensible numbers, those of [`Mixtral::forward`].
pub fn perplexity<B: PackedOps>(
    model: &Mixtral<B>,
    tokens: &[u32],
    options: &EvalOptions,
    progress: &dyn Progress,
) -> Result<Perplexity, MixtralError> {
    let windows: Vec<&[u32]> = windows(tokens, options.seq_len, options.windows)?.collect();
    progress.start("evaluating", windows.len() as u64);
    let batches = windows.par_chunks((TOKENS_A_BATCH / options.seq_len).max(1));
    let losses: Vec<(f64, Activations)> = batches
        .map(|batch| {
            let mut cache = model.new_cache();
            let logits = model.forward(batch, &mut cache)?;
            let loss = negative_log_likelihood(&to_host(logits), batch, model.config().vocab_size);
            progress.advance(batch.len() as u64);
            Ok((loss, model.take_activations(&mut cache)))
        })
        .collect::<Result<_, MixtralError>>()?;
    progress.finish();
    let mut activations = Activations::default();
    losses.iter().for_each(|(_, counted)| activations.add(counted));
    let total: f64 = losses.iter().map(|(loss, _)| loss).sum();
    let tokens = windows.len() * (options.seq_len - 1);
    let nll = total / tokens as f64;
    if !nll.is_finite() {
        return Err(MixtralError::NotFinite { what: "the model's predictions".to_owned() });
    }
    Ok(Perplexity {
        windows: windows.len(),
        tokens,
        nll,
        perplexity: nll.exp(),
        pruned_fraction: activations.pruned_fraction(),
    })
}

/// Sum over all predicted tokens of a batch; `logits` is `[windows, seq_len, vocab]`.
fn negative_log_likelihood(logits: &[f32], batch: &[&[u32]], vocab: usize) -> f64 {
    let seq_len = batch[0].len();
    let losses: Vec<f64> = logits
        .par_chunks_exact(vocab)
        .enumerate()
        .filter(|(row, _)| row % seq_len + 1 < seq_len)
        .map(|(row, logits)| {
            let target = batch[row / seq_len][row % seq_len + 1];
            log_sum_exp(logits) - f64::from(logits[target as usize])
        })
        .collect();
    losses.iter().sum()
}

pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_logits_give_the_vocabulary() {
        let windows: [&[u32]; 2] = [&[0, 1, 2], &[2, 1, 0]];
        let nll = negative_log_likelihood(&[7.0; 18], &windows, 3);
        assert!((nll - 4.0 * 3_f64.ln()).abs() < 1e-12);
    }
}
