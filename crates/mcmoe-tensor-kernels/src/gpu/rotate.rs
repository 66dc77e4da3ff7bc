//! The rotation of inputs for trellis codes ([`crate::rotation`] is the same on the CPU), and padding.

use cubecl::prelude::*;

use super::linear::UNITS;

/// Columns that a cube mixes in shared memory.
pub(super) const MOST: usize = 4096;

/// Rotates rows of `cols` columns, `[rows, cols]`, into rows of `stride`, the rest of which become zero: cube
/// `(c, r)` takes chunk `c` of row `r`. With `back`, it takes the rotation back.
///
/// A chunk has `size` columns; blocks of more than one chunk are mixed further by [`mix`].
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn rotate<F: Float>(
    x: &Array<F>,
    y: &mut Array<f32>,
    cols: usize,
    stride: usize,
    scale: f32,
    #[comptime] size: usize,
    #[comptime] flip_first: bool,
    #[comptime] flip_last: bool,
    #[define(F)] _inputs: StorageType,
) {
    let mut values = SharedMemory::<f32>::new(size);
    let (start, row) = (CUBE_POS_X as usize * size, CUBE_POS_Y as usize);
    let unit = UNIT_POS as usize;
    let mut at = unit;
    while at < size {
        let mut value = f32::cast_from(x[row * cols + start + at]);
        if comptime!(flip_first) {
            value = flip(value, (start + at) as u32);
        }
        values[at] = value;
        at += UNITS;
    }
    sync_cube();
    #[unroll]
    for stage in 0..comptime!(size.ilog2() as usize) {
        let half = comptime!(1_usize << stage);
        let mut pair = unit;
        while pair < comptime!(size / 2) {
            let low = pair / half * comptime!(2 * half) + pair % half;
            let (a, b) = (values[low], values[low + half]);
            values[low] = a + b;
            values[low + half] = a - b;
            pair += UNITS;
        }
        sync_cube();
    }
    at = unit;
    while at < size {
        let mut value = values[at] * scale;
        if comptime!(flip_last) {
            value = flip(value, (start + at) as u32);
        }
        y[row * stride + start + at] = value;
        at += UNITS;
    }
    // The last chunk fills up the row.
    at = start + size + unit;
    if start + size == cols {
        while at < stride {
            y[row * stride + at] = 0.0;
            at += UNITS;
        }
    }
}

/// Mixes columns that are `MOST` apart: `x` is rows of `stride` columns in blocks of `chunks · MOST`.
#[cube(launch_unchecked)]
pub(super) fn mix(
    x: &mut Array<f32>,
    stride: usize,
    len: usize,
    #[comptime] chunks: usize,
    #[comptime] flip_last: bool,
) {
    let at = ABSOLUTE_POS;
    if at < len {
        let blocks = stride / comptime!(chunks * MOST);
        let (row, block) = (at / MOST / blocks, at / MOST % blocks);
        let col = block * comptime!(chunks * MOST) + at % MOST;
        let start = row * stride + col;
        let mut values = Array::<f32>::new(chunks);
        #[unroll]
        for chunk in 0..chunks {
            values[chunk] = x[start + chunk * MOST];
        }
        #[unroll]
        for stage in 0..comptime!(chunks.ilog2() as usize) {
            #[unroll]
            for pair in 0..comptime!(chunks / 2) {
                let half = comptime!(1_usize << stage);
                let low = comptime!(pair / half * 2 * half + pair % half);
                let (a, b) = (values[low], values[comptime!(low + half)]);
                values[low] = a + b;
                values[comptime!(low + half)] = a - b;
            }
        }
        #[unroll]
        for chunk in 0..chunks {
            let mut value = values[chunk];
            if comptime!(flip_last) {
                value = flip(value, (col + chunk * MOST) as u32);
            }
            x[start + chunk * MOST] = value;
        }
    }
}

/// The sign that a fixed pattern gives a column.
#[cube]
fn flip(value: f32, col: u32) -> f32 {
    let mut mixed = (col ^ 0x9E37_79B9_u32) * 0x85EB_CA6B_u32;
    mixed = (mixed ^ (mixed >> 13)) * 0xC2B2_AE35_u32;
    f32::reinterpret(u32::reinterpret(value) ^ (mixed & 0x8000_0000_u32))
}

/// Rows of `cols` columns as rows of `stride`, the rest zeros.
#[cube(launch_unchecked)]
pub(super) fn pad<F: Float>(
    x: &Array<F>,
    y: &mut Array<F>,
    len: usize,
    cols: usize,
    stride: usize,
    #[define(F)] _type: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < len {
        let (row, col) = (at / stride, at % stride);
        let source = row * cols + min(col, cols - 1);
        y[at] = select(col < cols, x[source], F::new(0.0));
    }
}
