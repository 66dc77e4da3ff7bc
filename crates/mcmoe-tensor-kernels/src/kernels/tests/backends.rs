//! Every backend that this CPU has against the scalar one.

use super::*;

/// Random elements of this type.
pub(super) fn dense(rows: usize, cols: usize, dtype: DenseType, random: &mut Random) -> DenseMatrix {
    let bytes: Vec<u8> = (0..rows * cols)
        .flat_map(|_| {
            let value = random.unit();
            match dtype {
                DenseType::F32 => value.to_le_bytes().to_vec(),
                DenseType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
                DenseType::Bf16 => half::bf16::from_f32(value).to_le_bytes().to_vec(),
            }
        })
        .collect();
    DenseMatrix::new(rows, cols, dtype, bytes.into()).unwrap()
}

/// All results of a backend for one case, as bits.
fn results(backend: Backend, weight: &PackedMatrix, x: &[f32], precision: Precision) -> Vec<u32> {
    bits(&backend.matmul(&[weight], x, precision).unwrap()[0])
}

fn agree(weight: &PackedMatrix, x: &[f32], precision: Precision) -> Result<(), TestCaseError> {
    let backends = Backend::available();
    let expected = results(backends[0], weight, x, precision);
    for backend in &backends[1..] {
        prop_assert_eq!(results(*backend, weight, x, precision), expected.clone(), "{}", backend);
    }
    // A token's result does not depend on its company.
    let (cols, rows) = (weight.shape().cols(), weight.shape().rows());
    let last = x.len() / cols - 1;
    for backend in backends {
        let alone = results(backend, weight, &x[last * cols..], precision);
        prop_assert_eq!(&alone[..], &expected[last * rows..], "{} alone", backend);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn int8_equals_scalar(
        shape in shapes(),
        tokens in prop_oneof![Just(1_usize), 2_usize..20],
        flavour in prop::sample::select(FLAVOURS.to_vec()),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let weight = matrix(shape, flavour, &mut random);
        let x = activations(tokens, shape.cols(), flavour, &mut random);
        agree(&weight, &x, Precision::Int8)?;
    }

    #[test]
    fn float_equals_scalar(
        shape in shapes(),
        tokens in 1_usize..4,
        flavour in prop::sample::select(FLAVOURS.to_vec()),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let weight = matrix(shape, flavour, &mut random);
        let x = activations(tokens, shape.cols(), flavour, &mut random);
        agree(&weight, &x, Precision::F32)?;
    }

    #[test]
    fn dense_equals_scalar(
        rows in 1_usize..40, cols in 1_usize..300, tokens in 1_usize..4, seed in any::<u64>(),
        dtype in prop::sample::select(vec![DenseType::F32, DenseType::F16, DenseType::Bf16]),
    ) {
        let mut random = Random::new(seed);
        let weight = dense(rows, cols, dtype, &mut random);
        let x = activations(tokens, cols, Flavour::Usual, &mut random);
        let backends = Backend::available();
        let expected = bits(&backends[0].dense_matmul(&weight, &x).unwrap());
        for backend in &backends[1..] {
            prop_assert_eq!(bits(&backend.dense_matmul(&weight, &x).unwrap()), expected.clone());
        }
    }
}

/// The largest group with the largest codes and activations: sums reach 255 · 127 · 65536.
#[test]
fn the_largest_sums_fit() {
    let shape = PackedShape::new(17, 1 << 16, BitWidth::B8, 1 << 16).unwrap();
    let params = [f16::ONE; 17];
    let weight = PackedMatrix::pack(shape, &vec![255; shape.weights()], &params, &[f16::ZERO; 17]).unwrap();
    for sign in [1.0, -1.0] {
        for tokens in [1, 9] {
            let x = vec![127.0 * sign; tokens << 16];
            for backend in Backend::available() {
                let y = backend.matmul(&[&weight], &x, Precision::Int8).unwrap().remove(0);
                assert!(y.iter().all(|&y| y == sign * (255 * 127 * 65_536_i64) as f32), "{backend}");
            }
        }
    }
}

#[test]
fn several_matrices_share_a_region() {
    let mut random = Random::new(3);
    let shape = |rows, bits, group| PackedShape::new(rows, 96, bits, group).unwrap();
    let shapes = [shape(40, BitWidth::B4, 32), shape(7, BitWidth::B2, 64), shape(16, BitWidth::B4, 32)];
    let weights = shapes.map(|shape| matrix(shape, Flavour::Usual, &mut random));
    let x = activations(3, 96, Flavour::Usual, &mut random);
    for backend in Backend::available() {
        let together = backend.matmul(&weights.each_ref(), &x, Precision::Int8).unwrap();
        for (weight, y) in weights.iter().zip(together) {
            assert_eq!(backend.matmul(&[weight], &x, Precision::Int8).unwrap(), [y]);
        }
        assert_eq!(backend.matmul(&[], &x, Precision::Int8).unwrap(), Vec::<Vec<f32>>::new());
        let narrow = matrix(PackedShape::new(3, 32, BitWidth::B4, 32).unwrap(), Flavour::Usual, &mut random);
        let error = backend.matmul(&[&weights[0], &narrow], &x, Precision::Int8).unwrap_err();
        assert_eq!(error, KernelError::Length { what: "columns of a weight", expected: 96, found: 32 });
    }
}

#[test]
fn backends_have_names() {
    let available = Backend::available();
    assert_eq!(available[0].name(), "scalar");
    for backend in &available {
        assert_eq!(Backend::named(backend.name()).unwrap().name(), backend.name());
    }
    let names: Vec<&str> = available.iter().map(Backend::name).collect();
    let expected = KernelError::NoBackend { name: "sse9".to_owned(), available: names.join(", ") };
    assert_eq!(Backend::named("sse9").unwrap_err(), expected);
    // Whatever the environment forces, or the best there is.
    let forced = std::env::var(Backend::VARIABLE).ok().filter(|name| !name.is_empty());
    let expected = forced.unwrap_or_else(|| (*names.last().unwrap()).to_owned());
    assert_eq!(Backend::current().unwrap().name(), expected);
}
