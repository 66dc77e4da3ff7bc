//! A borrowed weight matrix.

use crate::QuantError;

/// Weights `[rows, cols]` (output by input features), row-major, known to be finite.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    rows: usize,
    cols: usize,
    data: &'a [f32],
}

impl<'a> Matrix<'a> {
    /// A view of `data` as `rows` rows of `cols` weights.
    ///
    /// # Errors
    /// [`QuantError::NotWholeRows`] if the sizes do not match, [`QuantError::WeightNotFinite`] if a
    /// weight is infinite or NaN.
    pub fn new(rows: usize, cols: usize, data: &'a [f32]) -> Result<Self, QuantError> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(QuantError::NotWholeRows { what: "weights", width: cols, found: data.len() });
        }
        match data.iter().position(|w| !w.is_finite()) {
            None => Ok(Self { rows, cols, data }),
            Some(at) => Err(QuantError::WeightNotFinite { row: at / cols, col: at % cols, value: data[at] }),
        }
    }

    /// Output features.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// The weights, row-major.
    pub const fn data(&self) -> &'a [f32] {
        self.data
    }
}
