//! What one weight of each width costs on disk.

use std::collections::BTreeMap;

use crate::error::AllocatorError;

/// Stored bits per weight of each bit-width, scales and zero points included.
///
/// ```
/// use mcmoe_allocator::Storage;
/// // Groups of 128 weights that share a 16-bit scale and a 16-bit zero point.
/// let storage = Storage::grouped([1, 2, 3], 128, 32);
/// assert_eq!(storage.stored_bits(2), Some(2.25));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Storage {
    stored_bits: BTreeMap<u8, f64>,
    weights_per_expert: Option<u64>,
    pub(crate) matrix_bytes: Option<Vec<Vec<u64>>>,
}

impl Storage {
    /// A table of (width, stored bits per weight).
    #[must_use]
    pub fn table(stored_bits: impl IntoIterator<Item = (u8, f64)>) -> Self {
        Self { stored_bits: stored_bits.into_iter().collect(), ..Self::default() }
    }

    /// Codes of `widths` bits each, plus `overhead_bits` for every `group_size` weights.
    /// A `group_size` of 0 gives infinite figures, which allocating refuses.
    #[must_use]
    pub fn grouped(widths: impl IntoIterator<Item = u8>, group_size: u32, overhead_bits: u32) -> Self {
        let overhead = f64::from(overhead_bits) / f64::from(group_size);
        Self::table(widths.into_iter().map(|width| (width, f64::from(width) + overhead)))
    }

    /// Sets the number of weights in one expert; [`Budget::Bytes`](crate::Budget::Bytes) needs it.
    #[must_use]
    pub fn weights_per_expert(self, weights: u64) -> Self {
        Self { weights_per_expert: Some(weights), ..self }
    }

    /// Sets the bytes of an expert's matrices at every candidate of
    /// [`MatrixFactors`](crate::MatrixFactors), `[matrix][candidate]`; [`Mode::Global`](crate::Mode::Global)
    /// needs them for budgets in stored bits and bytes.
    #[must_use]
    pub fn matrix_bytes(self, bytes: Vec<Vec<u64>>) -> Self {
        Self { matrix_bytes: Some(bytes), ..self }
    }

    /// Stored bits per weight at `width` bits, if the table has it.
    #[must_use]
    pub fn stored_bits(&self, width: u8) -> Option<f64> {
        self.stored_bits.get(&width).copied()
    }

    /// Number of weights in one expert, where it was set to more than zero.
    pub(crate) fn weights(&self) -> Option<u64> {
        self.weights_per_expert.filter(|&weights| weights > 0)
    }

    /// The figure for `width`, checked to be positive and sensible (no format stores a weight in
    /// more than 64 bits).
    pub(crate) fn checked_bits(&self, width: u8) -> Result<f64, AllocatorError> {
        let stored = self.stored_bits(width);
        stored
            .filter(|bits| (f64::MIN_POSITIVE..=64.0).contains(bits))
            .ok_or(AllocatorError::Storage { width, stored })
    }
}
