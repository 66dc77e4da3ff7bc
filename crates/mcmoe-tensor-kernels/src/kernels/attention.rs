//! Attention of one new token a sequence over the keys and values of all tokens so far.

use std::ops::Range;

use rayon::prelude::*;

use super::backend::Backend;
use super::dense::dot;
use crate::KernelError;

/// The tensors of a decode step: queries of the new token, and caches of which a range of positions
/// is looked at.
#[derive(Clone, Debug)]
pub struct DecodeAttention<'a> {
    /// `[batch, heads, head_dim]`.
    pub queries: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`; heads of a group of `heads / kv_heads` share one.
    pub keys: &'a [f32],
    /// As `keys`.
    pub values: &'a [f32],
    /// Features of a head.
    pub head_dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Positions that a cache has room for.
    pub capacity: usize,
    /// Positions that the token looks at.
    pub seen: Range<usize>,
}

impl Backend {
    /// `softmax(q kᵀ / √head_dim) v` of every head, `[batch, heads, head_dim]`.
    ///
    /// Keys and values are read once, where they lie. Results depend neither on the number of threads
    /// nor on the backend.
    ///
    /// # Errors
    /// [`KernelError::Length`] if the slices do not fit together or no position is seen.
    pub fn decode_attention(self, step: &DecodeAttention<'_>) -> Result<Vec<f32>, KernelError> {
        step.check()?;
        let mut out = vec![0.0; step.queries.len()];
        let group = step.heads / step.kv_heads * step.head_dim;
        out.par_chunks_mut(group).enumerate().for_each(|(head, out)| {
            let cache = head * step.capacity * step.head_dim;
            let seen = cache + step.seen.start * step.head_dim..cache + step.seen.end * step.head_dim;
            let queries = &step.queries[head * group..][..group];
            let (keys, values) = (&step.keys[seen.clone()], &step.values[seen]);
            self.attend(queries, keys, values, step.head_dim, out);
        });
        Ok(out)
    }
}

impl DecodeAttention<'_> {
    fn check(&self) -> Result<(), KernelError> {
        let length = |what, expected, found| Err(KernelError::Length { what, expected, found });
        if self.kv_heads == 0 || self.heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return length("query heads of a group", self.kv_heads, self.heads);
        }
        if self.head_dim == 0 {
            return length("features of a head", 1, 0);
        }
        let token = self.heads.saturating_mul(self.head_dim);
        if !self.queries.len().is_multiple_of(token) {
            return length("queries", self.queries.len().saturating_add(token), self.queries.len());
        }
        let batch = self.queries.len() / token;
        let sides = [self.kv_heads, self.capacity, self.head_dim];
        let cache = sides.iter().fold(batch, |size, side| size.saturating_mul(*side));
        for (what, found) in [("keys", self.keys.len()), ("values", self.values.len())] {
            if found != cache {
                return length(what, cache, found);
            }
        }
        if self.seen.is_empty() || self.seen.end > self.capacity {
            return length("positions", self.capacity, self.seen.end);
        }
        Ok(())
    }
}

/// Positions whose values are used by every query head before the next ones are read.
const POSITIONS: usize = 16;
/// Features of a head that are summed up at a time.
const FEATURES: usize = 64;
/// Independent partial sums of a dot product: few, as heads are narrow.
const PARTIAL_SUMS: usize = 16;

/// Attention of the query heads that share one cache, in plain code: each backend compiles it for its
/// instructions.
#[inline(always)]
pub(super) fn attend(queries: &[f32], keys: &[f32], values: &[f32], width: usize, out: &mut [f32]) {
    let (positions, scale) = (keys.len() / width, 1.0 / (width as f32).sqrt());
    let mut scores = vec![0.0; queries.len() / width * positions];
    for (position, key) in keys.chunks_exact(width).enumerate() {
        for (query, scores) in queries.chunks_exact(width).zip(scores.chunks_exact_mut(positions)) {
            scores[position] = dot::<PARTIAL_SUMS>(query, key) * scale;
        }
    }
    out.fill(0.0);
    for scores in scores.chunks_exact_mut(positions) {
        soft_max(scores);
    }
    for (block, values) in values.chunks(POSITIONS * width).enumerate() {
        for (out, scores) in out.chunks_exact_mut(width).zip(scores.chunks_exact(positions)) {
            let start = block * POSITIONS;
            add_weighted(&scores[start..positions.min(start + POSITIONS)], values, out);
        }
    }
}

#[inline(always)]
fn soft_max(scores: &mut [f32]) {
    let largest = scores.iter().fold(f32::NEG_INFINITY, |largest, score| largest.max(*score));
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let total: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= total);
}

/// `out += Σ weight · row` over the rows of `values`.
#[inline(always)]
fn add_weighted(weights: &[f32], values: &[f32], out: &mut [f32]) {
    let width = out.len();
    let (chunks, rest) = out.as_chunks_mut::<FEATURES>();
    let first_rest = chunks.len() * FEATURES;
    for (i, out) in chunks.iter_mut().enumerate() {
        let mut sums = *out;
        for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
            let row: &[f32; FEATURES] = row[i * FEATURES..].first_chunk().expect("a chunk of every row");
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        *out = sums;
    }
    for (weight, row) in weights.iter().zip(values.chunks_exact(width)) {
        rest.iter_mut().zip(&row[first_rest..]).for_each(|(out, value)| *out += weight * value);
    }
}
