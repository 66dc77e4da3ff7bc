//! The rules behind [`Mode`](crate::Mode), one file each.

pub(crate) mod global;
pub(crate) mod manual;
pub(crate) mod mixed;
pub(crate) mod random;
pub(crate) mod uniform;

/// Widths, `[layer][expert]`.
pub(crate) type Bits = Vec<Vec<u8>>;
