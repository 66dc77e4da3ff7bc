//! Uniform draws that every version and platform repeats.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of uniform integers, fixed by a seed.
///
/// The stream is the ChaCha8 key stream (nonce and counter zero) under the key that is the seed as 8 little-endian
/// bytes followed by 24 zero bytes, read as little-endian 64-bit words. Ranges are cut from it here, because
/// random-number crates do not promise that their range sampling stays the same.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A uniform integer below `bound`, which is not zero: the remainder of the next word that lies below the
    /// largest multiple of `bound` within 64 bits.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        let excess = (u64::MAX % bound + 1) % bound;
        loop {
            let word = self.0.next_u64();
            if word <= u64::MAX - excess {
                return (word % bound) as usize;
            }
        }
    }
}
