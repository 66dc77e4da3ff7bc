use proptest::prelude::*;

use super::*;
use crate::trellis::{WINDOW, ZERO, levels};
use crate::{BitWidth, TrellisRate};

fn ones(shape: &PackedShape) -> Vec<f16> {
    vec![f16::ONE; shape.params()]
}

/// Random bytes, Knuth's linear congruential generator.
fn bytes(mut state: u64) -> impl FnMut() -> u8 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    }
}

/// The layout as `docs/format.md` tells it, bit by bit, without the code's structure.
fn naive_code(packed: &PackedMatrix, row: usize, col: usize) -> u8 {
    let shape = packed.shape();
    let (bits, group_size) = (shape.coding().bits() as usize, shape.group_size());
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
    let bits = shape.coding().bits() as usize;
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
        let mut next = bytes(seed);
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

/// The level of a trellis weight as `docs/format.md` tells it: the bits of all columns of the group up to
/// this one, one after another, of which the last 12 are the window.
fn naive_level(rate: TrellisRate, codes: &[u8]) -> u8 {
    let mut stream = vec![0; WINDOW];
    for (col, &code) in codes.iter().enumerate() {
        let bits = match (rate.bits(), col % 2) {
            (1.0 | 1.5, 0) => (2.0 * rate.bits()) as usize,
            (1.0 | 1.5, _) => 0,
            (2.5, 0) => 2,
            (2.5, _) => 3,
            (bits, _) => bits as usize,
        };
        stream.extend((0..bits).rev().map(|bit| code >> bit & 1));
    }
    let window =
        stream[stream.len() - WINDOW..].iter().fold(0, |window, &bit| window << 1 | usize::from(bit));
    levels(rate)[(codes.len() - 1) % 2][window]
}

proptest! {
    #[test]
    fn trellis_packing_loses_nothing(
        rows in 1_usize..40,
        cols in 1_usize..300,
        rate in prop::sample::select(TrellisRate::ALL.to_vec()),
        group_size in prop::sample::select(vec![64_usize, 128, 320]),
        seed in any::<u64>(),
    ) {
        let shape = PackedShape::new(rows, cols, rate, group_size).unwrap();
        let mut next = bytes(seed);
        let codes: Vec<u8> =
            (0..shape.weights()).map(|at| next() & ((1 << code_bits(&shape, at)) - 1)).collect();
        let scales: Vec<f16> = (0..shape.params()).map(|_| f16::from_f32(f32::from(next()) / 16.0)).collect();
        let packed = PackedMatrix::pack(shape, &codes, &scales, &[]).unwrap();
        prop_assert_eq!(packed.bytes().len(), shape.total_bytes());
        prop_assert_eq!(packed.check_contents(), Ok(()));
        let (levels, mut weights) = (packed.unpack_codes(), packed.dequantize());
        weights.chunks_exact_mut(cols).for_each(rotation::rotate);
        for (row, codes) in codes.chunks_exact(cols).enumerate() {
            for (group, codes) in codes.chunks(group_size).enumerate() {
                let scale = scales[row * shape.groups() + group].to_f32();
                prop_assert_eq!(packed.params(row, group), (scale, f32::from(ZERO)));
                for col in 0..codes.len() {
                    let level = naive_level(rate, &codes[..=col]);
                    let at = row * cols + group * group_size + col;
                    prop_assert_eq!(levels[at], level);
                    let weight = scale * (f32::from(level) - 64.0);
                    prop_assert!((weights[at] - weight).abs() < 1e-2, "{} {}", weights[at], weight);
                }
            }
        }
    }
}

#[test]
fn what_a_trellis_has_no_room_for_is_refused() {
    let rate = TrellisRate::new(1.5).unwrap();
    let shape = PackedShape::new(17, 70, rate, 64).unwrap();
    let (mut codes, scales) = (vec![0; shape.weights()], ones(&shape));
    let packed = PackedMatrix::pack(shape, &codes, &scales, &[]).unwrap();
    codes[72] = 7;
    assert!(PackedMatrix::pack(shape, &codes, &scales, &[]).is_ok());
    codes[73] = 1;
    let error = PackedMatrix::pack(shape, &codes, &scales, &[]).unwrap_err();
    assert_eq!(error, KernelError::CodeOutOfRange { row: 1, col: 3, code: 1, bits: 0 });
    codes[73] = 0;
    let error = PackedMatrix::pack(shape, &codes, &scales, &scales).unwrap_err();
    assert_eq!(error, KernelError::Length { what: "zeros", expected: 0, found: scales.len() });
    let check = |at: usize, byte: u8| {
        let mut bytes = packed.bytes().to_vec();
        bytes[at] = byte;
        PackedMatrix::from_bytes(shape, bytes.into()).unwrap().check_contents()
    };
    // A tile has two groups of 32 bytes of scales and 3 lines of codes; of the second tile one row counts.
    let tile = shape.tile_bytes();
    assert_eq!(tile, 2 * (32 + 16 * 64 * 3 / 16));
    assert_eq!(check(tile + 1, 0x7C), Err(KernelError::NotFinite { what: "scale", row: 16, group: 0 }));
    assert_eq!(check(tile + 2, 1), Err(KernelError::DirtyPadding { tile: 1 }));
    assert_eq!(check(tile + 32, 0xFF), Ok(()));
    assert_eq!(check(tile + 32 + 4, 1), Err(KernelError::DirtyPadding { tile: 1 }));
    // Of the second group's columns, 64 to 69 are there: 9 bits of the first quarter.
    let second = tile / 2 + 32;
    assert_eq!(check(second, 0xFF), Ok(()));
    assert_eq!(check(second + 64, 0x80), Ok(()));
    assert_eq!(check(second + 64, 0x40), Err(KernelError::DirtyPadding { tile: 0 }));
    assert_eq!(check(second + 1, 1), Err(KernelError::DirtyPadding { tile: 0 }));
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

#[test]
fn factors_change_scales_and_nothing_else() {
    let grids = BitWidth::ALL.map(Coding::Grid).into_iter();
    for coding in grids.chain(TrellisRate::ALL.map(Coding::Trellis)) {
        let shape = PackedShape::new(21, 192, coding, 128).unwrap();
        let mut next = bytes(3);
        let codes: Vec<u8> =
            (0..shape.weights()).map(|at| next() & ((1 << code_bits(&shape, at)) - 1) as u8).collect();
        let scales: Vec<f16> = (0..shape.params()).map(|_| f16::from_f32(f32::from(next()) / 64.0)).collect();
        let zeros = vec![f16::ONE; if matches!(coding, Coding::Grid(_)) { shape.params() } else { 0 }];
        let matrix = PackedMatrix::pack(shape, &codes, &scales, &zeros).unwrap();
        let factors: Vec<f32> = (0..21).map(|row| 1.0 + row as f32 / 32.0).collect();
        let scaled = matrix.scale_rows(&factors).unwrap();
        // The same as if it had been packed so.
        let of_row = |at: usize| scales[at].to_f32() * factors[at / shape.groups()];
        let expected: Vec<f16> = (0..scales.len()).map(|at| f16::from_f32(of_row(at))).collect();
        let expected = PackedMatrix::pack(shape, &codes, &expected, &zeros).unwrap();
        assert_eq!(scaled.bytes()[..], expected.bytes()[..], "{coding}");
        assert_eq!(scaled.check_contents(), Ok(()));
    }
}

#[test]
fn bad_factors_are_errors() {
    let shape = PackedShape::new(20, 64, BitWidth::new(2).unwrap(), 32).unwrap();
    let matrix = PackedMatrix::pack(shape, &vec![1; 20 * 64], &ones(&shape), &ones(&shape)).unwrap();
    let error = matrix.scale_rows(&[1.0; 19]).unwrap_err();
    assert_eq!(error, KernelError::Length { what: "factors", expected: 20, found: 19 });
    for factor in [f32::NAN, f32::INFINITY, 1e6] {
        let mut factors = [1.0; 20];
        factors[17] = factor;
        let error = matrix.scale_rows(&factors).unwrap_err();
        assert_eq!(error, KernelError::NotFinite { what: "scale", row: 17, group: 0 });
    }
}
