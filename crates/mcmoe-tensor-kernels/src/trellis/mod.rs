//! Trellis codes: a weight's level depends on the last 12 bits of a stream, not on its own bits alone.
//!
//! Every rate appends 1 to 4 bits a weight to the stream, so neighbouring weights share most of their
//! window: the stream with the least error is found by a search over paths ([`Backend::search_trellis`]),
//! and comes closer to what information theory allows at its rate than any code of one weight, or of a
//! few, can. The idea is trellis-coded quantization (Marcellin & Fischer 1990) on a shift register, as in
//! QTIP (Tseng et al. 2024). What is ours is the code: the window is folded by exclusive or to 6 bits, and
//! these pick one of 64 levels, so that two shifts, a fold and one permutation of bytes decode 64 weights. Below
//! 2 bits a window stands for two weights, each with 64 levels of its own: hardly less exact, and less work.
//!
//! Mean square errors for weights of variance 1 that are normally distributed, with the bound of
//! information theory, `4^-rate`, and the best scalar quantizer of the same rate beside it:
//!
//! | bits | this code | bound | scalar |
//! |---|---|---|---|
//! | 1 | 0.275 | 0.250 | 0.363 |
//! | 1.5 | 0.143 | 0.125 | |
//! | 2 | 0.0735 | 0.0625 | 0.118 |
//! | 2.5 | 0.0383 | 0.0313 | |
//! | 3 | 0.0197 | 0.0156 | 0.0345 |
//! | 4 | 0.0054 | 0.0039 | 0.0095 |
//!
//! That is what Viterbi's algorithm finds; the search, which settles choices early, stays within 10 % of it.
//!
//! The tables were found by Lloyd's iteration from the best of some random folds.
//!
//! [`Backend::search_trellis`]: crate::Backend::search_trellis

mod code;
mod rate;
pub(crate) mod search;
mod stream;

pub(crate) use code::levels;
#[cfg(any(target_arch = "x86_64", feature = "gpu"))]
pub(crate) use code::{INDEX, folded};
pub use rate::TrellisRate;
pub use search::{TrellisMemory, TrellisPath, TrellisSearch};
#[cfg(target_arch = "x86_64")]
pub(crate) use stream::continued;
pub(crate) use stream::{pack, symbol, unpack};

/// Bits of the stream that a level depends on.
pub(crate) const WINDOW: usize = 12;
/// The level of weight zero.
pub(crate) const ZERO: u8 = 64;
