//! Codes, scales and zero points while a quantizer chooses them.

use half::f16;
use mcmoe_tensor_kernels::{PackedMatrix, PackedShape};

use crate::{Grid, QuantError};

/// One row of a matrix under construction.
pub(crate) struct RowMut<'a> {
    pub(crate) codes: &'a mut [u8],
    pub(crate) scales: &'a mut [f16],
    pub(crate) zeros: &'a mut [f16],
}

impl RowMut<'_> {
    /// Records the grid of group `group`.
    pub(crate) fn set_grid(&mut self, group: usize, grid: Grid) {
        self.scales[group] = grid.scale();
        self.zeros[group] = grid.zero();
    }
}

/// Unpacked codes with their parameters, `[rows, cols]` and `[rows, groups]`.
pub(crate) struct Draft {
    shape: PackedShape,
    codes: Vec<u8>,
    scales: Vec<f16>,
    zeros: Vec<f16>,
}

impl Draft {
    pub(crate) fn new(shape: PackedShape) -> Self {
        let params = vec![f16::ZERO; shape.params()];
        Self { shape, codes: vec![0; shape.weights()], scales: params.clone(), zeros: params }
    }

    /// The rows, for quantizers that treat them one by one or in parallel.
    pub(crate) fn rows_mut(&mut self) -> Vec<RowMut<'_>> {
        let (cols, groups) = (self.shape.cols(), self.shape.groups());
        let params = self.scales.chunks_exact_mut(groups).zip(self.zeros.chunks_exact_mut(groups));
        let rows = self.codes.chunks_exact_mut(cols).zip(params);
        rows.map(|(codes, (scales, zeros))| RowMut { codes, scales, zeros }).collect()
    }

    pub(crate) fn pack(self) -> Result<PackedMatrix, QuantError> {
        Ok(PackedMatrix::pack(self.shape, &self.codes, &self.scales, &self.zeros)?)
    }
}
