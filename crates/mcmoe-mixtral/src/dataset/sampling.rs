//! Cuts sequences of equal length out of a tokenized text.

use std::collections::BTreeSet;

use super::draw::Draw;
use super::error::DatasetError;

/// The most tokens over all random windows: 16 GiB of ids, far beyond any calibration.
pub(crate) const MAX_SAMPLED_TOKENS: u64 = 1 << 32;

/// `samples` windows of `seq_len` tokens at uniformly random starts, in the order drawn, as GPTQ calibrates.
///
/// Windows may overlap and repeat. Start `i` is the `i`-th draw below `tokens.len() - seq_len + 1`, where a draw below
/// n is the remainder by n of the next 64-bit word that is below the largest multiple of n up to 2⁶⁴, and the words
/// are the ChaCha8 key stream (little-endian, nonce and counter zero) under the key `seed` (8 bytes, little-endian,
/// then 24 zero bytes).
///
/// # Errors
/// [`SequenceTooShort`](DatasetError::SequenceTooShort) for less than 2 tokens a window,
/// [`NoSamples`](DatasetError::NoSamples) for 0 windows, [`TooFewTokens`](DatasetError::TooFewTokens) where the text
/// is shorter than a window, [`TooManyTokens`](DatasetError::TooManyTokens) beyond 2³² tokens in all.
pub fn random_windows(
    tokens: &[u32],
    samples: usize,
    seq_len: usize,
    seed: u64,
) -> Result<Vec<Vec<u32>>, DatasetError> {
    check(tokens, samples, seq_len)?;
    if (samples as u64).checked_mul(seq_len as u64).is_none_or(|all| all > MAX_SAMPLED_TOKENS) {
        return Err(DatasetError::TooManyTokens { samples, seq_len, max_tokens: MAX_SAMPLED_TOKENS });
    }
    let starts = tokens.len() - seq_len + 1;
    let mut draw = Draw::new(seed);
    let mut window = || {
        let start = draw.below(starts);
        tokens[start..start + seq_len].to_vec()
    };
    Ok((0..samples).map(|_| window()).collect())
}

/// `samples` of the consecutive, non-overlapping blocks of `seq_len` tokens, chosen without replacement and
/// uniformly, in text order, as the significance factors are calibrated.
///
/// Where the text has fewer blocks, all of them: the length of the result tells. A tail shorter than a block is
/// never used. With n blocks, for j from n − samples to n − 1, block t = draw below j + 1 is taken, or block j where
/// t is taken already (Floyd's algorithm); draws are those of [`random_windows`].
///
/// # Errors
/// [`SequenceTooShort`](DatasetError::SequenceTooShort) for less than 2 tokens a block,
/// [`NoSamples`](DatasetError::NoSamples) for 0 blocks, [`TooFewTokens`](DatasetError::TooFewTokens) where the text
/// is shorter than a block.
pub fn blocks(
    tokens: &[u32],
    samples: usize,
    seq_len: usize,
    seed: u64,
) -> Result<Vec<Vec<u32>>, DatasetError> {
    check(tokens, samples, seq_len)?;
    let chosen = choose(tokens.len() / seq_len, samples, seed);
    Ok(chosen.into_iter().map(|block| tokens[block * seq_len..][..seq_len].to_vec()).collect())
}

/// The consecutive, non-overlapping windows of `seq_len` tokens from the start of the text, at most `max` of them, as
/// perplexity is evaluated. A tail shorter than a window is dropped.
///
/// # Errors
/// [`SequenceTooShort`](DatasetError::SequenceTooShort) for less than 2 tokens a window,
/// [`NoSamples`](DatasetError::NoSamples) for a `max` of 0, [`TooFewTokens`](DatasetError::TooFewTokens) where the
/// text is shorter than a window.
pub fn windows(
    tokens: &[u32],
    seq_len: usize,
    max: Option<usize>,
) -> Result<impl ExactSizeIterator<Item = &[u32]>, DatasetError> {
    let max = max.unwrap_or(usize::MAX);
    check(tokens, max, seq_len)?;
    Ok(tokens.chunks_exact(seq_len).take(max))
}

/// `total` in `parts` shares that differ by at most one, the larger ones first. No part, no share.
pub fn split_shares(total: usize, parts: usize) -> Vec<usize> {
    (0..parts).map(|part| total / parts + usize::from(part < total % parts)).collect()
}

fn check(tokens: &[u32], samples: usize, seq_len: usize) -> Result<(), DatasetError> {
    if seq_len < 2 {
        Err(DatasetError::SequenceTooShort { seq_len })
    } else if samples == 0 {
        Err(DatasetError::NoSamples)
    } else if tokens.len() < seq_len {
        Err(DatasetError::TooFewTokens { found: tokens.len(), needed: seq_len })
    } else {
        Ok(())
    }
}

/// `samples` of the integers below `population`, or all of them.
fn choose(population: usize, samples: usize, seed: u64) -> BTreeSet<usize> {
    let mut draw = Draw::new(seed);
    let mut chosen = BTreeSet::new();
    for last in population.saturating_sub(samples)..population {
        let candidate = draw.below(last + 1);
        if !chosen.insert(candidate) {
            chosen.insert(last);
        }
    }
    chosen
}
