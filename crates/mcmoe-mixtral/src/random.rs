//! Random numbers for models and tokens that only have to be busy, not to be unpredictable.

/// What xorshift and SplitMix64 spread seeds with: 2⁶⁴ over the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A seed for part `part` of what `seed` stands for: that many steps into SplitMix64 (Steele, Lea and
/// Flood 2014). Parts drawn from seeds of their own do not depend on who draws them, and when.
pub(crate) const fn seed_of_part(seed: u64, part: u64) -> u64 {
    let mut z = seed.wrapping_add(part.wrapping_add(1).wrapping_mul(GOLDEN));
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// The xorshift generator with shifts 13, 7 and 17 (Marsaglia 2003).
pub(crate) struct Xorshift(u64);

impl Xorshift {
    /// The same numbers for the same `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(GOLDEN) | 1)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the authors' `splitmix64.c`, seed 1234567.
    #[test]
    fn parts_are_the_steps_of_splitmix64() {
        let parts = [0, 1, 2].map(|part| seed_of_part(1_234_567, part));
        assert_eq!(parts, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
