//! The product with `f32` activations, in plain code: each backend compiles it for its instructions.

use super::backend::Lanes;
use super::inputs::FloatInputs;
use crate::packed::{Line, Tile};
use crate::shape::{BLOCK_STEPS, STEP_COLS, TILE_ROWS};

/// Sums of one token by column modulo 4.
type Sums = [Lanes; STEP_COLS];

#[inline(always)]
pub(super) fn tile(tile: Tile<'_>, x: &FloatInputs, out: &mut [Lanes]) {
    let mut sums: Vec<Sums> = vec![[[0.0; TILE_ROWS]; STEP_COLS]; out.len()];
    for index in 0..tile.shape().groups() {
        let group = tile.group(index);
        sums.fill([[0.0; TILE_ROWS]; STEP_COLS]);
        group.for_each_block(|block, steps| {
            let columns = to_columns(steps);
            for (token, sums) in sums.iter_mut().enumerate() {
                add_block(sums, &columns, x.block(token, index, block).as_chunks().0);
            }
        });
        let [scales, zeros] = group.params();
        for (token, (out, [a, b, c, d])) in out.iter_mut().zip(&sums).enumerate() {
            let x_sum = x.sum(token, index);
            for lane in 0..TILE_ROWS {
                let sum = (a[lane] + b[lane]) + (c[lane] + d[lane]);
                out[lane] += scales[lane] * (sum - zeros[lane] * x_sum);
            }
        }
    }
}

/// The codes of a block as numbers, column by column.
#[inline(always)]
fn to_columns(steps: &[Line; BLOCK_STEPS]) -> [Sums; BLOCK_STEPS] {
    let mut columns = [[[0.0; TILE_ROWS]; STEP_COLS]; BLOCK_STEPS];
    for (columns, codes) in columns.iter_mut().zip(steps) {
        for (c, column) in columns.iter_mut().enumerate() {
            for (lane, value) in column.iter_mut().enumerate() {
                *value = f32::from(codes[STEP_COLS * lane + c]);
            }
        }
    }
    columns
}

#[inline(always)]
fn add_block(sums: &mut Sums, columns: &[Sums; BLOCK_STEPS], x: &[[f32; STEP_COLS]]) {
    let mut local = *sums;
    for (columns, x) in columns.iter().zip(x) {
        for c in 0..STEP_COLS {
            for lane in 0..TILE_ROWS {
                local[c][lane] += columns[c][lane] * x[c];
            }
        }
    }
    *sums = local;
}
