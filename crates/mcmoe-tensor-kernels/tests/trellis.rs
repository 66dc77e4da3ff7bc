//! The search for trellis codes against its definition, written plainly.

use std::sync::LazyLock;

use half::f16;
use mcmoe_tensor_kernels::{
    Backend, KernelError, PackedMatrix, PackedShape, TrellisMemory, TrellisPath, TrellisRate, TrellisSearch,
};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

/// Bits of the stream that a level depends on.
const WINDOW: usize = 12;
/// Columns for which every path stays open at least.
const REACH: usize = 32;

/// A stream of random numbers.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Above 0, up to 1.
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn gaussians(&mut self, count: usize, size: f64) -> Vec<f32> {
        (0..count).map(|_| (size * self.gaussian()) as f32).collect()
    }
}

/// A group that owns its numbers.
struct Group {
    rate: TrellisRate,
    targets: Vec<f32>,
    importance: Vec<f32>,
    feedback: Vec<f32>,
}

impl Group {
    /// Targets of weights that are normally distributed, no feedback.
    fn plain(rate: TrellisRate, cols: usize, random: &mut Random) -> Self {
        let targets = random.gaussians(cols, f64::from(rate.unit()));
        Self { rate, targets, importance: vec![1.0; cols], feedback: vec![0.0; cols * cols] }
    }

    /// Importances of different sizes, and feedback that is strong on near columns, weak on far ones. None of
    /// it goes backwards: what would is not a number.
    fn with_feedback(rate: TrellisRate, cols: usize, random: &mut Random) -> Self {
        let mut group = Self::plain(rate, cols, random);
        group.importance = (0..cols).map(|_| (0.3 * random.gaussian()).exp() as f32).collect();
        for (at, feedback) in group.feedback.iter_mut().enumerate() {
            let (from, to) = (at / cols, at % cols);
            *feedback = if from < to {
                let near = (-((to - from) as f64) / 8.0).exp();
                ((0.3 * near + 0.03) * random.gaussian()) as f32
            } else {
                f32::NAN
            };
        }
        group
    }

    fn work(&self) -> TrellisSearch<'_> {
        let Self { rate, targets, importance, feedback } = self;
        TrellisSearch { rate: *rate, targets, importance, feedback }
    }

    /// What the backend of the process finds.
    fn search(&self) -> TrellisPath {
        search(Backend::current().unwrap(), &self.work())
    }

    /// What is left of each target: it is moved by the errors of all columns before it.
    fn errors(&self, levels: &[f64]) -> Vec<f64> {
        let cols = levels.len();
        let mut errors: Vec<f64> = Vec::with_capacity(cols);
        for (col, level) in levels.iter().enumerate() {
            let effect = |from: usize| errors[from] * f64::from(self.feedback[from * cols + col]);
            let moved: f64 = (0..col).map(effect).sum();
            errors.push(f64::from(self.targets[col]) - moved - level);
        }
        errors
    }

    /// What a stream costs that gives these levels.
    fn cost(&self, levels: &[f64]) -> f64 {
        let errors = self.errors(levels);
        errors.iter().zip(&self.importance).map(|(error, &weight)| f64::from(weight) * error * error).sum()
    }

    /// The least cost of any stream, without feedback: by all windows, column by column.
    fn least_cost(&self) -> f64 {
        let mut costs = vec![f64::INFINITY; 1 << WINDOW];
        costs[0] = 0.0;
        for (col, (&target, &importance)) in self.targets.iter().zip(&self.importance).enumerate() {
            let (bits, levels) = (bits(self.rate, col), levels(self.rate, col));
            let mut next = vec![f64::INFINITY; 1 << WINDOW];
            for (before, cost) in costs.iter().enumerate() {
                for symbol in 0..1 << bits {
                    let window = (before << bits | symbol) % (1 << WINDOW);
                    let error = f64::from(target) - levels[window];
                    let cost = cost + f64::from(importance) * error * error;
                    next[window] = next[window].min(cost);
                }
            }
            costs = next;
        }
        costs.into_iter().fold(f64::INFINITY, f64::min)
    }

    /// The cost that the search should find within its reach: of the paths that the next column cannot tell
    /// apart the best one survives, and takes all its errors along.
    fn survivor_cost(&self) -> f64 {
        let cols = self.targets.len();
        let mut paths: Vec<Option<(f64, Vec<f64>)>> = vec![Some((0.0, Vec::new()))];
        for col in 0..cols {
            let bits = [col, col + 1].map(|col| bits(self.rate, col));
            let levels = levels(self.rate, col);
            let states = 1 << (WINDOW - bits[1]);
            let mut next: Vec<Option<(f64, Vec<f64>)>> = vec![None; states];
            for (before, path) in paths.iter().enumerate() {
                let Some((cost, errors)) = path else { continue };
                let effect = |from: usize| errors[from] * f64::from(self.feedback[from * cols + col]);
                let target = f64::from(self.targets[col]) - (0..col).map(effect).sum::<f64>();
                for symbol in 0..1 << bits[0] {
                    let window = before << bits[0] | symbol;
                    let error = target - levels[window];
                    let cost = cost + f64::from(self.importance[col]) * error * error;
                    let survivor = &mut next[window % states];
                    if survivor.as_ref().is_none_or(|(least, _)| cost < *least) {
                        let mut errors = errors.clone();
                        errors.push(error);
                        *survivor = Some((cost, errors));
                    }
                }
            }
            paths = next;
        }
        paths.into_iter().flatten().map(|(cost, _)| cost).fold(f64::INFINITY, f64::min)
    }
}

fn search(backend: Backend, work: &TrellisSearch<'_>) -> TrellisPath {
    let mut path = TrellisPath::default();
    backend.search_trellis(work, &mut TrellisMemory::default(), &mut path).unwrap();
    path
}

/// Whether two weights share a window.
fn in_pairs(rate: TrellisRate) -> bool {
    rate.bits() < 2.0
}

/// Bits that the weight of column `col` of a group appends.
fn bits(rate: TrellisRate, col: usize) -> usize {
    let until = |cols: usize| {
        let cols = if in_pairs(rate) { cols.next_multiple_of(2) } else { cols };
        (cols as f64 * rate.bits()) as usize
    };
    until(col + 1) - until(col)
}

/// The level of every window for the weight of column `col` of a group, zero as 0.
fn levels(rate: TrellisRate, col: usize) -> &'static [f64] {
    static LEVELS: LazyLock<Vec<[Vec<f64>; 2]>> = LazyLock::new(|| TrellisRate::ALL.map(read_levels).into());
    &LEVELS[TrellisRate::ALL.iter().position(|other| *other == rate).unwrap()][col % 2]
}

/// Reads the levels off a matrix that begins each of its rows with another window: those of even and those
/// of odd columns.
fn read_levels(rate: TrellisRate) -> [Vec<f64>; 2] {
    let total = |cols: usize| (0..cols).map(|col| bits(rate, col)).sum::<usize>();
    let filled = (1..=WINDOW).find(|&cols| total(cols) == WINDOW).unwrap();
    let shape = PackedShape::new(1 << WINDOW, 64, rate, 64).unwrap();
    let mut codes = vec![0; shape.weights()];
    for (window, row) in codes.chunks_exact_mut(64).enumerate() {
        for (col, code) in row[..filled].iter_mut().enumerate() {
            let symbol = window >> (WINDOW - total(col + 1));
            *code = (symbol % (1 << bits(rate, col))) as u8;
        }
    }
    let scales = vec![f16::ONE; shape.params()];
    let packed = PackedMatrix::pack(shape, &codes, &scales, &[]).unwrap();
    let levels = packed.unpack_codes();
    let column = |col: usize| levels.chunks_exact(64).map(|row| f64::from(row[col]) - 64.0).collect();
    if in_pairs(rate) { [column(filled - 1), column(filled)] } else { [(); 2].map(|()| column(filled - 1)) }
}

/// The levels that symbols stand for.
fn decode(rate: TrellisRate, symbols: &[u8]) -> Vec<f64> {
    let mut window = 0_usize;
    let level = |(col, &symbol): (usize, &u8)| {
        assert!(usize::from(symbol) < 1 << bits(rate, col), "symbol {symbol} at column {col}");
        window = (window << bits(rate, col) | usize::from(symbol)) % (1 << WINDOW);
        levels(rate, col)[window]
    };
    symbols.iter().enumerate().map(level).collect()
}

/// The levels of a path, which its symbols have to give.
fn checked_levels(rate: TrellisRate, path: &TrellisPath) -> Vec<f64> {
    let levels: Vec<f64> = path.levels.iter().map(|&level| f64::from(level)).collect();
    assert_eq!(decode(rate, &path.symbols), levels);
    levels
}

/// All of a path, to compare bit by bit.
fn parts(path: &TrellisPath) -> (&[u8], &[i8], Vec<u32>) {
    (&path.symbols, &path.levels, path.errors.iter().map(|error| error.to_bits()).collect())
}

fn config(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn no_stream_costs_less(
        rate in select(TrellisRate::ALL.to_vec()),
        cols in 1..=REACH,
        size in select(vec![0.02_f64, 0.3, 1.0, 2.0, 10.0]),
        spread in 0.0_f64..3.0,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let mut group = Group::plain(rate, cols, &mut random);
        group.targets.iter_mut().for_each(|target| *target *= size as f32);
        group.importance = (0..cols).map(|_| (spread * random.gaussian()).exp() as f32).collect();
        let (found, least) = (group.cost(&checked_levels(rate, &group.search())), group.least_cost());
        prop_assert!((found / least - 1.0).abs() < 1e-4, "{found}, least {least}");
    }
}

#[test]
fn hardly_a_longer_stream_costs_less() {
    let mut random = Random::new(3);
    for rate in TrellisRate::ALL {
        let (mut found, mut least) = (0.0, 0.0);
        for cols in [65, 133, 256, 256, 256, 256, 256, 256, 256, 256] {
            let group = Group::plain(rate, cols, &mut random);
            let costs = (group.cost(&checked_levels(rate, &group.search())), group.least_cost());
            assert!(costs.0 > (1.0 - 1e-6) * costs.1, "{rate}, {cols} columns: {costs:?}");
            (found, least) = (found + costs.0, least + costs.1);
        }
        assert!(found < 1.10 * least, "{rate}: {found}, least {least}");
    }
}

#[test]
fn errors_are_what_feedback_leaves() {
    let mut random = Random::new(2);
    for rate in TrellisRate::ALL {
        for cols in [1, 2, 8, 9, 63, 64, 65, 130, 256, 301] {
            let group = Group::with_feedback(rate, cols, &mut random);
            let path = group.search();
            let errors = group.errors(&checked_levels(rate, &path));
            assert_eq!(path.errors.len(), cols);
            for (col, (&found, expected)) in path.errors.iter().zip(errors).enumerate() {
                let close = (f64::from(found) - expected).abs() < 1e-4 * f64::from(rate.unit());
                assert!(close, "{rate}, column {col} of {cols}: {found} {expected}");
            }
        }
    }
}

#[test]
fn survivors_carry_their_errors() {
    let mut random = Random::new(3);
    for rate in TrellisRate::ALL {
        for cols in [13, REACH - 8, REACH] {
            let group = Group::with_feedback(rate, cols, &mut random);
            let found = group.cost(&checked_levels(rate, &group.search()));
            let expected = group.survivor_cost();
            assert!((found / expected - 1.0).abs() < 1e-3, "{rate}, {cols} columns: {found} {expected}");
        }
    }
}

#[test]
fn a_search_that_knows_the_feedback_finds_better() {
    let mut random = Random::new(4);
    for rate in TrellisRate::ALL {
        let (mut knowing, mut blind) = (0.0, 0.0);
        for _ in 0..3 {
            let mut group = Group::with_feedback(rate, 256, &mut random);
            knowing += group.cost(&checked_levels(rate, &group.search()));
            let feedback = std::mem::replace(&mut group.feedback, vec![0.0; 256 * 256]);
            let path = group.search();
            group.feedback = feedback;
            blind += group.cost(&checked_levels(rate, &path));
        }
        assert!(knowing < 0.8 * blind, "{rate}: {knowing} against {blind}");
    }
}

#[test]
fn errors_are_as_small_as_documented() {
    let mut random = Random::new(7);
    for rate in TrellisRate::ALL {
        let (mut cost, mut square) = (0.0, 0.0);
        for _ in 0..40 {
            let group = Group::plain(rate, 256, &mut random);
            cost += group.cost(&checked_levels(rate, &group.search()));
            square += group.targets.iter().map(|&target| f64::from(target).powi(2)).sum::<f64>();
        }
        // For variance 1 exactly, so that chance counts for less.
        let error = cost / square;
        assert!((error / rate.distortion() - 1.0).abs() < 0.1, "{rate}: {error}");
        // Information theory allows no less, whatever the code.
        assert!(error > 4_f64.powf(-rate.bits()), "{rate}: {error}");
    }
}

#[test]
fn what_is_found_is_what_is_packed() {
    let mut random = Random::new(6);
    for rate in TrellisRate::ALL {
        let shape = PackedShape::new(3, 300, rate, 256).unwrap();
        let (mut codes, mut levels) = (Vec::new(), Vec::new());
        for _ in 0..shape.rows() {
            for cols in [256, 44] {
                let path = Group::with_feedback(rate, cols, &mut random).search();
                codes.extend_from_slice(&path.symbols);
                levels.extend(path.levels.iter().map(|level| (level + 64) as u8));
            }
        }
        let packed = PackedMatrix::pack(shape, &codes, &[f16::ONE; 6], &[]).unwrap();
        assert_eq!(packed.check_contents(), Ok(()));
        assert_eq!(packed.unpack_codes(), levels, "{rate}");
    }
}

#[test]
fn backends_agree_and_memory_is_forgotten() {
    let mut random = Random::new(7);
    let mut used: Vec<_> = Backend::available()
        .into_iter()
        .map(|backend| (backend, TrellisMemory::default(), TrellisPath::default()))
        .collect();
    for cols in [256, 64, 1, 301, 7, 72] {
        for rate in TrellisRate::ALL {
            let group = Group::with_feedback(rate, cols, &mut random);
            let expected = search(Backend::named("scalar").unwrap(), &group.work());
            for (backend, memory, path) in &mut used {
                backend.search_trellis(&group.work(), memory, path).unwrap();
                assert!(parts(path) == parts(&expected), "{backend}, {rate}, {cols} columns");
                // Something that must not show in what comes next.
                let nan = Group { targets: vec![f32::NAN; cols], ..Group::plain(rate, cols, &mut random) };
                backend.search_trellis(&nan.work(), memory, path).unwrap();
            }
        }
    }
}

fn outcome(work: &TrellisSearch<'_>) -> Result<(), KernelError> {
    let backend = Backend::current().unwrap();
    backend.search_trellis(work, &mut TrellisMemory::default(), &mut TrellisPath::default())
}

#[test]
fn lengths_are_checked() {
    let mut random = Random::new(8);
    let good = Group::plain(TrellisRate::ALL[2], 10, &mut random);
    assert_eq!(outcome(&good.work()), Ok(()));
    for found in [0, 9, 11] {
        let importance = vec![1.0; found];
        let error = KernelError::Length { what: "importance", expected: 10, found };
        assert_eq!(outcome(&TrellisSearch { importance: &importance, ..good.work() }), Err(error));
    }
    for found in [0, 10, 99, 101] {
        let feedback = vec![0.0; found];
        let error = KernelError::Length { what: "feedback", expected: 100, found };
        assert_eq!(outcome(&TrellisSearch { feedback: &feedback, ..good.work() }), Err(error));
    }
}

#[test]
fn an_empty_group_has_an_empty_path() {
    let mut random = Random::new(9);
    for backend in Backend::available() {
        for rate in TrellisRate::ALL {
            let mut path = Group::plain(rate, 10, &mut random).search();
            let empty = Group::plain(rate, 0, &mut random);
            backend.search_trellis(&empty.work(), &mut TrellisMemory::default(), &mut path).unwrap();
            let lengths = [path.symbols.len(), path.levels.len(), path.errors.len()];
            assert_eq!(lengths, [0; 3], "{backend}, {rate}");
        }
    }
}

#[test]
fn any_number_is_survived() {
    let mut random = Random::new(10);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30, 0.0, -1.0] {
        for rate in TrellisRate::ALL {
            for cols in [1, 20, 150] {
                let mut groups = [0, 1, 2, 3].map(|_| Group::with_feedback(rate, cols, &mut random));
                groups[0].targets[cols / 2] = bad;
                groups[1].targets.fill(bad);
                groups[2].importance[cols / 3] = bad;
                groups[3].feedback[cols / 2] = bad;
                for group in groups {
                    let path = group.search();
                    let lengths = [path.symbols.len(), path.levels.len(), path.errors.len()];
                    assert_eq!(lengths, [cols; 3]);
                    // Symbols that cannot be packed would panic here.
                    decode(rate, &path.symbols);
                }
            }
        }
    }
}
