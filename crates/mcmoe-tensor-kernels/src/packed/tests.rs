use proptest::prelude::*;

use super::*;
use crate::BitWidth;

fn ones(shape: &PackedShape) -> Vec<f16> {
    vec![f16::ONE; shape.params()]
}

/// The layout as `docs/format.md` tells it, bit by bit, without the code's structure.
fn naive_code(packed: &PackedMatrix, row: usize, col: usize) -> u8 {
    let shape = packed.shape();
    let (bits, group_size) = (shape.bits().bits() as usize, shape.group_size());
    let tile = row / 16 * shape.tile_bytes();
    let group = col / group_size;
    let block = tile + 64 * (group + 1) + 64 * bits * (col / 32);
    let (byte, step) = (4 * (row % 16) + col % 4, col % 32 / 4);
    let bit = |line: usize, bit: usize| packed.bytes()[block + 64 * line + byte] >> bit & 1;
    match bits {
        1 => bit(0, step),
        2 => bit(step / 4, 2 * (step % 4)) | bit(step / 4, 2 * (step % 4) + 1) << 1,
        3 => bit(step / 4, 2 * (step % 4)) | bit(step / 4, 2 * (step % 4) + 1) << 1 | bit(2, step) << 2,
        4 => (0..4).map(|i| bit(step / 2, 4 * (step % 2) + i) << i).sum(),
        _ => packed.bytes()[block + 64 * step + byte],
    }
}

fn naive_params(packed: &PackedMatrix, row: usize, group: usize) -> (f32, f32) {
    let shape = packed.shape();
    let bits = shape.bits().bits() as usize;
    let start = row / 16 * shape.tile_bytes() + 64 * group * (1 + bits * shape.group_size() / 32);
    let half = |at: usize| f16::from_le_bytes([packed.bytes()[at], packed.bytes()[at + 1]]).to_f32();
    (half(start + 2 * (row % 16)), half(start + 32 + 2 * (row % 16)))
}

proptest! {
    #[test]
    fn packing_loses_nothing(
        rows in 1_usize..40,
        cols in 1_usize..300,
        width in prop::sample::select(BitWidth::ALL.to_vec()),
        group_size in prop::sample::select(vec![32_usize, 64, 128, 320]),
        seed in any::<u64>(),
    ) {
        let shape = PackedShape::new(rows, cols, width, group_size).unwrap();
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        };
        let codes: Vec<u8> = (0..shape.weights()).map(|_| next() & width.max_code()).collect();
        let mut params = || (0..shape.params()).map(|_| f16::from_f32(f32::from(next()) / 16.0)).collect();
        let (scales, zeros): (Vec<f16>, Vec<f16>) = (params(), params());
        let packed = PackedMatrix::pack(shape, &codes, &scales, &zeros).unwrap();
        prop_assert_eq!(packed.bytes().len(), shape.total_bytes());
        prop_assert_eq!(packed.check_contents(), Ok(()));
        prop_assert_eq!(&packed.unpack_codes(), &codes);
        let weights = packed.dequantize();
        for (at, &code) in codes.iter().enumerate() {
            let (row, col) = (at / cols, at % cols);
            prop_assert_eq!(naive_code(&packed, row, col), code);
            let param = row * shape.groups() + col / group_size;
            let (scale, zero) = (scales[param].to_f32(), zeros[param].to_f32());
            prop_assert_eq!(packed.params(row, col / group_size), (scale, zero));
            prop_assert_eq!(naive_params(&packed, row, col / group_size), (scale, zero));
            prop_assert_eq!(weights[at], scale * (f32::from(code) - zero));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = PackedShape::new(2, 40, BitWidth::B1, 32).unwrap();
    let (codes, params) = (vec![1; 80], ones(&shape));
    let pack = PackedMatrix::pack(shape, &codes[..79], &params, &params);
    assert_eq!(pack.unwrap_err(), KernelError::Length { what: "codes", expected: 80, found: 79 });
    let mut large = codes.clone();
    large[41] = 2;
    let pack = PackedMatrix::pack(shape, &large, &params, &params);
    assert_eq!(pack.unwrap_err(), KernelError::CodeOutOfRange { row: 1, col: 1, code: 2, bits: 1 });
    let mut nan = params.clone();
    nan[3] = f16::NAN;
    let pack = PackedMatrix::pack(shape, &codes, &params, &nan);
    assert_eq!(pack.unwrap_err(), KernelError::NotFinite { what: "zero point", row: 1, group: 1 });
}

#[test]
fn damaged_bytes_are_found() {
    let shape = PackedShape::new(17, 33, BitWidth::B2, 32).unwrap();
    let packed = PackedMatrix::pack(shape, &[3; 17 * 33], &ones(&shape), &ones(&shape)).unwrap();
    let whole = packed.bytes().to_vec();
    let open = |bytes: Vec<u8>| PackedMatrix::from_bytes(shape, bytes.into());
    let cut = open(whole[1..].to_vec()).unwrap_err();
    assert_eq!(cut, KernelError::Length { what: "packed bytes", expected: 768, found: 767 });
    let check = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        open(bytes).unwrap().check_contents()
    };
    // The second tile starts at 384 with row 16 alone; its second group, column 32 alone, at 576.
    assert_eq!(check(384 + 1, 0x7C), Err(KernelError::NotFinite { what: "scale", row: 16, group: 0 }));
    assert_eq!(check(384 + 3, 1), Err(KernelError::DirtyPadding { tile: 1 }));
    assert_eq!(check(384 + 64 + 3, 0xFF), Ok(()));
    assert_eq!(check(384 + 64 + 4, 1), Err(KernelError::DirtyPadding { tile: 1 }));
    assert_eq!(check(576 + 64, 0b11), Ok(()));
    assert_eq!(check(576 + 64, 0b111), Err(KernelError::DirtyPadding { tile: 1 }));
    assert_eq!(check(576 + 64 + 1, 1), Err(KernelError::DirtyPadding { tile: 1 }));
}
