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
    /// A rate that trellis codes do not come in.
    #[error("a trellis of {bits} bits a weight is not supported: use 1, 1.5, 2, 2.5, 3 or 4")]
    UnsupportedRate {
        /// The rate asked for.
        bits: String,
    },
    /// A matrix without rows or columns, or one whose byte count overflows.
    #[error("a packed matrix of {rows} x {cols} is empty or too large")]
    BadShape {
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
    },
    /// A group size that does not keep groups on whole blocks, or too large for exact sums.
    #[error("group size {group_size} is not a positive multiple of {multiple} up to 65536")]
    BadGroupSize {
        /// Weights a group.
        group_size: usize,
        /// What it has to be a multiple of.
        multiple: usize,
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
        /// The bits it has to fit.
        bits: usize,
    },
    /// A graphics card that is not there, or cannot be used.
    #[error("{reason}")]
    NoDevice {
        /// Why.
        reason: String,
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
    /// Bits beyond the last row or column that are not zero.
    #[error("tile {tile} has bits set beyond the last row or column")]
    DirtyPadding {
        /// The tile of 16 rows.
        tile: usize,
    },
    /// A token that the batch does not have.
    #[error("token {token} of a batch of {tokens}")]
    NoToken {
        /// The token asked for.
        token: usize,
        /// Tokens of the batch.
        tokens: usize,
    },
    /// Kernels that this CPU cannot run, or that do not exist.
    #[error("no {name:?} kernels on this machine: use one of {available}")]
    NoBackend {
        /// The name asked for.
        name: String,
        /// What there is.
        available: String,
    },
    /// A precision of activations that does not exist.
    #[error("{name:?} is not a precision of activations: use int8 or f32")]
    UnknownPrecision {
        /// The name asked for.
        name: String,
    },
}
