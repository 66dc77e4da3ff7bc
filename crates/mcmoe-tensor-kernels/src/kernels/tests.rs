//! The conformance suite: the scalar kernels against `f64`, every other backend against the scalar
//! ones bit for bit.

mod attention;
mod backends;
mod experts;
mod oracle;

use half::f16;
use proptest::prelude::*;

use super::*;
use crate::{BitWidth, Coding, PackedShape, SharedBytes, TrellisRate};

/// Cases a kernel: the budget that CI runs.
const CASES: u32 = 10_000;

/// A stream of random numbers.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From −1 to 1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.bits() >> 33) as usize % end
    }
}

/// What kind of numbers a case is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flavour {
    /// Weights and activations as in a model.
    Usual,
    /// Every code, scale and activation as large as it can be, either sign.
    Extreme,
    /// Groups of zero codes, zero scales or zero activations among usual ones.
    Holes,
    /// Numbers so small that they round to zero, and a large one now and then.
    Tiny,
}

const FLAVOURS: [Flavour; 4] = [Flavour::Usual, Flavour::Extreme, Flavour::Holes, Flavour::Tiny];

/// A random matrix of this shape at an odd address now and then.
fn matrix(shape: PackedShape, flavour: Flavour, random: &mut Random) -> PackedMatrix {
    let largest = |at| match shape.coding() {
        Coding::Grid(bits) => bits.max_code(),
        // Positions in a group, whose size is even, are odd where columns are.
        Coding::Trellis(rate) => (1 << rate.bits_at(at % shape.cols() % shape.group_size())) - 1,
    };
    let code = |at, random: &mut Random| match flavour {
        Flavour::Extreme => largest(at),
        _ => random.bits() as u8 & largest(at),
    };
    let mut codes: Vec<u8> = (0..shape.weights()).map(|at| code(at, random)).collect();
    let param = |random: &mut Random, largest: f32| match flavour {
        Flavour::Extreme => f16::MAX.to_f32().copysign(random.unit()),
        Flavour::Tiny => random.unit() * 1e-7,
        _ => random.unit() * largest,
    };
    let half = |value| f16::from_f32(value);
    let mut scales: Vec<f16> = (0..shape.params()).map(|_| half(param(random, 1.0))).collect();
    let zeros: Vec<f16> = match shape.coding() {
        Coding::Grid(bits) => {
            (0..shape.params()).map(|_| half(param(random, f32::from(bits.max_code())))).collect()
        }
        Coding::Trellis(_) => Vec::new(),
    };
    if flavour == Flavour::Holes {
        for (group, scale) in scales.iter_mut().enumerate() {
            let (row, start) = (group / shape.groups(), group % shape.groups() * shape.group_size());
            let end = shape.cols().min(start + shape.group_size());
            match random.below(4) {
                0 => codes[row * shape.cols()..][start..end].fill(0),
                1 => *scale = f16::ZERO,
                _ => {}
            }
        }
    }
    let packed = PackedMatrix::pack(shape, &codes, &scales, &zeros).unwrap();
    let offset = random.below(64);
    let mut bytes = vec![0xA5; offset];
    bytes.extend_from_slice(packed.bytes());
    let range = offset..bytes.len();
    let bytes = SharedBytes::from(bytes).slice(range).unwrap();
    PackedMatrix::from_bytes(shape, bytes).unwrap()
}

/// Activations `[tokens, cols]`.
fn activations(tokens: usize, cols: usize, flavour: Flavour, random: &mut Random) -> Vec<f32> {
    let value = |random: &mut Random| match flavour {
        Flavour::Usual => random.unit(),
        Flavour::Extreme => 1e4_f32.copysign(random.unit()),
        Flavour::Holes => random.unit() * (random.below(3) as f32),
        Flavour::Tiny if random.below(20) == 0 => random.unit() * 1e6,
        Flavour::Tiny => random.unit() * 1e-30,
    };
    let mut x: Vec<f32> = (0..tokens * cols).map(|_| value(random)).collect();
    if flavour == Flavour::Holes {
        let start = random.below(x.len());
        let end = x.len().min(start + random.below(300));
        x[start..end].fill(0.0);
    }
    x
}

fn shapes() -> impl Strategy<Value = PackedShape> {
    let grids = BitWidth::ALL.map(Coding::Grid).into_iter();
    let codings: Vec<Coding> = grids.chain(TrellisRate::ALL.map(Coding::Trellis)).collect();
    let coding = prop::sample::select(codings);
    let group_size = prop::sample::select(vec![32_usize, 64, 96, 128, 1024]);
    let cols = prop_oneof![1_usize..300, prop::sample::select(vec![31_usize, 32, 33, 127, 128, 129, 256])];
    (1_usize..40, cols, coding, group_size).prop_map(|(rows, cols, coding, group)| {
        // Groups of a trellis are multiples of 64.
        let shape = PackedShape::new(rows, cols, coding, group);
        shape.or_else(|_| PackedShape::new(rows, cols, coding, 2 * group)).unwrap()
    })
}

fn bits(values: &[f32]) -> Vec<u32> {
    // All NaNs are equal: which one comes out is not defined.
    values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}
