//! From words of memory to weights: sums of products, or weights themselves.
//!
//! In a word of a grid, codes stay where they are: as the low bits of a large float's mantissa they are multiples
//! of a power of two, and what they meet is divided by that.

use cubecl::prelude::*;

use super::code::{Code, Fours, PIECE_STEPS, QUAD, QUADS, Words};
use crate::BitWidth;
use crate::shape::{BLOCK_STEPS, STEP_COLS};
use crate::trellis::INDEX;

/// 2²³: floats from here on have no bits below one.
const LARGE: u32 = 0x4B00_0000;

/// Adds to `sums`, `[QUAD, tokens]`, the products of all pieces `first`, `first + stride`, and so on.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn add_pieces<F: Float>(
    weights: &Array<Words>,
    tile: usize,
    quad: usize,
    first: usize,
    stride: usize,
    pieces: usize,
    x: &Array<Fours<F>>,
    x_rows: &Array<usize>,
    tables: &SharedMemory<u32>,
    sums: &mut Array<f32>,
    #[comptime] table: usize,
    #[comptime] code: Code,
    #[comptime] tokens: usize,
) {
    let mut piece = first;
    while piece < pieces {
        if comptime!(code.rotated()) {
            add_trellis::<F>(
                weights, tile, quad, piece, pieces, x, x_rows, tables, sums, table, code, tokens,
            );
        } else {
            add_grid::<F>(weights, tile, quad, piece, pieces, x, x_rows, sums, code, tokens);
        }
        piece += stride;
    }
}

/// Where a piece lies, in quads of words, and what it meets, in fours of inputs.
#[derive(CubeType)]
struct Place {
    /// The beginning of its group: scales, and zero points on a grid.
    group: usize,
    /// The quad's words of its first line.
    start: usize,
    /// Which piece of its group it is.
    in_group: usize,
    /// Pieces of its group: fewer than others have, if it is a row's last.
    group_pieces: usize,
    /// Its first inputs.
    x: usize,
    /// From the inputs of one quarter of the group to those of the next, on a trellis.
    quarter: usize,
}

#[cube]
impl Place {
    fn of(tile: usize, quad: usize, piece: usize, pieces: usize, #[comptime] code: Code) -> Self {
        let (head, most) = comptime!((code.head(), code.group_pieces));
        let piece_words = comptime!(code.lines() * QUADS);
        let fours = comptime!(PIECE_STEPS / 4);
        let (number, in_group) = (piece / most, piece % most);
        let group = tile + number * comptime!(head + most * piece_words);
        let group_pieces = min(most, pieces - number * most);
        let x = if comptime!(code.rotated()) {
            number * comptime!(most * PIECE_STEPS) + in_group * fours
        } else {
            piece * BLOCK_STEPS
        };
        Place {
            group,
            start: group + head + in_group * piece_words + quad,
            in_group,
            group_pieces,
            x,
            quarter: group_pieces * fours,
        }
    }
}

/// Sums of nothing.
#[cube]
pub(super) fn no_sums(#[comptime] len: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(len);
    #[unroll]
    for at in 0..len {
        sums[at] = 0.0;
    }
    sums
}

/// The words of a piece, a line after the other.
#[cube]
fn load(weights: &Array<Words>, start: usize, #[comptime] lines: usize) -> Array<Words> {
    let mut words = Array::<Words>::new(lines);
    #[unroll]
    for line in 0..lines {
        words[line] = weights[start + line * QUADS];
    }
    words
}

#[cube]
#[allow(clippy::too_many_arguments)]
fn add_grid<F: Float>(
    weights: &Array<Words>,
    tile: usize,
    quad: usize,
    piece: usize,
    pieces: usize,
    x: &Array<Fours<F>>,
    x_rows: &Array<usize>,
    sums: &mut Array<f32>,
    #[comptime] code: Code,
    #[comptime] tokens: usize,
) {
    let place = Place::of(tile, quad, piece, pieces, code);
    let words = load(weights, place.start, comptime!(code.lines()));
    let scales = halves(weights, place.group, quad);
    let zeros = halves(weights, place.group + 2, quad);

    let mut products = no_sums(comptime!(QUAD * tokens));
    let mut x_sums = no_sums(tokens);
    #[unroll]
    for step in 0..BLOCK_STEPS {
        #[unroll]
        for column in 0..STEP_COLS {
            let mut inputs = Array::<f32>::new(tokens);
            #[unroll]
            for token in 0..tokens {
                let value = f32::cast_from(x[x_rows[token] + place.x + step][column]);
                x_sums[token] += value;
                inputs[token] = value * comptime!(grid_unit(code.width(), step, column));
            }
            #[unroll]
            for row in 0..QUAD {
                let value = grid_code(&words, row, step, column, code);
                #[unroll]
                for token in 0..tokens {
                    products[comptime!(row * tokens + token)] += value * inputs[token];
                }
            }
        }
    }
    #[unroll]
    for row in 0..QUAD {
        #[unroll]
        for token in 0..tokens {
            let at = comptime!(row * tokens + token);
            sums[at] += scales[row] * (products[at] - zeros[row] * x_sums[token]);
        }
    }
}

/// The lowest bit of a code in the half word where it lies.
fn grid_shift(bits: BitWidth, step: usize, column: usize) -> usize {
    let plane = match bits {
        BitWidth::B3 => 2,
        bits => bits.bits() as usize,
    };
    8 * (column % 2) + step % (8 / plane) * plane
}

/// What a code in its place is divided by, to be multiplied with.
fn grid_unit(bits: BitWidth, step: usize, column: usize) -> f32 {
    1.0 / (1_u32 << grid_shift(bits, step, column)) as f32
}

/// A code times the power of two of its place.
#[cube]
fn grid_code(
    words: &Array<Words>,
    #[comptime] row: usize,
    #[comptime] step: usize,
    #[comptime] column: usize,
    #[comptime] code: Code,
) -> f32 {
    let bits = comptime!(code.width().bits() as usize);
    let plane = comptime!(if bits == 3 { 2 } else { bits });
    let shift = comptime!(grid_shift(code.width(), step, column));
    let half = comptime!(16 * (column as u32 / 2));
    let word = words[comptime!(step / (8 / plane))][row] >> half;
    let mut found = word & comptime!(((1_u32 << plane) - 1) << shift);
    if comptime!(bits == 3) {
        // The third bit lies in a line of its own: to the place above the two others.
        let third = words[2][row] >> half;
        let from = comptime!(8 * (column % 2) + step);
        if comptime!(from > shift + 2) {
            found |= (third >> comptime!((from - shift - 2) as u32)) & comptime!(4_u32 << shift);
        } else {
            found |= (third << comptime!((shift + 2 - from) as u32)) & comptime!(4_u32 << shift);
        }
    }
    f32::reinterpret(found | LARGE) - 8_388_608.0
}

#[cube]
#[allow(clippy::too_many_arguments)]
fn add_trellis<F: Float>(
    weights: &Array<Words>,
    tile: usize,
    quad: usize,
    piece: usize,
    pieces: usize,
    x: &Array<Fours<F>>,
    x_rows: &Array<usize>,
    tables: &SharedMemory<u32>,
    sums: &mut Array<f32>,
    #[comptime] table: usize,
    #[comptime] code: Code,
    #[comptime] tokens: usize,
) {
    let lines = comptime!(code.lines());
    let place = Place::of(tile, quad, piece, pieces, code);
    let words = load(weights, place.start, lines);
    let before = before(weights, &place, lines);
    let scales = halves(weights, place.group, quad);

    let mut products = no_sums(comptime!(QUAD * tokens));
    for column in 0..STEP_COLS {
        let mut inputs = Array::<f32>::new(comptime!(PIECE_STEPS * tokens));
        #[unroll]
        for token in 0..tokens {
            #[unroll]
            for four in 0..comptime!(PIECE_STEPS / 4) {
                let values = x[x_rows[token] + place.x + column * place.quarter + four];
                #[unroll]
                for at in 0..comptime!(4_usize) {
                    inputs[comptime!((4 * four + at) * tokens + token)] = f32::cast_from(values[at]);
                }
            }
        }
        #[unroll]
        for row in 0..QUAD {
            let mut levels = Levels::start(&before, row, column);
            #[unroll]
            for step in 0..PIECE_STEPS {
                let level = levels.next(&words, tables, row, column, step, table, code);
                #[unroll]
                for token in 0..tokens {
                    products[comptime!(row * tokens + token)] +=
                        level * inputs[comptime!(step * tokens + token)];
                }
            }
        }
    }
    #[unroll]
    for row in 0..QUAD {
        #[unroll]
        for token in 0..tokens {
            let at = comptime!(row * tokens + token);
            sums[at] += scales[row] * products[at];
        }
    }
}

/// The two lines before a piece: those of the piece before it, or of the end of the quarter before.
#[cube]
fn before(weights: &Array<Words>, place: &Place, #[comptime] lines: usize) -> Array<Words> {
    let starts_group = place.in_group == 0;
    let group_end = place.start + place.group_pieces * comptime!(lines * QUADS);
    let end = select(starts_group, group_end, place.start);
    let shift = select(starts_group, 8_u32, 0_u32);
    let mut words = Array::<Words>::new(2_usize);
    // The byte of a quarter becomes that of the next one.
    words[0] = weights[end - 2 * QUADS] << Vector::new(shift);
    words[1] = weights[end - QUADS] << Vector::new(shift);
    words
}

/// A stream of a trellis on its way through a piece.
#[derive(CubeType)]
struct Levels {
    /// The newest bytes of the stream.
    stream: u32,
    /// Position of the level of the newest window.
    index: u32,
}

#[cube]
impl Levels {
    fn start(before: &Array<Words>, #[comptime] row: usize, column: usize) -> Self {
        let shift = 8 * column as u32;
        let older = (before[0][row] >> shift) & 255;
        let newer = (before[1][row] >> shift) & 255;
        Levels { stream: (older << 8) | newer, index: 0u32.runtime() }
    }

    /// The level of step `step`, less the level of zero.
    #[allow(clippy::too_many_arguments)]
    fn next(
        &mut self,
        words: &Array<Words>,
        tables: &SharedMemory<u32>,
        #[comptime] row: usize,
        column: usize,
        #[comptime] step: usize,
        #[comptime] table: usize,
        #[comptime] code: Code,
    ) -> f32 {
        let rate = comptime!(code.trellis());
        let taken = comptime!(rate.bits_until(step).div_ceil(8));
        let taken_before = comptime!(if step == 0 { 0 } else { rate.bits_until(step - 1).div_ceil(8) });
        if comptime!(taken > taken_before) {
            let byte = (words[comptime!(taken - 1)][row] >> (8 * column as u32)) & 255;
            self.stream = (self.stream << 8) | byte;
        }
        if comptime!(rate.bits_at(step) > 0) {
            let unused = comptime!((8 * taken - rate.bits_until(step)) as u32);
            let older = (self.stream >> comptime!(unused + INDEX as u32)) & 63;
            self.index = ((self.stream >> unused) & 63) ^ tables[table + older as usize];
        }
        let levels = comptime!(table + ((1 + step % 2) << INDEX));
        f32::reinterpret(tables[levels + self.index as usize])
    }
}

/// The `f16`s of a quad of rows: one of 16 in two quads of words.
#[cube]
fn halves(weights: &Array<Words>, start: usize, quad: usize) -> Array<f32> {
    let words = weights[start + quad / 2];
    let even = quad.is_multiple_of(2);
    let low = select(even, words[0], words[2]);
    let high = select(even, words[1], words[3]);
    let mut values = Array::<f32>::new(QUAD);
    values[0] = half(low & 0xFFFF);
    values[1] = half(low >> 16);
    values[2] = half(high & 0xFFFF);
    values[3] = half(high >> 16);
    values
}

/// An `f16` from its bits. Not every GPU knows the type.
#[cube]
pub(super) fn half(bits: u32) -> f32 {
    let sign = (bits & 0x8000) << 16;
    let small = f32::reinterpret(sign | 0x3380_0000) * f32::cast_from(bits & 0x3FF);
    let exponent = bits & 0x7C00;
    let magnitude = ((bits & 0x7FFF) << 13) + select(exponent == 0x7C00, 0x7000_0000_u32, 0x3800_0000_u32);
    select(exponent == 0, small, f32::reinterpret(sign | magnitude))
}

/// Writes the weights of a piece, of a quad of rows from `first_row` on, to `y`, `[rows, stride]`.
#[cube]
#[allow(clippy::too_many_arguments)]
pub(super) fn write_piece<O: Float>(
    weights: &Array<Words>,
    tile: usize,
    quad: usize,
    piece: usize,
    pieces: usize,
    tables: &SharedMemory<u32>,
    y: &mut Array<O>,
    first_row: usize,
    rows: usize,
    cols: usize,
    stride: usize,
    #[comptime] code: Code,
) {
    let lines = comptime!(code.lines());
    let place = Place::of(tile, quad, piece, pieces, code);
    let words = load(weights, place.start, lines);
    let scales = halves(weights, place.group, quad);
    if comptime!(code.rotated()) {
        let before = before(weights, &place, lines);
        for column in 0..STEP_COLS {
            #[unroll]
            for row in 0..QUAD {
                let mut levels = Levels::start(&before, row, column);
                #[unroll]
                for step in 0..PIECE_STEPS {
                    let level = levels.next(&words, tables, row, column, step, 0_usize, code);
                    let col = 4 * (place.x + column * place.quarter) + step;
                    if first_row + row < rows && col < stride {
                        let weight = select(col < cols, scales[row] * level, 0.0);
                        y[(first_row + row) * stride + col] = O::cast_from(weight);
                    }
                }
            }
        }
    } else {
        let zeros = halves(weights, place.group + 2, quad);
        #[unroll]
        for step in 0..BLOCK_STEPS {
            #[unroll]
            for column in 0..STEP_COLS {
                let unit = comptime!(grid_unit(code.width(), step, column));
                let col = 4 * (place.x + step) + column;
                #[unroll]
                for row in 0..QUAD {
                    let value = grid_code(&words, row, step, column, code) * unit;
                    if first_row + row < rows && col < stride {
                        let weight = select(col < cols, scales[row] * (value - zeros[row]), 0.0);
                        y[(first_row + row) * stride + col] = O::cast_from(weight);
                    }
                }
            }
        }
    }
}
