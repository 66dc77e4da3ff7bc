//! Matrices that are not packed, and packed ones made dense.

use cubecl::prelude::*;

use super::code::{Code, QUADS, Words, share};
use super::decode::{half, write_piece};
use super::linear::UNITS;
use crate::DenseType;
use crate::shape::TILE_ROWS;

/// Units that share a row of a product.
const LANES: usize = 32;
/// Rows that a cube multiplies.
pub(super) const ROWS: usize = UNITS / LANES;

/// Element `index` of a word.
#[cube]
fn element(word: u32, #[comptime] index: usize, #[comptime] dtype: DenseType) -> f32 {
    match dtype {
        DenseType::F32 => f32::reinterpret(word),
        DenseType::F16 => half((word >> comptime!(16 * index as u32)) & 0xFFFF),
        DenseType::Bf16 => f32::reinterpret((word >> comptime!(16 * index as u32)) << 16),
    }
}

/// Elements in a word.
fn in_word(dtype: DenseType) -> usize {
    match dtype {
        DenseType::F32 => 1,
        DenseType::F16 | DenseType::Bf16 => 2,
    }
}

/// `x Wᵀ`, `[tokens, rows]`: cube `(r, b)` takes some rows and the tokens of batch `b`. `words` are those of
/// a row.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn linear<F: Float, O: Float>(
    weights: &Array<u32>,
    x: &Array<F>,
    y: &mut Array<O>,
    rows: usize,
    tokens: usize,
    words: usize,
    #[comptime] dtype: DenseType,
    #[comptime] batch: usize,
    #[define(F, O)] _types: [StorageType; 2],
) {
    let mut totals = SharedMemory::<f32>::new(comptime!(UNITS * batch));
    let elements = comptime!(in_word(dtype));
    let unit = UNIT_POS as usize;
    let row = CUBE_POS_X as usize * ROWS + unit / LANES;
    let first = CUBE_POS_Y as usize * batch;
    let mut sums = Array::<f32>::new(batch);
    #[unroll]
    for token in 0..batch {
        sums[token] = 0.0;
    }
    if row < rows {
        let mut at = unit % LANES;
        while at < words {
            let word = weights[row * words + at];
            #[unroll]
            for index in 0..elements {
                let weight = element(word, index, dtype);
                #[unroll]
                for token in 0..batch {
                    let start = min(first + token, tokens - 1) * words * elements;
                    sums[token] += weight * f32::cast_from(x[start + at * elements + index]);
                }
            }
            at += LANES;
        }
    }
    #[unroll]
    for token in 0..batch {
        totals[token * UNITS + unit] = sums[token];
    }
    sync_cube();
    let mut at = unit;
    while at < comptime!(ROWS * batch) {
        let (token, row) = (at / ROWS, at % ROWS);
        let mut sum = 0.0_f32;
        for lane in 0..LANES {
            sum += totals[token * UNITS + row * LANES + lane];
        }
        let (token, row) = (first + token, CUBE_POS_X as usize * ROWS + row);
        if token < tokens && row < rows {
            y[token * rows + row] = O::cast_from(sum);
        }
        at += UNITS;
    }
}

/// Rows `rows` of a matrix.
#[cube(launch_unchecked)]
pub(super) fn rows<O: Float>(
    weights: &Array<u32>,
    rows: &Array<u32>,
    y: &mut Array<O>,
    len: usize,
    words: usize,
    #[comptime] dtype: DenseType,
    #[define(O)] _type: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < len {
        let word = weights[rows[at / words] as usize * words + at % words];
        let elements = comptime!(in_word(dtype));
        #[unroll]
        for index in 0..elements {
            y[at * elements + index] = O::cast_from(element(word, index, dtype));
        }
    }
}

/// The weights of a packed matrix, `[rows, stride]`, rotated as they are, with the zeros of padding columns:
/// cube `t` takes tile `t`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn dequantize<O: Float>(
    weights: &Array<Words>,
    tables: &Array<u32>,
    y: &mut Array<O>,
    rows: usize,
    cols: usize,
    stride: usize,
    pieces: usize,
    tile_words: usize,
    #[comptime] code: Code,
    #[define(O)] _type: StorageType,
) {
    let tables = share(tables, comptime!(vec![code]));
    let unit = UNIT_POS as usize;
    let tile = CUBE_POS_X as usize;
    let mut piece = unit / QUADS;
    while piece < pieces {
        let first_row = tile * TILE_ROWS + unit % QUADS * 4;
        write_piece::<O>(
            weights,
            tile * tile_words,
            unit % QUADS,
            piece,
            pieces,
            &tables,
            y,
            first_row,
            rows,
            cols,
            stride,
            code,
        );
        piece += comptime!(UNITS / QUADS);
    }
}
