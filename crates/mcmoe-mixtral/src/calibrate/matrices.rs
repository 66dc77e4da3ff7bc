//! What quantizing one matrix of an expert does to its block's output.

use burn::tensor::Tensor;
use mcmoe_quant::{Hessian, Matrix, QuantOptions, quantize_all};
use mcmoe_tensor_kernels::PackedOps;

use super::factors::Measuring;
use super::{Routed, Weights};
use crate::MixtralError;
use crate::model::{Expert, Linear, gated, names, to_host, weight};

/// Code bits at which matrices are quantized to see what it does.
pub(super) const BITS: f64 = 2.0;
/// Rows of a matrix that are quantized at least; errors of rows are independent of each other.
const ROWS: usize = 128;

/// Squared error of the block's output when one matrix of an expert is quantized, by matrix.
pub(crate) type MatrixLosses = [f64; names::EXPERT.len()];

impl<B: PackedOps> Measuring<'_, B> {
    /// Quantizes a part of the rows of each matrix of `expert` as they will be, and takes the expert's
    /// tokens through each of the results.
    pub(super) fn matrix_losses(
        &self,
        l: usize,
        e: usize,
        expert: &Expert<B>,
        routed: &Routed,
    ) -> Result<MatrixLosses, MixtralError> {
        let name = |part: usize| weight(&names::expert(l, e, names::EXPERT[part]));
        let config = self.source.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let mut outer = Hessian::new(hidden);
        for x in routed.inputs[e].read()? {
            outer.add(&x?).map_err(|source| MixtralError::quantize(&name(0), source))?;
        }
        let (w1, w3) =
            (Rows::read(self, &name(0), inner, hidden)?, Rows::read(self, &name(2), inner, hidden)?);
        let [w1, w3] = Rows::quantize([w1, w3], &outer).map_err(|s| MixtralError::quantize(&name(0), s))?;
        drop(outer);
        let mut within = Hessian::new(inner);
        let pass = |inputs, _: &Weights<B>| to_host(gated(&expert.w1, &expert.w3, inputs));
        routed.each(e, &routed.inputs[e], &self.stream, pass, |x| {
            within.add(&x.unwrap_or_default()).map_err(|source| MixtralError::quantize(&name(1), source))
        })?;
        let w2 = Rows::read(self, &name(1), hidden, inner)?;
        let [w2] = Rows::quantize([w2], &within).map_err(|s| MixtralError::quantize(&name(1), s))?;
        drop(within);

        let changed = [
            Expert { w1: w1.linear(self.device), ..expert.clone() },
            Expert { w2: w2.linear(self.device), ..expert.clone() },
            Expert { w3: w3.linear(self.device), ..expert.clone() },
        ];
        let shares = [w1.share(), w2.share(), w3.share()];
        let mut losses = [0.0; names::EXPERT.len()];
        let measure = |inputs: Tensor<B, 2>, weights: &Weights<B>| {
            let y = expert.forward(inputs.clone());
            changed.each_ref().map(|changed| {
                let error = to_host(weights.times(y.clone() - changed.forward(inputs.clone())));
                error.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
            })
        };
        routed.each(e, &routed.inputs[e], &self.stream, measure, |measured| {
            let measured = measured.unwrap_or_default().into_iter().zip(shares);
            losses.iter_mut().zip(measured).for_each(|(loss, (measured, share))| *loss += measured / share);
            Ok(())
        })?;
        Ok(losses)
    }
}

/// A matrix of which every so manieth row is quantized.
struct Rows {
    rows: usize,
    cols: usize,
    step: usize,
    values: Vec<f32>,
}

impl Rows {
    fn read<B: PackedOps>(
        measuring: &Measuring<'_, B>,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<Self, MixtralError> {
        let values = measuring.source.checkpoint.read_f32(name, &[rows, cols])?;
        Ok(Self { rows, cols, step: (rows / ROWS).max(1), values })
    }

    /// Quantizes the chosen rows of matrices that read the same inputs.
    fn quantize<const N: usize>(
        mut matrices: [Self; N],
        hessian: &Hessian,
    ) -> Result<[Self; N], mcmoe_quant::QuantError> {
        let options = QuantOptions::trellis(BITS)?;
        let chosen = matrices
            .each_ref()
            .map(|m| m.values.chunks_exact(m.cols).step_by(m.step).flatten().copied().collect::<Vec<f32>>());
        let views =
            matrices.iter().zip(&chosen).map(|(m, rows)| Matrix::new(rows.len() / m.cols, m.cols, rows));
        let quantized = quantize_all(&views.collect::<Result<Vec<_>, _>>()?, Some(hessian), &options)?;
        for (matrix, quantized) in matrices.iter_mut().zip(quantized) {
            let weights = quantized.packed.dequantize();
            let rows = matrix.values.chunks_exact_mut(matrix.cols).step_by(matrix.step);
            rows.zip(weights.chunks_exact(matrix.cols))
                .for_each(|(row, weights)| row.copy_from_slice(weights));
        }
        Ok(matrices)
    }

    /// The part of all rows that is quantized.
    fn share(&self) -> f64 {
        self.rows.div_ceil(self.step) as f64 / self.rows as f64
    }

    fn linear<B: PackedOps>(&self, device: &B::Device) -> Linear<B> {
        Linear::dense(self.values.clone(), self.rows, self.cols, device)
    }
}
