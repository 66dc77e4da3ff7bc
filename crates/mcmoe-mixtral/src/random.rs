//! Random numbers for models and tokens that only have to be busy, not to be unpredictable.

/// The xorshift generator with shifts 13, 7 and 17 (Marsaglia 2003).
pub(crate) struct Xorshift(u64);

impl Xorshift {
    /// The same numbers for the same `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
