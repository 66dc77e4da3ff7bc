//! Text generation, token by token.

mod sampler;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mcmoe_tensor_kernels::PackedOps;

pub use sampler::{Sampler, Sampling};

use crate::model::{Mixtral, to_host};
use crate::{MixtralError, Tokenizer};

/// How much to generate and how to choose.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// Tokens at the most.
    pub max_new_tokens: usize,
    /// How each token is chosen.
    pub sampling: Sampling,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_new_tokens: 128, sampling: Sampling::default() }
    }
}

impl GenerateOptions {
    /// Sets the most tokens to generate.
    #[must_use]
    pub const fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = tokens;
        self
    }

    /// Sets how tokens are chosen.
    #[must_use]
    pub const fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }
}

/// A finished generation.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generation {
    /// The new tokens, an end token included if one came.
    pub tokens: Vec<u32>,
    /// Their text.
    pub text: String,
    /// Time for the prompt.
    pub prefill: Duration,
    /// Time for the tokens after the first.
    pub decode: Duration,
    /// Share of expert activations that dynamic pruning dropped.
    pub pruned_fraction: f64,
}

/// Continues `prompt`, handing every piece of text to `emit` as soon as it is whole, until it breaks
/// off, an end token comes, or there are enough tokens.
///
/// # Errors
/// [`MixtralError::Option`] for an empty prompt or sampling options out of range,
/// [`MixtralError::NotFinite`] if the model computes no sensible numbers, those of the tokenizer and
/// of [`Mixtral::forward`].
pub fn generate<B: PackedOps>(
    model: &Mixtral<B>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    options: &GenerateOptions,
    emit: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<Generation, MixtralError> {
    if prompt.is_empty() {
        return Err(MixtralError::option("--prompt", "the prompt has no token to start from"));
    }
    let mut sampler = Sampler::new(options.sampling.clone())?;
    let mut stream = tokenizer.stream_after(prompt)?;
    let mut cache = model.new_cache();
    let (mut seen, mut text) = (prompt.to_vec(), String::new());
    let mut next = prompt.to_vec();
    let (start, mut prefill) = (Instant::now(), Duration::ZERO);
    while seen.len() - prompt.len() < options.max_new_tokens {
        let mut logits = to_host(model.forward_last(&[&next], &mut cache)?);
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(MixtralError::NotFinite { what: "the model's predictions".to_owned() });
        }
        let token = sampler.choose(&mut logits, &seen);
        if seen.len() == prompt.len() {
            prefill = start.elapsed();
        }
        seen.push(token);
        if model.config().eos_token_ids.contains(&token) {
            break;
        }
        let piece = stream.push(token)?;
        text.push_str(&piece);
        if emit(&piece).is_break() {
            break;
        }
        next = vec![token];
    }
    let rest = stream.finish()?;
    // Nothing follows, whatever the answer.
    let _ = emit(&rest);
    text.push_str(&rest);
    Ok(Generation {
        tokens: seen.split_off(prompt.len()),
        text,
        prefill,
        decode: start.elapsed().saturating_sub(prefill),
        pruned_fraction: model.take_activations(&mut cache).pruned_fraction(),
    })
}
