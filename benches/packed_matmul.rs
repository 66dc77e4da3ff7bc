//! Products with packed matrices against reading the same weights as `f32`.
//!
//! `cargo bench --bench packed_matmul`. Figures are elements (weights) a second; compare rows of one
//! run only.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use mcmoe::kernels::{BitWidth, PackedMatrix, PackedShape, matmul};

const ROWS: usize = 1024;
const COLS: usize = 4096;

fn packed(bits: BitWidth) -> PackedMatrix {
    let shape = PackedShape::new(ROWS, COLS, bits, 128).expect("a sound shape");
    let codes: Vec<u8> =
        (0..shape.weights()).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8 & bits.max_code()).collect();
    let scales = vec![f16::from_f32(0.01); shape.params()];
    let zeros = vec![f16::from_f32(f32::from(bits.max_code()) / 2.0); shape.params()];
    PackedMatrix::pack(shape, &codes, &scales, &zeros).expect("codes fit")
}

fn bench(c: &mut Criterion) {
    for tokens in [1, 32] {
        let mut group = c.benchmark_group(format!("packed_matmul/{ROWS}x{COLS}/{tokens}_tokens"));
        group.sample_size(20).throughput(Throughput::Elements((ROWS * COLS * tokens) as u64));
        let x: Vec<f32> = (0..tokens * COLS).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
        let mut y = vec![0.0; tokens * ROWS];
        for bits in BitWidth::ALL {
            let matrix = packed(bits);
            group.bench_function(BenchmarkId::from_parameter(bits), |b| {
                b.iter(|| matmul(&matrix, black_box(&x), &mut y).expect("lengths match"));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
