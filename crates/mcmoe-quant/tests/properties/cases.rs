//! Random cases: a few numbers that can be printed and shrunk, and a seed for all the others.

use std::ops::Range;

use mcmoe_quant::{
    BitWidth, GridSearch, Hessian, Matrix, Method, PackedShape, QuantOptions, Quantized, quantize,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const METHODS: [Method; 3] = [Method::Rtn, Method::Gptq, Method::Hqq];

/// A group size above every number of columns here: one group a row.
pub(crate) const PER_ROW: usize = 1 << 16;

/// `cases` cases, the same ones every time; the environment changes how many and which.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

/// Shape, width and groups of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) bits: BitWidth,
    pub(crate) group_size: usize,
}

impl Shape {
    pub(crate) fn packed(self) -> PackedShape {
        PackedShape::new(self.rows, self.cols, self.bits, self.group_size).unwrap()
    }

    pub(crate) fn options(self, method: Method) -> QuantOptions {
        QuantOptions::new(self.bits.bits()).unwrap().method(method).group_size(self.group_size)
    }

    /// Row, group within the row, and place among all weights, of every group.
    pub(crate) fn groups(self) -> impl Iterator<Item = (usize, usize, Range<usize>)> {
        let Self { rows, cols, group_size, .. } = self;
        (0..rows).flat_map(move |row| {
            (0..cols.div_ceil(group_size)).map(move |group| {
                let (start, end) = (group * group_size, cols.min((group + 1) * group_size));
                (row, group, row * cols + start..row * cols + end)
            })
        })
    }
}

/// How the weights of a matrix are distributed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flavour {
    Gaussian,
    Uniform,
    /// A few weights up to a billion times the others.
    HeavyTailed,
    ConstantRows,
    /// Every other group is zero.
    ZeroGroups,
    /// None below zero.
    OneSided,
    /// Rows that differ from a constant by little.
    Offset,
    /// Sizes from one down to 2⁻⁴⁰ side by side.
    Mixed,
}

impl Flavour {
    const ALL: [Self; 8] = [
        Self::Gaussian,
        Self::Uniform,
        Self::HeavyTailed,
        Self::ConstantRows,
        Self::ZeroGroups,
        Self::OneSided,
        Self::Offset,
        Self::Mixed,
    ];
}

/// Calibration inputs: each feature is a share of the one before it plus something new, in sizes of their
/// own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs {
    /// Tokens, as a multiple of the features.
    pub(crate) tokens: f32,
    /// Correlation of neighbours.
    pub(crate) chain: f32,
}

/// A matrix and its inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) flavour: Flavour,
    /// Power of two that all weights are multiplied with.
    pub(crate) magnitude: i32,
    pub(crate) inputs: Inputs,
    pub(crate) seed: u64,
}

impl Case {
    /// The case with the weights of a usual layer.
    pub(crate) fn gaussian(self) -> Self {
        Self { flavour: Flavour::Gaussian, magnitude: 0, ..self }
    }

    pub(crate) fn weights(&self) -> Vec<f32> {
        let Self { shape, flavour, magnitude, .. } = *self;
        let mut rng = random(self.seed);
        let unit = 0.05 * 2_f32.powi(magnitude);
        let mut weights = Vec::with_capacity(shape.rows * shape.cols);
        for row in 0..shape.rows {
            let (level, spread) = (gaussian(&mut rng), 2_f32.powi((-12.0 * uniform(&mut rng)) as i32));
            for col in 0..shape.cols {
                let value = gaussian(&mut rng);
                let weight = match flavour {
                    Flavour::Gaussian => value,
                    Flavour::Uniform => 2.0 * uniform(&mut rng) - 1.0,
                    Flavour::HeavyTailed => value / uniform(&mut rng),
                    Flavour::ConstantRows => level,
                    Flavour::ZeroGroups if (row + col / shape.group_size).is_multiple_of(2) => 0.0,
                    Flavour::ZeroGroups => value,
                    Flavour::OneSided => value.abs(),
                    Flavour::Offset => level + 0.01 * spread * value,
                    Flavour::Mixed => value * 2_f32.powi((-40.0 * uniform(&mut rng)) as i32),
                };
                weights.push(unit * weight);
            }
        }
        weights
    }

    pub(crate) fn hessian(&self) -> Hessian {
        let (features, Inputs { tokens, chain }) = (self.shape.cols, self.inputs);
        let mut rng = random(!self.seed);
        let sizes: Vec<f32> = (0..features).map(|_| (0.5 * gaussian(&mut rng)).exp()).collect();
        let mut values = Vec::new();
        for _ in 0..(tokens * features as f32).ceil() as usize {
            let mut value = gaussian(&mut rng);
            for size in &sizes {
                values.push(size * value);
                value = chain * value + (1.0 - chain * chain).sqrt() * gaussian(&mut rng);
            }
        }
        let mut hessian = Hessian::new(features);
        hessian.add(&values).unwrap();
        hessian
    }

    pub(crate) fn run(
        &self,
        weights: &[f32],
        hessian: Option<&Hessian>,
        options: &QuantOptions,
    ) -> Quantized {
        quantize(self.matrix(weights), hessian, options).unwrap()
    }

    pub(crate) fn matrix<'a>(&self, weights: &'a [f32]) -> Matrix<'a> {
        Matrix::new(self.shape.rows, self.shape.cols, weights).unwrap()
    }
}

/// Cases of all widths, groups and flavours. About half of the rows that could are whole groups.
pub(crate) fn cases(
    rows: impl Strategy<Value = usize>,
    cols: Range<usize>,
    inputs: impl Strategy<Value = Inputs>,
) -> impl Strategy<Value = Case> {
    let group_size = prop_oneof![4 => (1_usize..=8).prop_map(|blocks| 32 * blocks), 1 => Just(PER_ROW)];
    let shape = (rows, cols, any::<bool>(), select(BitWidth::ALL.to_vec()), group_size).prop_map(
        |(rows, cols, whole, bits, group_size)| {
            let rest = if whole && cols >= group_size { cols % group_size } else { 0 };
            Shape { rows, cols: cols - rest, bits, group_size }
        },
    );
    let flavour = select(Flavour::ALL.to_vec());
    let magnitude = prop_oneof![3 => Just(0_i32), 1 => -100_i32..=60];
    (shape, flavour, magnitude, inputs, any::<u64>()).prop_map(|(shape, flavour, magnitude, inputs, seed)| {
        Case { shape, flavour, magnitude, inputs, seed }
    })
}

/// Inputs with so many tokens a feature, from independent to strongly correlated.
pub(crate) fn inputs(tokens: impl Strategy<Value = f32>) -> impl Strategy<Value = Inputs> {
    (tokens, 0.0_f32..0.9).prop_map(|(tokens, chain)| Inputs { tokens, chain })
}

/// Inputs of no token, of fewer tokens than features, and of enough.
pub(crate) fn any_inputs() -> impl Strategy<Value = Inputs> {
    inputs(prop_oneof![1 => Just(0.0_f32), 2 => 0.01_f32..1.0, 3 => 1.0_f32..4.0])
}

/// A search over `steps` factors from `from` to `to`.
pub(crate) fn search(from: f32, to: f32, steps: usize) -> GridSearch {
    let mut search = GridSearch::published();
    (search.from, search.to, search.steps) = (from, to, steps);
    search
}

pub(crate) fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Above zero, below one.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() as f32 + 1.0) / 4_294_967_808.0
}

pub(crate) fn gaussian(rng: &mut ChaCha8Rng) -> f32 {
    (-2.0 * uniform(rng).ln()).sqrt() * (std::f32::consts::TAU * uniform(rng)).cos()
}
