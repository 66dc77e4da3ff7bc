use proptest::prelude::*;

use super::*;

fn ones(shape: &PackedShape) -> Vec<f16> {
    vec![f16::ONE; shape.params()]
}

/// Bit `bit` of the stream of a row, read one at a time: the layout's definition, without its tricks.
fn naive_code(packed: &PackedMatrix, row: usize, col: usize) -> u8 {
    let (bits, row_bytes) = (packed.shape().bits().bits() as usize, packed.shape().row_bytes());
    let bytes = &packed.code_bytes()[row * row_bytes..][..row_bytes];
    (0..bits).map(|i| (bytes[(col * bits + i) / 8] >> ((col * bits + i) % 8) & 1) << i).sum()
}

proptest! {
    #[test]
    fn packing_loses_nothing(
        rows in 1_usize..5,
        cols in 1_usize..300,
        width in prop::sample::select(BitWidth::ALL.to_vec()),
        group_size in prop::sample::select(vec![8_usize, 32, 128, 304]),
        seed in any::<u64>(),
    ) {
        let shape = PackedShape::new(rows, cols, width, group_size).unwrap();
        let mut state = seed;
        let codes: Vec<u8> = (0..shape.weights()).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8 & width.max_code()
        }).collect();
        let packed = PackedMatrix::pack(shape, &codes, &ones(&shape), &ones(&shape)).unwrap();
        prop_assert_eq!(packed.code_bytes().len(), shape.code_bytes());
        prop_assert_eq!(packed.unpack_codes(), codes.clone());
        for (at, &code) in codes.iter().enumerate() {
            prop_assert_eq!(naive_code(&packed, at / cols, at % cols), code);
            prop_assert_eq!(packed.dequantize()[at], f32::from(code) - 1.0);
        }
    }
}

#[test]
fn three_bit_codes_are_dense() {
    let shape = PackedShape::new(1, 8, BitWidth::B3, 8).unwrap();
    let packed = PackedMatrix::pack(shape, &[1, 2, 3, 4, 5, 6, 7, 0], &[f16::ONE], &[f16::ZERO]).unwrap();
    // 001, 010, 011, … least significant bits first: 11_010_001, 0_101_100_0, 000_111_11.
    assert_eq!(packed.code_bytes(), [0b1101_0001, 0b0101_1000, 0b0001_1111]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = PackedShape::new(2, 9, BitWidth::B1, 8).unwrap();
    let (codes, params) = (vec![1; 18], ones(&shape));
    let pack = PackedMatrix::pack(shape, &codes[..17], &params, &params);
    assert_eq!(pack.unwrap_err(), KernelError::Length { what: "codes", expected: 18, found: 17 });
    let mut large = codes.clone();
    large[10] = 2;
    let pack = PackedMatrix::pack(shape, &large, &params, &params);
    assert_eq!(pack.unwrap_err(), KernelError::CodeOutOfRange { row: 1, col: 1, code: 2, bits: 1 });
    let mut nan = params.clone();
    nan[3] = f16::NAN;
    let pack = PackedMatrix::pack(shape, &codes, &params, &nan);
    assert_eq!(pack.unwrap_err(), KernelError::NotFinite { what: "zero point", row: 1, group: 1 });
}

#[test]
fn damaged_bytes_are_refused() {
    let shape = PackedShape::new(2, 9, BitWidth::B1, 16).unwrap();
    let params = || SharedBytes::from(to_bytes(&ones(&shape)));
    let open = |codes: Vec<u8>| PackedMatrix::from_bytes(shape, codes.into(), params(), params());
    assert!(open(vec![0xFF, 1, 0xFF, 1]).is_ok());
    assert_eq!(open(vec![0xFF, 1, 0xFF, 3]).unwrap_err(), KernelError::DirtyPadding { row: 1 });
    let cut = open(vec![0xFF, 1, 0xFF]).unwrap_err();
    assert_eq!(cut, KernelError::Length { what: "packed codes", expected: 4, found: 3 });
}
