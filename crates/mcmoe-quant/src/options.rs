//! How to quantize.

use mcmoe_tensor_kernels::{BitWidth, Coding, KernelError, PackedShape, TrellisRate};

use crate::{GridSearch, Matrix};

/// The quantizer to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Round to nearest on the best grid of each group; at 1 bit the sign and the mean magnitude.
    Rtn,
    /// GPTQ: round column by column and let the columns still to come make up for the error.
    #[default]
    Gptq,
    /// Half-quadratic quantization: data-free, tunes the zero points for a sparse residual.
    Hqq,
}

/// Settings of [`crate::quantize`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantOptions {
    /// What codes mean: levels of a grid, or bits of a trellis.
    pub coding: Coding,
    /// Consecutive weights of a row that share a scale and a zero point.
    pub group_size: usize,
    /// The quantizer.
    pub method: Method,
    /// The search for scales and zero points of widths above 1 bit (RTN and GPTQ).
    pub grid: GridSearch,
    /// GPTQ: ridge added to the Hessian, as a share of its mean diagonal. Grows by itself when
    /// there are fewer calibration tokens than input features.
    pub damping: f32,
    /// GPTQ: columns rounded before their error reaches the columns beyond, at least one.
    pub block_size: usize,
}

impl QuantOptions {
    /// GPTQ in groups of 128 with `bits`-bit codes.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedBits`] unless `bits` is 1, 2, 3, 4 or 8.
    pub fn new(bits: u8) -> Result<Self, KernelError> {
        Ok(Self::coded(BitWidth::new(bits)?.into()).group_size(128))
    }

    /// GPTQ in groups of 256 on a trellis of `bits` bits a weight: the least error of all at 1 to 4 bits.
    ///
    /// # Errors
    /// [`KernelError::UnsupportedRate`] unless `bits` is 1, 1.5, 2, 2.5, 3 or 4.
    pub fn trellis(bits: f64) -> Result<Self, KernelError> {
        Ok(Self::coded(TrellisRate::new(bits)?.into()))
    }

    /// The default settings with these codes.
    pub fn coded(coding: Coding) -> Self {
        Self {
            coding,
            group_size: 256,
            method: Method::default(),
            grid: GridSearch::default(),
            damping: 0.01,
            block_size: 128,
        }
    }

    /// The packed shape that `weight` gets.
    pub(crate) fn shape(&self, weight: Matrix<'_>) -> Result<PackedShape, KernelError> {
        PackedShape::new(weight.rows(), weight.cols(), self.coding, self.group_size)
    }

    /// Sets the quantizer.
    #[must_use]
    pub const fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets the weights a group.
    #[must_use]
    pub const fn group_size(mut self, group_size: usize) -> Self {
        self.group_size = group_size;
        self
    }

    /// Sets the search for scales and zero points.
    #[must_use]
    pub const fn grid(mut self, grid: GridSearch) -> Self {
        self.grid = grid;
        self
    }

    /// Sets GPTQ's ridge, a share of the Hessian's mean diagonal.
    #[must_use]
    pub const fn damping(mut self, damping: f32) -> Self {
        self.damping = damping;
        self
    }
}
