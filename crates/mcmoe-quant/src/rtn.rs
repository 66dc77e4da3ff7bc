//! Round to nearest: every group on its best grid, no data needed.

use mcmoe_tensor_kernels::{BitWidth, PackedMatrix};
use rayon::prelude::*;

use crate::quantized::Draft;
use crate::{Grid, Matrix, QuantError, QuantOptions};

pub(crate) fn quantize(
    weight: Matrix<'_>,
    bits: BitWidth,
    options: &QuantOptions,
) -> Result<PackedMatrix, QuantError> {
    let shape = options.shape(weight)?;
    let mut draft = Draft::new(shape);
    let rows = draft.rows_mut().into_par_iter();
    rows.zip(weight.data().par_chunks_exact(weight.cols())).for_each(|(mut row, weights)| {
        for (group, weights) in weights.chunks(shape.group_size()).enumerate() {
            let grid = Grid::fit(weights, bits, &options.grid);
            row.set_grid(group, grid);
            let codes = &mut row.codes[group * shape.group_size()..];
            for (code, &weight) in codes.iter_mut().zip(weights) {
                *code = grid.code(weight);
            }
        }
    });
    draft.pack()
}
