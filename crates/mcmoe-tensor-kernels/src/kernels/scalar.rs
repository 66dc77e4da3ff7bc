//! The plain kernels: the definition that every other backend equals bit for bit.

use super::backend::{Kernels, Lanes};
use super::inputs::{COMPANY, Int8Inputs, Word};
use crate::packed::{Line, Tile};
use crate::shape::{STEP_COLS, TILE_ROWS};

pub(super) struct Scalar;

impl Kernels for Scalar {
    fn name(&self) -> &'static str {
        "scalar"
    }

    fn int8(&self, tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
        let (mut sums, companies) = (vec![[0; TILE_ROWS]; out.len()], out.len() / COMPANY);
        for index in 0..tile.shape().groups() {
            let group = tile.group(index);
            sums.fill([0; TILE_ROWS]);
            let (together, alone) = sums.split_at_mut(companies * COMPANY);
            group.for_each_step(|step, codes| {
                for (company, sums) in together.chunks_exact_mut(COMPANY).enumerate() {
                    let words = x.together(company, index)[step];
                    sums.iter_mut().zip(words).for_each(|(sums, word)| add_step(sums, codes, word));
                }
                for (token, sums) in alone.iter_mut().enumerate() {
                    add_step(sums, codes, x.alone(companies * COMPANY + token, index)[step]);
                }
            });
            let params = group.params();
            for (token, (out, sums)) in out.iter_mut().zip(&sums).enumerate() {
                finish(out, sums, &params, x.params(token, index));
            }
        }
    }
}

fn add_step(sums: &mut [i32; TILE_ROWS], codes: &Line, word: Word) {
    for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<STEP_COLS>().0) {
        *sum += codes.iter().zip(word).map(|(&code, x)| i32::from(code) * i32::from(x)).sum::<i32>();
    }
}

/// Adds `Σ w x` of a group, given `Σ code · value`: `scale_w scale_x (Σ code · value − zero Σ value)`.
pub(super) fn finish(
    out: &mut Lanes,
    sums: &[i32; TILE_ROWS],
    [scales, zeros]: &[Lanes; 2],
    (x_scale, x_sum): (f32, f32),
) {
    for lane in 0..TILE_ROWS {
        out[lane] += (scales[lane] * x_scale) * (sums[lane] as f32 - zeros[lane] * x_sum);
    }
}
