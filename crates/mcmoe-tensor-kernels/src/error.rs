//! What can be wrong with a packed matrix or a product.

/// Errors of the packed layout and its kernels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A code width that the layout does not have.
    #[error("{bits} bits a code is not supported: use 1, 2, 3, 4 or 8")]
    UnsupportedBits {
        /// The width asked for.
        bits: u8,
    },
    /// A matrix without rows or columns, or one whose byte count overflows.
    #[error("a packed matrix of {rows} x {cols} is empty or too large")]
    BadShape {
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
    },
    /// A group size that does not keep groups on whole bytes.
    #[error("group size {group_size} is not a positive multiple of 8")]
    BadGroupSize {
        /// Weights a group.
        group_size: usize,
    },
    /// A buffer of the wrong length.
    #[error("{what} has {found} elements where {expected} are needed")]
    Length {
        /// The buffer.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A code that does not fit its width.
    #[error("code {code} at row {row}, column {col} does not fit in {bits} bits")]
    CodeOutOfRange {
        /// Row of the code.
        row: usize,
        /// Column of the code.
        col: usize,
        /// The code.
        code: u8,
        /// The width it has to fit.
        bits: u8,
    },
    /// A scale or zero point that is infinite or not a number.
    #[error("{what} of row {row}, group {group} is not finite")]
    NotFinite {
        /// `"scale"` or `"zero point"`.
        what: &'static str,
        /// Row of the group.
        row: usize,
        /// Group within the row.
        group: usize,
    },
    /// Bits beyond the last code of a row that are not zero.
    #[error("row {row} has bits set beyond its last code")]
    DirtyPadding {
        /// The row.
        row: usize,
    },
}
