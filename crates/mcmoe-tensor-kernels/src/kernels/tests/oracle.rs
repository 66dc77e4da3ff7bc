//! The scalar kernels against sums in `f64` over dequantized weights.

use super::*;

/// `y = x Wᵀ` and `Σ |x w|`, the scale of its rounding errors.
fn oracle(weights: &[f32], x: &[f32], cols: usize) -> Vec<(f64, f64)> {
    let products = |w: &[f32], x: &[f32]| {
        let terms = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x));
        terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
    };
    x.chunks(cols).flat_map(|x| weights.chunks(cols).map(|w| products(w, x)).collect::<Vec<_>>()).collect()
}

/// Largest magnitude that a code, or a code and its zero point, reaches before the scale.
fn spread(weight: &PackedMatrix) -> f64 {
    let shape = weight.shape();
    let params = (0..shape.rows()).flat_map(|row| (0..shape.groups()).map(move |group| (row, group)));
    let max = match shape.coding() {
        Coding::Grid(bits) => f32::from(bits.max_code()),
        Coding::Trellis(_) => 127.0,
    };
    let spread = params.map(|(row, group)| {
        let (scale, zero) = weight.params(row, group);
        f64::from(scale.abs() * (max + zero.abs()))
    });
    spread.fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES / 4))]

    #[test]
    fn scalar_equals_the_oracle(
        shape in shapes(),
        tokens in 1_usize..4,
        flavour in prop::sample::select(vec![Flavour::Usual, Flavour::Holes]),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let weight = matrix(shape, flavour, &mut random);
        let x = activations(tokens, shape.cols(), flavour, &mut random);
        let (scalar, weights) = (Backend::named("scalar").unwrap(), weight.dequantize());
        // A rotation can gather all of a row, or of a block of it, in one place.
        let gather = match shape.coding() {
            Coding::Grid(_) => 1.0,
            Coding::Trellis(_) => (shape.cols() as f32).sqrt(),
        };
        let largest = x.iter().fold(0.0_f32, |m, x| m.max(x.abs())) * gather;
        let size = f64::from(largest) * spread(&weight) * shape.cols() as f64;
        for precision in Precision::ALL {
            let y = scalar.matmul(&[&weight], &x, precision).unwrap().remove(0);
            // A rounded activation is off by half a step of 1/127 of its group's largest.
            let of_largest_weight = weights.iter().fold(0.0_f32, |m, w| m.max(w.abs())) * gather;
            let rounding = match precision {
                Precision::Int8 => f64::from(of_largest_weight * largest) * shape.cols() as f64 / 254.0,
                Precision::F32 => 0.0,
            };
            for (found, (expected, _)) in y.iter().zip(oracle(&weights, &x, shape.cols())) {
                let error = (f64::from(*found) - expected).abs();
                prop_assert!(error <= rounding * 1.01 + 1e-6 * size + 1e-30, "{precision}: {found} {expected}");
            }
        }
    }

    #[test]
    fn dense_scalar_equals_the_oracle(
        rows in 1_usize..40, cols in 1_usize..300, tokens in 1_usize..4, seed in any::<u64>(),
        dtype in prop::sample::select(vec![DenseType::F32, DenseType::F16, DenseType::Bf16]),
    ) {
        let mut random = Random::new(seed);
        let weight = backends::dense(rows, cols, dtype, &mut random);
        let weights: Vec<f32> = (0..rows).flat_map(|row| weight.row(row)).collect();
        let x = activations(tokens, cols, Flavour::Usual, &mut random);
        let y = Backend::named("scalar").unwrap().dense_matmul(&weight, &x).unwrap();
        for (found, (expected, size)) in y.iter().zip(oracle(&weights, &x, cols)) {
            prop_assert!((f64::from(*found) - expected).abs() <= 1e-6 * size + 1e-30);
        }
    }
}

#[test]
fn dense_elements_are_what_their_type_says() {
    let half = f16::from_f32(-1.5).to_le_bytes();
    let brain = half::bf16::from_f32(-1.5).to_le_bytes();
    let single = (-1.5_f32).to_le_bytes();
    for (dtype, bytes) in [(DenseType::F16, &half[..]), (DenseType::Bf16, &brain), (DenseType::F32, &single)]
    {
        let matrix = DenseMatrix::new(1, 1, dtype, bytes.to_vec().into()).unwrap();
        assert_eq!(matrix.row(0), [-1.5]);
    }
}

#[test]
fn lengths_are_checked() {
    let shape = PackedShape::new(2, 32, BitWidth::B4, 32).unwrap();
    let weight = matrix(shape, Flavour::Usual, &mut Random::new(1));
    let input = matmul(&weight, &[0.0; 33], &mut [0.0; 2]).unwrap_err();
    assert_eq!(input, KernelError::Length { what: "input", expected: 64, found: 33 });
    let output = matmul(&weight, &[0.0; 64], &mut [0.0; 3]).unwrap_err();
    assert_eq!(output, KernelError::Length { what: "output", expected: 4, found: 3 });
    assert_eq!(matmul(&weight, &[], &mut []), Ok(()));
    let short = DenseMatrix::new(2, 3, DenseType::F16, vec![0; 11].into()).unwrap_err();
    assert_eq!(short, KernelError::Length { what: "bytes of a dense matrix", expected: 12, found: 11 });
    assert!(DenseMatrix::new(0, 3, DenseType::F16, vec![].into()).is_err());
    assert!(DenseMatrix::new(usize::MAX, 3, DenseType::F16, vec![].into()).is_err());
}

#[test]
fn what_is_not_finite_stays_so() {
    let shape = PackedShape::new(3, 64, BitWidth::B2, 32).unwrap();
    let weight = matrix(shape, Flavour::Usual, &mut Random::new(7));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = [0.5; 64];
        x[40] = bad;
        for backend in Backend::available() {
            for precision in Precision::ALL {
                let y = backend.matmul(&[&weight], &x, precision).unwrap().remove(0);
                assert!(y.iter().all(|y| !y.is_finite()), "{backend} {precision} {bad}: {y:?}");
            }
        }
    }
}
