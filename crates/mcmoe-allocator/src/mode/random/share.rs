//! Shares of any smallness: with many experts, a size can be reached in less than one of 2¹⁰⁷⁴ ways.

/// Bits of the fraction of an `f64`.
const FRACTION: u32 = 52;
/// The exponent that an `f64` stores for 1.
const BIAS: i32 = 1023;
/// Of two numbers that are further apart than 2 to this, the smaller one does not count.
const FAR: i32 = 1000;

/// A positive number: `mantissa` times two to the `exponent`. The mantissa is from 1 to 2, and results round
/// as those of `f64` do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    mantissa: f64,
    exponent: i32,
}

impl Share {
    pub(super) const ONE: Self = Self { mantissa: 1.0, exponent: 0 };

    pub(super) fn plus(self, other: Self) -> Self {
        let exponent = self.exponent.max(other.exponent);
        Self::new(self.over(exponent) + other.over(exponent), exponent)
    }

    pub(super) fn divided_by(self, other: Self) -> Self {
        Self::new(self.mantissa / other.mantissa, self.exponent - other.exponent)
    }

    /// As multiples of the same number; 0 for what is not there.
    pub(super) fn in_proportion(shares: &[Option<Self>]) -> Vec<f64> {
        let exponent = shares.iter().flatten().map(|share| share.exponent).max().unwrap_or(0);
        shares.iter().map(|share| share.map_or(0.0, |share| share.over(exponent))).collect()
    }

    /// `number` times two to the `exponent`.
    fn new(number: f64, exponent: i32) -> Self {
        let bits = number.to_bits();
        let own = (bits >> FRACTION) as i32 - BIAS;
        let fraction = bits & ((1_u64 << FRACTION) - 1);
        Self { mantissa: f64::from_bits(fraction | power_bits(0)), exponent: exponent + own }
    }

    /// Divided by two to the `exponent`, which is not below its own.
    fn over(self, exponent: i32) -> f64 {
        let power = self.exponent - exponent;
        if power < -FAR { 0.0 } else { self.mantissa * f64::from_bits(power_bits(power)) }
    }
}

/// Two to the `power`, which is within 1022, as an `f64` stores it.
fn power_bits(power: i32) -> u64 {
    u64::from((power + BIAS).unsigned_abs()) << FRACTION
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(number: f64) -> Share {
        Share::new(number, 0)
    }

    #[test]
    fn results_are_those_of_f64() {
        let numbers = [1.0, 0.1, 3.7, 1e-9, 12345.678, 0.3, 1e17, 1e-200];
        for a in numbers {
            for b in numbers {
                assert_eq!(share(a).plus(share(b)), share(a + b), "{a} + {b}");
                assert_eq!(share(a).divided_by(share(b)), share(a / b), "{a} / {b}");
                let [x, y] = Share::in_proportion(&[Some(share(a)), Some(share(b))])[..] else { panic!() };
                assert_eq!(x / y, a / b);
            }
        }
    }

    #[test]
    fn they_never_vanish() {
        let third = Share::ONE.divided_by(share(3.0));
        let mut small = Share::ONE;
        for _ in 0..5000 {
            small = small.divided_by(share(3.0));
        }
        assert_eq!(Share::ONE.plus(small), Share::ONE);
        let proportion = Share::in_proportion(&[Some(small.divided_by(third)), None, Some(small)]);
        assert!((proportion[0] / proportion[2] - 3.0).abs() < 1e-12 && proportion[1] == 0.0);
    }
}
