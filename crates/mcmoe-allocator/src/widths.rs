//! What a list of candidate bit-widths has to look like.

use crate::error::AllocatorError;

const WIDEST: u8 = 16;

/// Checks that `bits` is strictly increasing within 1..=16.
pub(crate) fn check(bits: &[u8]) -> Result<(), AllocatorError> {
    if bits.is_empty() {
        return Err(AllocatorError::Empty { field: "bits" });
    }
    let increasing = bits.windows(2).all(|pair| pair[0] < pair[1]);
    let in_range = bits.iter().all(|&b| is_width(b));
    if increasing && in_range { Ok(()) } else { Err(AllocatorError::Widths { bits: bits.to_vec() }) }
}

/// Whether `bits` is a width that any list may hold.
pub(crate) fn is_width(bits: u8) -> bool {
    (1..=WIDEST).contains(&bits)
}
