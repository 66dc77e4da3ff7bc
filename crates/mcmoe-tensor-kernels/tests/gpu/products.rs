//! Products with packed and dense matrices.

use mcmoe_tensor_kernels::{
    BitWidth, Coding, DenseMatrix, DenseType, PackedOps, Precision, TrellisRate, dense_linear, dense_rows,
    packed_linear, packed_weights,
};

use crate::cases::{F16_BUDGET, F32_BUDGET, assert_close, assert_product, packed, random, tensor, values};

/// Rows, columns and group size: whole tiles and groups, neither, and a row that is one short group.
const SHAPES: [[usize; 3]; 3] = [[64, 512, 128], [41, 320, 128], [17, 96, 1024]];

const BATCHES: [usize; 4] = [1, 2, 7, 64];

pub(crate) fn grids<B: PackedOps>(device: &B::Device) {
    for bits in BitWidth::ALL {
        SHAPES.iter().for_each(|&shape| product::<B>(bits.into(), shape, &BATCHES, F32_BUDGET, device));
    }
}

pub(crate) fn trellises<B: PackedOps>(device: &B::Device) {
    for rate in TrellisRate::ALL {
        SHAPES[..2].iter().for_each(|&shape| product::<B>(rate.into(), shape, &BATCHES, F32_BUDGET, device));
    }
    // Columns that do not fill whole pieces, and an odd number, which nothing mixes.
    for cols in [100, 99] {
        let rate = TrellisRate::new(2.0).unwrap();
        product::<B>(rate.into(), [20, cols, 256], &[2], F32_BUDGET, device);
        product::<B>(BitWidth::B3.into(), [20, cols, 256], &[2], F32_BUDGET, device);
    }
}

pub(crate) fn half_precision<B: PackedOps>(device: &B::Device) {
    let grids = BitWidth::ALL.map(Coding::Grid).into_iter();
    for coding in grids.chain(TrellisRate::ALL.map(Coding::Trellis)) {
        product::<B>(coding, SHAPES[0], &[1, 7, 64], F16_BUDGET, device);
    }
}

/// Blocks of columns that one cube can mix, and those that take a second step.
pub(crate) fn long_rotations<B: PackedOps>(device: &B::Device) {
    for cols in [2048 * 7, 4096, 8192 * 3, 16384] {
        let rate = TrellisRate::new(3.0).unwrap();
        product::<B>(rate.into(), [16, cols, 256], &[2], F32_BUDGET, device);
    }
}

fn product<B: PackedOps>(
    coding: Coding,
    [rows, cols, group_size]: [usize; 3],
    batches: &[usize],
    budget: f64,
    device: &B::Device,
) {
    let matrix = packed(rows, cols, coding, group_size, 5);
    let weights = matrix.dequantize();
    let on_device = B::packed_from(matrix, Precision::F32, device);
    if budget == F32_BUDGET {
        let found = values(packed_weights::<B>(&on_device, device));
        assert_close(&format!("weights of {coding}, {rows} x {cols}"), &found, &weights, 1e-6);
    }
    for &tokens in batches {
        let x = random(tokens * cols, tokens as u64);
        let [y] =
            packed_linear::<B>(tensor(x.clone(), [tokens, cols], device), &[&on_device]).try_into().unwrap();
        let what = format!("{coding}, {rows} x {cols} in {group_size}, {tokens} tokens");
        assert_product(&what, &values(y), &x, &weights, cols, budget);
    }
}

pub(crate) fn dense<B: PackedOps>(device: &B::Device) {
    for dtype in [DenseType::F32, DenseType::F16, DenseType::Bf16] {
        for (rows, cols) in [(64, 256), (37, 70), (9, 33)] {
            let elements = random(rows * cols, 3);
            let bytes: Vec<u8> = match dtype {
                DenseType::F32 => elements.iter().flat_map(|v| v.to_le_bytes()).collect(),
                DenseType::F16 => {
                    elements.iter().flat_map(|v| half::f16::from_f32(*v / 64.0).to_le_bytes()).collect()
                }
                DenseType::Bf16 => {
                    elements.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()
                }
            };
            let matrix = DenseMatrix::new(rows, cols, dtype, bytes.into()).unwrap();
            let weights: Vec<f32> = (0..rows).flat_map(|row| matrix.row(row)).collect();
            let on_device = B::dense_from(matrix, device);
            for tokens in BATCHES {
                let x = random(tokens * cols, tokens as u64);
                let y = dense_linear::<B>(tensor(x.clone(), [tokens, cols], device), &on_device);
                let what = format!("{dtype:?}, {rows} x {cols}, {tokens} tokens");
                assert_product(&what, &values(y), &x, &weights, cols, F32_BUDGET);
            }
            let some = values(dense_rows::<B>(&on_device, &[rows - 1, 0, rows - 1], device));
            let expected = [&weights[(rows - 1) * cols..], &weights[..cols], &weights[(rows - 1) * cols..]];
            assert_close("rows", &some, &expected.concat(), 0.0);
        }
    }
}
