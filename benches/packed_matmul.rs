//! Products with packed matrices in the shapes of Mixtral, on every backend of this CPU, against the speed
//! at which this machine reads memory.
//!
//! `cargo bench --bench packed_matmul [-- FILTER]`, for example `-- avx512/decode/2-bit`. Matrices go round
//! so that no product finds its weights in a cache. Under each decode figure stands the share of the
//! machine's read bandwidth, measured in turns with it; compare rows of one run only.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mcmoe::kernels::{
    Backend, Bandwidth, BitWidth, Coding, PackedMatrix, PackedShape, Precision, TrellisRate,
};
use rayon::ThreadPool;

/// Expert matrices of Mixtral 8x7B and 8x22B, `[rows, cols]`.
const SHAPES: [(usize, usize); 4] = [(14336, 4096), (4096, 14336), (16384, 6144), (6144, 16384)];
/// Bytes of the matrices that go round: far more than caches hold.
const BYTES: usize = 400 << 20;
/// Tokens of a prompt that meet at one expert.
const PROMPT: usize = 128;

/// What all benchmarks share.
struct Machine {
    pool: ThreadPool,
    bandwidth: Bandwidth,
}

/// Every code that experts can have.
fn codings() -> impl Iterator<Item = Coding> {
    BitWidth::ALL.map(Coding::Grid).into_iter().chain(TrellisRate::ALL.map(Coding::Trellis))
}

fn shape((rows, cols): (usize, usize), coding: Coding) -> PackedShape {
    let group_size = match coding {
        Coding::Grid(_) => 128,
        Coding::Trellis(_) => 256,
    };
    PackedShape::new(rows, cols, coding, group_size).expect("a sound shape")
}

fn activations(tokens: usize, cols: usize) -> Vec<f32> {
    (0..tokens * cols).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect()
}

impl Machine {
    /// Time of so many products, each with the next matrix.
    fn products(&self, backend: Backend, matrices: &[PackedMatrix], x: &[f32], count: u64) -> Duration {
        self.pool.install(|| {
            let start = Instant::now();
            for i in 0..count as usize {
                let weight = &matrices[i % matrices.len()];
                black_box(backend.matmul(&[weight], black_box(x), Precision::Int8).expect("lengths match"));
            }
            start.elapsed()
        })
    }
}

/// One token: bound by memory.
fn decode(c: &mut Criterion, machine: &Machine, backend: Backend) {
    let mut group = c.benchmark_group(format!("{backend}/decode"));
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for coding in codings() {
        for sides in SHAPES {
            let shape = shape(sides, coding);
            let count = BYTES / shape.total_bytes() + 1;
            let matrices = RefCell::new(Vec::new());
            let (x, rates) = (activations(1, shape.cols()), RefCell::new(Vec::new()));
            group.throughput(Throughput::Bytes(shape.total_bytes() as u64));
            group.bench_function(
                BenchmarkId::new(coding.to_string(), format!("{}x{}", sides.0, sides.1)),
                |b| {
                    let mut matrices = matrices.borrow_mut();
                    // Made here, so that filters leave them out.
                    let made = matrices.len()..count;
                    matrices.extend(made.map(|i| PackedMatrix::synthetic(shape, i as u64)));
                    b.iter_custom(|iterations| {
                        let read = machine.pool.install(|| machine.bandwidth.read());
                        let time = machine.products(backend, &matrices, &x, iterations);
                        let bytes = shape.total_bytes() as f64 * iterations as f64;
                        rates.borrow_mut().push((bytes / time.as_secs_f64(), read));
                        time
                    });
                },
            );
            print_share(&rates.borrow());
        }
    }
    group.finish();
}

fn print_share(rates: &[(f64, f64)]) {
    let mut shares: Vec<f64> = rates.iter().map(|(rate, read)| rate / read).collect();
    shares.sort_by(f64::total_cmp);
    let Some(median) = shares.get(shares.len() / 2) else { return };
    let read = rates.iter().map(|(_, read)| read).sum::<f64>() / rates.len() as f64 / 1e9;
    println!("                        {:.0} % of the {read:.1} GB/s that this machine reads", 100.0 * median);
}

/// Many tokens: bound by arithmetic.
fn prefill(c: &mut Criterion, machine: &Machine, backend: Backend) {
    let mut group = c.benchmark_group(format!("{backend}/prefill_{PROMPT}_tokens"));
    group.sample_size(10).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for coding in codings().filter(|coding| coding.bits() <= 4.0) {
        for sides in [SHAPES[0], SHAPES[1]] {
            let shape = shape(sides, coding);
            let x = activations(PROMPT, shape.cols());
            group.throughput(Throughput::Elements(2 * (PROMPT * shape.weights()) as u64));
            group.bench_function(
                BenchmarkId::new(coding.to_string(), format!("{}x{}", sides.0, sides.1)),
                |b| {
                    let matrix = PackedMatrix::synthetic(shape, 1);
                    let matrices = [matrix];
                    b.iter_custom(|iterations| machine.products(backend, &matrices, &x, iterations));
                },
            );
        }
    }
    group.finish();
}

fn bench(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().build().expect("threads can be started");
    let machine = Machine { pool, bandwidth: Bandwidth::new(BYTES) };
    for backend in Backend::available() {
        decode(c, &machine, backend);
        // Minutes for each figure, and nobody's choice.
        if backend.name() != "scalar" {
            prefill(c, &machine, backend);
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
