//! One matrix by every method and at every rate: `cargo run -p mcmoe-quant --example pack`.
//!
//! Weights and a Hessian of the inputs they see go in. What comes out is multiplied straight from its packed
//! bytes, turned back into weights, and compared with the original. The matrix is random, its inputs are
//! correlated as those of a layer are.

use mcmoe_quant::{
    BitWidth, Coding, Hessian, Matrix, Method, QuantError, QuantOptions, TrellisRate, matmul, quantize,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const ROWS: usize = 64;
const COLS: usize = 512;
const TOKENS: usize = 2048;
const METHODS: [Method; 3] = [Method::Rtn, Method::Hqq, Method::Gptq];

fn main() -> Result<(), QuantError> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let weights: Vec<f32> = (0..ROWS * COLS).map(|_| gaussian(&mut random)).collect();
    let calibration: Vec<f32> = (0..TOKENS).flat_map(|_| token(&mut random)).collect();
    let unseen = token(&mut random);

    let matrix = Matrix::new(ROWS, COLS, &weights)?;
    let mut hessian = Hessian::new(COLS);
    hessian.add(&calibration)?;

    println!(
        "Squared errors relative to the original, {ROWS} x {COLS} weights, {TOKENS} calibration tokens.\n"
    );
    println!(
        "| codes           | method | stored bits | weights | outputs | unseen token | packed ~ unpacked |"
    );
    println!(
        "|-----------------|--------|-------------|---------|---------|--------------|-------------------|"
    );
    let exact = product(&weights, &unseen);
    for coding in codings() {
        for method in METHODS {
            if method == Method::Hqq && matches!(coding, Coding::Trellis(_)) {
                continue; // It tunes zero points, of which a trellis has none.
            }
            let quantized = quantize(matrix, Some(&hessian), &options(coding)?.method(method))?;
            let (packed, report) = (&quantized.packed, &quantized.report);
            let mut outputs = vec![0.0; ROWS];
            matmul(packed, &unseen, &mut outputs)?;
            let unpacked = product(&packed.dequantize(), &unseen);
            println!(
                "| {:15} | {:6} | {:11.4} | {:7.4} | {:7.4} | {:12.4} | {:17.1e} |",
                coding.to_string(),
                format!("{method:?}"),
                packed.shape().bits_per_weight(),
                report.weight_error,
                report.output_error.unwrap_or_default(),
                error(&outputs, &exact),
                error(&outputs, &unpacked),
            );
        }
    }

    let without = quantize(matrix, None, &QuantOptions::trellis(2.0)?)?;
    println!("\nA trellis of 2 bits without a Hessian: {:?}", without.report);
    Ok(())
}

/// Everything that codes can mean.
fn codings() -> impl Iterator<Item = Coding> {
    BitWidth::ALL.map(Coding::Grid).into_iter().chain(TrellisRate::ALL.map(Coding::Trellis))
}

/// The usual options of these codes: groups of 128 on a grid, of 256 on a trellis.
fn options(coding: Coding) -> Result<QuantOptions, QuantError> {
    Ok(match coding {
        Coding::Grid(width) => QuantOptions::new(width.bits())?,
        Coding::Trellis(rate) => QuantOptions::trellis(rate.bits())?,
    })
}

/// `W x` of dense weights.
fn product(weights: &[f32], x: &[f32]) -> Vec<f32> {
    weights.chunks_exact(COLS).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

/// `‖found − expected‖² / ‖expected‖²`.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    let difference: f32 = found.iter().zip(expected).map(|(f, e)| (f - e).powi(2)).sum();
    difference / expected.iter().map(|e| e.powi(2)).sum::<f32>()
}

/// Inputs of one token: each feature is a share of the one before it plus something new.
fn token(random: &mut ChaCha8Rng) -> Vec<f32> {
    let mut last = 0.0_f32;
    let feature = |_| {
        last = 0.9 * last + gaussian(random);
        last
    };
    (0..COLS).map(feature).collect()
}

/// A normally distributed number.
fn gaussian(random: &mut ChaCha8Rng) -> f32 {
    let mut uniform = || (random.next_u32() as f32 + 1.0) / 4_294_967_808.0; // above 0, below 1
    (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos()
}
