//! The rotation of inputs that spreads every weight of a row over many columns.
//!
//! Signs are flipped by a fixed pattern, then a Walsh–Hadamard transform mixes each block of columns.
//! Rotated weights are nearly normally distributed, whatever they were before, which is what trellis codes
//! are made for; and no column matters much more than another. A block is the largest power of two that
//! divides the columns, so any number of columns works, odd ones without effect. The transform is
//! orthogonal: a product of rotated weights with rotated inputs is the product of the originals.

/// Rotates a row of inputs or weights.
#[inline(always)]
pub(crate) fn rotate(row: &mut [f32]) {
    flip(row);
    transform(row);
}

/// Takes the rotation back.
#[inline(always)]
pub(crate) fn rotate_back(row: &mut [f32]) {
    transform(row);
    flip(row);
}

/// Columns that are mixed with each other, of so many.
fn block(cols: usize) -> usize {
    1 << cols.trailing_zeros()
}

#[inline(always)]
fn flip(row: &mut [f32]) {
    for (col, value) in row.iter_mut().enumerate() {
        // A mix of the column's bits whose highest one serves as the sign.
        let mixed = (col as u32 ^ 0x9E37_79B9).wrapping_mul(0x85EB_CA6B);
        let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xC2B2_AE35);
        *value = f32::from_bits(value.to_bits() ^ (mixed & 1 << 31));
    }
}

/// The Walsh–Hadamard transform of each block, scaled to keep lengths; its own inverse.
#[inline(always)]
fn transform(row: &mut [f32]) {
    let size = block(row.len().max(1));
    let scale = 1.0 / (size as f32).sqrt();
    for block in row.chunks_exact_mut(size) {
        let mut half = 1;
        while half < size {
            for pair in block.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (low, high) in low.iter_mut().zip(high) {
                    (*low, *high) = (*low + *high, *low - *high);
                }
            }
            half *= 2;
        }
        block.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_keep_products_and_come_back() {
        for cols in [1, 7, 96, 256, 300, 7 * 64] {
            let row: Vec<f32> = (0..cols).map(|i| (i * 31 % 17) as f32 - 8.0).collect();
            let other: Vec<f32> = (0..cols).map(|i| (i * 13 % 11) as f32 - 5.0).collect();
            let product = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let (mut rotated, mut other_rotated) = (row.clone(), other.clone());
            rotate(&mut rotated);
            rotate(&mut other_rotated);
            let [before, after] = [product(&row, &other), product(&rotated, &other_rotated)];
            assert!((before - after).abs() < 1e-4 * product(&row, &row), "{cols}: {before} {after}");
            rotate_back(&mut rotated);
            let close = rotated.iter().zip(&row).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(close, "{cols}");
        }
    }

    #[test]
    fn one_large_weight_is_spread_over_its_block() {
        let mut row = [0.0; 192];
        row[70] = 8.0;
        rotate(&mut row);
        let (before, rest) = row.split_at(64);
        let (block, after) = rest.split_at(64);
        assert!(block.iter().all(|value| value.abs() == 1.0));
        assert!(before.iter().chain(after).all(|&value| value == 0.0));
        let negative = block.iter().filter(|value| **value < 0.0).count();
        assert!((20..45).contains(&negative), "{negative}");
    }
}
