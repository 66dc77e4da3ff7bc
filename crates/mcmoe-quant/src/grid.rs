//! The levels that the weights of one group may take.

use half::f16;
use mcmoe_tensor_kernels::BitWidth;

/// Scale and zero point of a group: level `code` is the weight `scale * (code - zero)`.
///
/// Both are values that `f16` holds exactly, so what a quantizer sees is what is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    scale: f32,
    zero: f32,
    max_code: f32,
}

impl Grid {
    /// A grid with `scale` and `zero` rounded to `f16`.
    pub fn new(scale: f32, zero: f32, bits: BitWidth) -> Self {
        let round = |value: f32| f16::from_f32(value.clamp(-65504.0, 65504.0)).to_f32();
        Self { scale: round(scale), zero: round(zero), max_code: f32::from(bits.max_code()) }
    }

    /// The best grid for `weights`: sign and mean magnitude at 1 bit, else a min–max grid shrunk or
    /// stretched as `search` says.
    pub fn fit(weights: &[f32], bits: BitWidth, search: &GridSearch) -> Self {
        if bits == BitWidth::B1 { Self::binary(weights) } else { Self::searched(weights, bits, search) }
    }

    /// The weight's code on this grid.
    pub fn code(&self, weight: f32) -> u8 {
        // A scale of zero gives NaN or an infinity here; both end as a valid code of weight zero.
        let level = weight / self.scale + self.zero;
        if self.max_code == 1.0 {
            // Weight zero counts as positive, as in arXiv 2410.06270.
            return u8::from(level >= 0.5);
        }
        level.round_ties_even().clamp(0.0, self.max_code) as u8
    }

    /// The weight that `code` stands for.
    pub fn weight(&self, code: u8) -> f32 {
        self.scale * (f32::from(code) - self.zero)
    }

    /// The scale as stored.
    pub fn scale(&self) -> f16 {
        f16::from_f32(self.scale)
    }

    /// The zero point as stored.
    pub fn zero(&self) -> f16 {
        f16::from_f32(self.zero)
    }

    /// `±mean|w|`: scale twice the mean, zero at one half.
    fn binary(weights: &[f32]) -> Self {
        let mean = weights.iter().map(|w| w.abs()).sum::<f32>() / weights.len() as f32;
        Self::new(2.0 * mean, 0.5, BitWidth::B1)
    }

    fn searched(weights: &[f32], bits: BitWidth, search: &GridSearch) -> Self {
        let (low, high) = range(weights);
        let step = (high - low) / f32::from(bits.max_code());
        if step == 0.0 {
            return Self::new(0.0, 0.0, bits);
        }
        let candidate = |shrink: f32| Self::new(step * shrink, -low / step, bits);
        let mut best = (f32::INFINITY, candidate(1.0));
        for shrink in search.factors() {
            let grid = candidate(shrink);
            let error = grid.error(weights, search.norm, best.0);
            if error < best.0 {
                best = (error, grid);
            }
        }
        best.1
    }

    /// `Σ|w - ŵ|^norm`, or what has added up when it reaches `bound`.
    fn error(&self, weights: &[f32], norm: f32, bound: f32) -> f32 {
        /// Weights between two looks at the bound.
        const PIECE: usize = 32;
        let mut error = 0.0;
        for piece in weights.chunks(PIECE) {
            error += self.piece_error(piece, norm);
            if error >= bound {
                break;
            }
        }
        error
    }

    /// As [`Grid::error`]; eight sums side by side, so that compilers use wide registers.
    fn piece_error(&self, weights: &[f32], norm: f32) -> f32 {
        let (inverse, Self { scale, zero, max_code }) = (1.0 / self.scale, *self);
        let loss = |w: f32| {
            let code = round(at_most(at_least(w * inverse + zero, 0.0), max_code));
            power((w - scale * (code - zero)).abs(), norm)
        };
        let mut sums = [0.0; 8];
        let (eights, rest) = weights.as_chunks::<8>();
        for eight in eights {
            for (sum, w) in sums.iter_mut().zip(eight) {
                *sum += loss(*w);
            }
        }
        let rest: f32 = rest.iter().map(|w| loss(*w)).sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// `x.max(least)` as one instruction: without a thought for NaN.
const fn at_least(x: f32, least: f32) -> f32 {
    if x > least { x } else { least }
}

/// `x.min(most)`, likewise.
const fn at_most(x: f32, most: f32) -> f32 {
    if x < most { x } else { most }
}

/// 3 · 2²²: numbers between it and 2²⁴ are whole, so adding it to a small number rounds that.
const WHOLE: f32 = 12_582_912.0;

/// The nearest whole number, of two the even one, for `|x|` below 2²²; without a call where there is no
/// instruction for it.
const fn round(x: f32) -> f32 {
    (x + WHOLE) - WHOLE
}

/// `x` to the power `y`, to five digits, for `x ≥ 0` and results that are normal numbers (others come near
/// zero): in simple steps that compilers do for several numbers at once, as `f32::powf` does not.
fn power(x: f32, y: f32) -> f32 {
    let bits = x.to_bits();
    // x = m · 2^e with m from √½ to √2.
    let e = (bits.wrapping_sub(0x3F35_04F3) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((e << 23) as u32));
    // ln m = 2 artanh t
    let t = (m - 1.0) / (m + 1.0);
    let s = t * t;
    let ln = 2.0 * t * (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0))));
    let log2 = (e as f32 + ln * std::f32::consts::LOG2_E) * y;
    let log2 = at_most(at_least(log2, -126.0), 127.0);
    // 2^log2 = 2^i · e^f
    let whole = log2 + WHOLE;
    let f = (log2 - (whole - WHOLE)) * std::f32::consts::LN_2;
    let exp =
        1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f / 720.0)))));
    let i = whole.to_bits().wrapping_sub(WHOLE.to_bits());
    exp * f32::from_bits(i.wrapping_add(127) << 23)
}

/// The search for a group's scale: shrink factors of the min–max range, and the norm of the error.
///
/// The published method tries factors from 0.9 to 1.1 under `Σ|w − ŵ|^2.4` (arXiv 2410.06270, and
/// GPTQ's own search). Narrow grids pay at 2 and 3 bits, so the default reaches further down.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GridSearch {
    /// Smallest factor on the min–max step.
    pub from: f32,
    /// Largest factor on the min–max step.
    pub to: f32,
    /// Number of factors tried, both ends included.
    pub steps: usize,
    /// Exponent of the error that is minimised.
    pub norm: f32,
}

impl Default for GridSearch {
    fn default() -> Self {
        Self { from: 0.5, to: 1.1, steps: 61, norm: 2.4 }
    }
}

impl GridSearch {
    /// The search of the published method.
    pub const fn published() -> Self {
        Self { from: 0.9, to: 1.1, steps: 21, norm: 2.4 }
    }

    fn factors(self) -> impl Iterator<Item = f32> {
        let stride = (self.to - self.from) / (self.steps.max(2) - 1) as f32;
        (0..self.steps).map(move |i| self.from + stride * i as f32)
    }
}

/// Smallest and largest weight, zero included.
fn range(weights: &[f32]) -> (f32, f32) {
    weights.iter().fold((0.0_f32, 0.0_f32), |(low, high), &w| (low.min(w), high.max(w)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_and_rounding_are_those_of_the_library() {
        for i in 1..20_000 {
            let x = (i as f32 / 500.0 - 20.0).exp();
            for y in [2.0, 2.4, 0.7] {
                let (found, expected) = (power(x, y), x.powf(y));
                assert!((found - expected).abs() <= 1e-5 * expected, "{x} {y}: {found} {expected}");
            }
            let x = i as f32 / 64.0 - 100.0;
            assert_eq!(round(x), x.round_ties_even());
        }
        assert!(power(0.0, 2.4) < 1e-37);
    }

    #[test]
    fn binary_is_the_mean_magnitude() {
        let grid = Grid::fit(&[1.0, -3.0, 0.5, -0.5], BitWidth::B1, &GridSearch::default());
        assert_eq!([grid.weight(0), grid.weight(1)], [-1.25, 1.25]);
        assert_eq!([1.0, -3.0, 0.0, -0.5].map(|w| grid.code(w)), [1, 0, 1, 0]);
    }

    #[test]
    fn levels_of_a_grid_are_kept() {
        let weights: Vec<f32> = (0..8).map(|code| 0.25 * (code as f32 - 3.0)).collect();
        let grid = Grid::fit(&weights, BitWidth::B3, &GridSearch::default());
        for (code, &weight) in weights.iter().enumerate() {
            assert_eq!((grid.code(weight), grid.weight(code as u8)), (code as u8, weight));
        }
    }

    #[test]
    fn zero_groups_stay_zero() {
        for bits in BitWidth::ALL {
            let grid = Grid::fit(&[0.0; 16], bits, &GridSearch::default());
            assert_eq!(grid.weight(grid.code(0.0)), 0.0, "{bits}");
        }
    }

    #[test]
    fn the_search_never_does_worse_than_min_max() {
        let weights: Vec<f32> = (0..128).map(|i| ((i * 73 % 127) as f32 - 60.0).powi(3) / 1e5).collect();
        for bits in [BitWidth::B2, BitWidth::B3, BitWidth::B4] {
            let plain = GridSearch { from: 1.0, to: 1.0, steps: 1, norm: 2.4 };
            let error = |search| Grid::fit(&weights, bits, &search).error(&weights, 2.4, f32::INFINITY);
            assert!(error(GridSearch { steps: 61, ..GridSearch::default() }) <= error(plain) * 1.0001);
            assert!(error(GridSearch::published()) <= error(plain));
        }
    }
}
