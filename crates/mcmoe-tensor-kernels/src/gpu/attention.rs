//! Attention of one new token a sequence, and what comes before it: norms, positions, the cache.

use cubecl::prelude::*;

use super::linear::UNITS;

/// `softmax(q K / √d) V` over the positions from `first` to `end` of a cache: cube `h` takes query head `h`
/// of all sequences. Positions are taken `UNITS` at a time, with a running maximum and sum.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn decode<F: Float>(
    queries: &Array<F>,
    keys: &Array<F>,
    values: &Array<F>,
    y: &mut Array<F>,
    capacity: usize,
    first: usize,
    end: usize,
    #[comptime] group: usize,
    #[comptime] width: usize,
    #[define(F)] _type: StorageType,
) {
    // Units that share a feature, each of them taking its share of positions.
    let parts = comptime!((UNITS / width).max(1));
    let mut query = SharedMemory::<f32>::new(width);
    let mut scores = SharedMemory::<f32>::new(UNITS);
    let mut largest_of = SharedMemory::<f32>::new(UNITS);
    let mut sums = SharedMemory::<f32>::new(comptime!(parts * width));
    let unit = UNIT_POS as usize;
    let head = CUBE_POS_X as usize;
    let start = head / group * capacity * width;
    let mut at = unit;
    while at < width {
        query[at] = f32::cast_from(queries[head * width + at]) / comptime!((width as f32).sqrt());
        at += UNITS;
    }
    at = unit;
    while at < comptime!(parts * width) {
        sums[at] = 0.0;
        at += UNITS;
    }
    sync_cube();
    let mut largest = f32::new(-1e30);
    let mut total = 0.0_f32;
    let mut block = first;
    while block < end {
        let position = block + unit;
        let mut score = f32::new(-1e30);
        if position < end {
            score = 0.0;
            for feature in 0..width {
                score += query[feature] * f32::cast_from(keys[start + position * width + feature]);
            }
        }
        scores[unit] = score;
        largest_of[unit] = score;
        sync_cube();
        #[unroll]
        for step in 0..comptime!(UNITS.ilog2() as usize) {
            let half = comptime!(UNITS >> (step + 1));
            if unit < half {
                largest_of[unit] = max(largest_of[unit], largest_of[unit + half]);
            }
            sync_cube();
        }
        let new_largest = max(largest, largest_of[0]);
        let shrink = (largest - new_largest).exp();
        let count = min(end - block, UNITS);
        let mut sum = 0.0_f32;
        for other in 0..count {
            sum += (scores[other] - new_largest).exp();
        }
        total = total * shrink + sum;
        largest = new_largest;
        at = unit;
        while at < comptime!(parts * width) {
            let (part, feature) = (at / width, at % width);
            let mut sum = sums[at] * shrink;
            let mut other = part;
            while other < count {
                let value = f32::cast_from(values[start + (block + other) * width + feature]);
                sum += (scores[other] - new_largest).exp() * value;
                other += parts;
            }
            sums[at] = sum;
            at += UNITS;
        }
        sync_cube();
        block += UNITS;
    }
    at = unit;
    while at < width {
        let mut sum = 0.0_f32;
        #[unroll]
        for part in 0..parts {
            sum += sums[part * width + at];
        }
        y[head * width + at] = F::cast_from(sum / total);
        at += UNITS;
    }
}

/// `x / sqrt(mean(x²) + ε) · w`: cube `r` takes row `r`.
#[cube(launch_unchecked)]
pub(super) fn rms_norm<F: Float>(
    x: &Array<F>,
    weight: &Array<F>,
    y: &mut Array<F>,
    eps: f32,
    cols: usize,
    #[define(F)] _type: StorageType,
) {
    let mut squares = SharedMemory::<f32>::new(UNITS);
    let unit = UNIT_POS as usize;
    let start = CUBE_POS_X as usize * cols;
    let mut sum = 0.0_f32;
    let mut at = unit;
    while at < cols {
        let value = f32::cast_from(x[start + at]);
        sum += value * value;
        at += UNITS;
    }
    squares[unit] = sum;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(UNITS.ilog2() as usize) {
        let half = comptime!(UNITS >> (step + 1));
        if unit < half {
            squares[unit] = squares[unit] + squares[unit + half];
        }
        sync_cube();
    }
    let rms = (squares[0] / cols as f32 + eps).sqrt();
    at = unit;
    while at < cols {
        let value = f32::cast_from(x[start + at]) / rms * f32::cast_from(weight[at]);
        y[start + at] = F::cast_from(value);
        at += UNITS;
    }
}

/// Rotates heads by their positions: `x` is `[batch · len, heads · width]`, `y` is
/// `[batch, heads, len, width]`, cosines and sines are `[len, width]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn rotate_heads<F: Float>(
    x: &Array<F>,
    cos: &Array<F>,
    sin: &Array<F>,
    y: &mut Array<F>,
    elements: usize,
    len: usize,
    heads: usize,
    width: usize,
    #[define(F)] _type: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < elements {
        let feature = at % width;
        let position = at / width % len;
        let head = at / (width * len) % heads;
        let sequence = at / (width * len * heads);
        let start = ((sequence * len + position) * heads + head) * width;
        let half = width / 2;
        let low = feature < half;
        let other = x[start + select(low, feature + half, feature - half)];
        let turned = select(low, F::new(0.0) - other, other);
        let angle = position * width + feature;
        y[at] = x[start + feature] * cos[angle] + turned * sin[angle];
    }
}

/// Copies `new`, `[rows, added, width]`, to the positions from `start` on of `buffer`,
/// `[rows, capacity, width]`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn write_positions<F: Float>(
    new: &Array<F>,
    buffer: &mut Array<F>,
    elements: usize,
    added: usize,
    capacity: usize,
    width: usize,
    start: usize,
    #[define(F)] _type: StorageType,
) {
    let at = ABSOLUTE_POS;
    if at < elements {
        let (row, rest) = (at / (added * width), at % (added * width));
        buffer[(row * capacity + start) * width + rest] = new[at];
    }
}
