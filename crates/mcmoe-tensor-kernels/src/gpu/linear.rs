//! Products of packed matrices with a few tokens: a cube takes a tile of 16 rows.

use cubecl::prelude::*;

use super::code::{Code, Fours, QUAD, QUADS, Words, share, table_start};
use super::decode::{add_pieces, no_sums};
use crate::shape::TILE_ROWS;

/// Units of a cube that works on a tile.
pub(super) const UNITS: usize = 256;

/// `x Wᵀ`, `[tokens, rows]`: cube `(t, b)` takes tile `t` and the tokens of batch `b`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn linear<F: Float, O: Float>(
    weights: &Array<Words>,
    tables: &Array<u32>,
    x: &Array<Fours<F>>,
    y: &mut Array<O>,
    rows: usize,
    tokens: usize,
    pieces: usize,
    tile_words: usize,
    x_stride: usize,
    #[comptime] code: Code,
    #[comptime] batch: usize,
    #[comptime] plane: usize,
    #[define(F, O)] _types: [StorageType; 2],
) {
    let tables = share(tables, comptime!(vec![code]));
    let tile = CUBE_POS_X as usize;
    let first = CUBE_POS_Y as usize * batch;
    let mut x_rows = Array::<usize>::new(batch);
    #[unroll]
    for token in 0..batch {
        x_rows[token] = min(first + token, tokens - 1) * x_stride;
    }
    let unit = UNIT_POS as usize;
    let (quad, lane) = (unit % QUADS, unit / QUADS);
    let mut sums = no_sums(comptime!(QUAD * batch));
    add_pieces::<F>(
        weights,
        tile * tile_words,
        quad,
        lane,
        comptime!(UNITS / QUADS),
        pieces,
        x,
        &x_rows,
        &tables,
        &mut sums,
        0_usize,
        code,
        batch,
    );
    let mut totals = totals_of(batch, plane);
    let at_once = comptime!(tokens_a_round(batch, plane));
    #[unroll]
    for round in 0..comptime!(batch / at_once) {
        reduce(&sums, &mut totals, round, batch, plane);
        let mut at = unit;
        while at < comptime!(TILE_ROWS * at_once) {
            let token = first + comptime!(round * at_once) + at / TILE_ROWS;
            let row = tile * TILE_ROWS + at % TILE_ROWS;
            if token < tokens && row < rows {
                y[token * rows + row] = O::cast_from(total(&totals, at, 0_usize, 1_usize, batch, plane));
            }
            at += UNITS;
        }
    }
}

/// Products of the experts' matrices with the tokens that were routed to them: cube `(t, c)` takes tile `t`
/// and chunk `c` of `plan` (see [`super::route`]).
///
/// `places` holds, for each expert and each of its `matrices`, where the matrix begins in `weights` and how
/// long a tile is, in quads of words, and the number of its code. With two matrices, gate and up, row `s / top_k`
/// of `x` is slot `s`'s and what is stored is `silu(gate x) · up x`; with one, row `s` of `x` is.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn experts<F: Float>(
    weights: &Array<Words>,
    tables: &Array<u32>,
    places: &Array<u32>,
    plan: &Array<u32>,
    x: &Array<Fours<F>>,
    y: &mut Array<f32>,
    rows: usize,
    slots: usize,
    pieces: usize,
    x_stride: usize,
    top_k: usize,
    #[comptime] codes: Vec<Code>,
    #[comptime] matrices: usize,
    #[comptime] batch: usize,
    #[comptime] plane: usize,
    #[define(F)] _inputs: StorageType,
) {
    let tables = share(tables, comptime!(codes.clone()));
    let tile = CUBE_POS_X as usize;
    let chunk = 2 * slots + 3 * CUBE_POS_Y as usize;
    let (expert, first, count) = (plan[chunk] as usize, plan[chunk + 1] as usize, plan[chunk + 2] as usize);
    let mut x_rows = Array::<usize>::new(batch);
    #[unroll]
    for token in 0..batch {
        // Those of a chunk that has fewer repeat its last.
        let at = first + min(token, max(count, 1) - 1);
        let slot = plan[slots + min(at, slots - 1)] as usize;
        let row = if comptime!(matrices == 2) { slot / top_k } else { slot };
        x_rows[token] = row * x_stride;
    }
    let unit = UNIT_POS as usize;
    let lanes = comptime!(UNITS / QUADS / matrices);
    let (quad, lane) = (unit % QUADS, unit / QUADS % lanes);
    let place = 3 * (expert * matrices + unit / QUADS / lanes);
    let start = places[place] as usize + tile * places[place + 1] as usize;
    let code = places[place + 2];
    let mut sums = no_sums(comptime!(QUAD * batch));
    // Chunks that the plan did not need are empty.
    let end = select(count > 0, pieces, 0);
    #[unroll]
    for known in 0..comptime!(codes.len()) {
        if code == known as u32 {
            add_pieces::<F>(
                weights,
                start,
                quad,
                lane,
                lanes,
                end,
                x,
                &x_rows,
                &tables,
                &mut sums,
                comptime!(table_start(&codes, known)),
                comptime!(codes[known]),
                batch,
            );
        }
    }
    let mut totals = totals_of(batch, plane);
    let at_once = comptime!(tokens_a_round(batch, plane));
    #[unroll]
    for round in 0..comptime!(batch / at_once) {
        reduce(&sums, &mut totals, round, batch, plane);
        let mut at = unit;
        while at < comptime!(TILE_ROWS * at_once) {
            let token = comptime!(round * at_once) + at / TILE_ROWS;
            let row = tile * TILE_ROWS + at % TILE_ROWS;
            if token < count && row < rows {
                let slot = plan[slots + first + token] as usize;
                let mut value = total(&totals, at, 0_usize, matrices, batch, plane);
                if comptime!(matrices == 2) {
                    let up = total(&totals, at, 1_usize, matrices, batch, plane);
                    value = value / (1.0 + (-value).exp()) * up;
                }
                y[slot * rows + row] = value;
            }
            at += UNITS;
        }
    }
}

/// `y[t] = Σ_k weights[t, k] · parts[t, k]`: what experts give, put together.
#[cube(launch_unchecked)]
pub(super) fn combine<O: Float>(
    parts: &Array<f32>,
    weights: &Array<f32>,
    y: &mut Array<O>,
    len: usize,
    cols: usize,
    top_k: usize,
    #[define(O)] _outputs: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < len {
        let (token, col) = (at / cols, at % cols);
        let mut sum = 0.0_f32;
        for k in 0..top_k {
            let slot = token * top_k + k;
            let weight = weights[slot];
            // Nobody computed the part of a pruned expert.
            if weight > 0.0 {
                sum += weight * parts[slot * cols + col];
            }
        }
        y[at] = O::cast_from(sum);
    }
}

/// Units that give what they summed to memory as one: those of a plane, or the quads of a line.
fn group(plane: usize) -> usize {
    plane.max(QUADS)
}

/// Tokens whose sums fit into shared memory at a time, beside tables.
fn tokens_a_round(tokens: usize, plane: usize) -> usize {
    const FLOATS: usize = 2048;
    tokens.min((FLOATS / (UNITS / group(plane) * TILE_ROWS)).max(1))
}

/// Shared memory for [`reduce`], `[groups, tokens of a round, TILE_ROWS]`.
#[cube]
fn totals_of(#[comptime] tokens: usize, #[comptime] plane: usize) -> SharedMemory<f32> {
    SharedMemory::<f32>::new(comptime!(UNITS / group(plane) * tokens_a_round(tokens, plane) * TILE_ROWS))
}

/// Adds up `sums`, `[QUAD, tokens]`, of the units with the same quad, as far as planes can, for the tokens of
/// a round: what is left is in `totals` once this returns.
///
/// `plane` is the number of units of a plane, 0 where planes cannot be used.
#[cube]
fn reduce(
    sums: &Array<f32>,
    totals: &mut SharedMemory<f32>,
    #[comptime] round: usize,
    #[comptime] tokens: usize,
    #[comptime] plane: usize,
) {
    let group = comptime!(group(plane));
    let at_once = comptime!(tokens_a_round(tokens, plane));
    let unit = UNIT_POS as usize;
    // Those of the round before have been read.
    sync_cube();
    #[unroll]
    for at in 0..comptime!(QUAD * at_once) {
        let (row, token) = comptime!((at / at_once, at % at_once));
        let mut sum = sums[comptime!(row * tokens + round * at_once + token)];
        #[unroll]
        for step in 0..comptime!((group / QUADS).ilog2() as usize) {
            sum += plane_shuffle_xor(sum, comptime!((QUADS << step) as u32));
        }
        if unit % group < QUADS {
            totals[(unit / group * at_once + token) * TILE_ROWS + unit % QUADS * QUAD + row] = sum;
        }
    }
    sync_cube();
}

/// What [`reduce`] left of output `at`, `[tokens of the round, TILE_ROWS]`, of matrix `matrix` of so many.
#[cube]
fn total(
    totals: &SharedMemory<f32>,
    at: usize,
    #[comptime] matrix: usize,
    #[comptime] matrices: usize,
    #[comptime] tokens: usize,
    #[comptime] plane: usize,
) -> f32 {
    let groups = comptime!(UNITS / group(plane) / matrices);
    let size = comptime!(tokens_a_round(tokens, plane) * TILE_ROWS);
    let mut sum = 0.0_f32;
    #[unroll]
    for group in 0..groups {
        sum += totals[comptime!((matrix * groups + group) * size) + at];
    }
    sum
}
