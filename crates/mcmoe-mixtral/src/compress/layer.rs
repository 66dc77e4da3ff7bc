//! One decoder layer: collect Hessians, quantize, move the stream on.
//!
//! Matrices are quantized in the order in which they are computed, each on inputs that the quantized
//! ones before it produce: q, k and v, then o, then each expert's w1 and w3, then its w2.

use burn::tensor::Tensor;
use mcmoe_quant::{Hessian, Matrix, PackedMatrix, quantize};
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use super::{CompressOptions, MatrixReport};
use crate::calibrate::{Routed, Stream};
use crate::folder::{MatrixInfo, MatrixKind};
use crate::model::{DecoderLayer, LayerWidths, Linear, Picked, WeightSource, gated, to_host, weight};
use crate::{MixtralError, Progress};

/// A layer to be quantized.
#[derive(Clone, Copy)]
pub(super) struct LayerTask<'a, B: PackedOps> {
    pub(super) source: WeightSource<'a>,
    pub(super) l: usize,
    pub(super) widths: &'a LayerWidths,
    pub(super) options: &'a CompressOptions,
    pub(super) device: &'a B::Device,
}

/// A matrix done.
pub(super) struct Done {
    pub(super) name: String,
    pub(super) packed: PackedMatrix,
    pub(super) report: MatrixReport,
}

impl<B: PackedOps> LayerTask<'_, B> {
    /// Quantizes every matrix from its weights alone.
    pub(super) fn data_free(&self, progress: &dyn Progress) -> Result<Vec<Done>, MixtralError> {
        let infos = MatrixInfo::of_layer(self.source.config, self.l);
        let quantize = |info| {
            let done = self.quantize(&info, None);
            progress.advance(1);
            done
        };
        infos.into_iter().map(quantize).collect()
    }

    /// Quantizes every matrix on the stream's activations and takes the stream through the layer.
    pub(super) fn calibrated(
        &self,
        stream: &mut Stream<B>,
        progress: &dyn Progress,
    ) -> Result<Vec<Done>, MixtralError> {
        let mut layer = self.source.layer::<B>(self.l, self.device)?;
        let mut done = self.attention(&mut layer, stream)?;
        progress.advance(done.len() as u64);
        let routed = stream.route(self.l, &layer)?;
        // Experts side by side; each is independent of the others, so the order is of no account.
        let experts: Vec<(Vec<Done>, Outputs<B>)> = (0..layer.moe.experts.len())
            .into_par_iter()
            .map(|e| {
                let quantized = self.expert(e, &routed)?;
                progress.advance(quantized.0.len() as u64);
                Ok(quantized)
            })
            .collect::<Result<_, MixtralError>>()?;
        for (matrices, outputs) in experts {
            done.extend(matrices);
            for (hidden, output) in stream.hidden.iter_mut().zip(outputs) {
                if let Some((picked, y)) = output {
                    *hidden = picked.add_to(hidden.clone(), y);
                }
            }
        }
        Ok(done)
    }

    /// Quantizes the projections, replaces them in `layer` and adds attention to the stream.
    fn attention(
        &self,
        layer: &mut DecoderLayer<B>,
        stream: &mut Stream<B>,
    ) -> Result<Vec<Done>, MixtralError> {
        let infos = MatrixInfo::of_layer(self.source.config, self.l);
        let infos: Vec<_> = infos.into_iter().filter(|info| info.kind == MatrixKind::Attention).collect();
        let mut hessian = Hessian::new(infos[0].cols);
        for hidden in &stream.hidden {
            self.observe(&mut hessian, layer.input_norm.forward(hidden.clone()), &infos[0].name)?;
        }
        let mut done = self.quantize_all(&infos[..3], &hessian)?;
        let attention = &mut layer.attention;
        let targets = [&mut attention.q_proj, &mut attention.k_proj, &mut attention.v_proj];
        for (target, done) in targets.into_iter().zip(&done) {
            *target = self.dequantized(&done.packed);
        }

        let contexts = stream.contexts(layer);
        let mut hessian = Hessian::new(infos[3].cols);
        for context in &contexts {
            self.observe(&mut hessian, context.clone(), &infos[3].name)?;
        }
        done.push(self.quantize(&infos[3], Some(&hessian))?);
        layer.attention.o_proj = self.dequantized(&done[3].packed);
        stream.add_attention(layer, contexts);
        Ok(done)
    }

    /// Quantizes expert `e`; returns its matrices and its outputs for the samples.
    fn expert(&self, e: usize, routed: &[Routed<B>]) -> Result<(Vec<Done>, Outputs<B>), MixtralError> {
        let infos = MatrixInfo::of_layer(self.source.config, self.l);
        let infos: Vec<_> = infos.into_iter().filter(|info| info.kind == MatrixKind::Expert(e)).collect();
        let [w1, w2, w3] = &infos[..] else { unreachable!("an expert has three matrices") };
        let picked: Vec<Option<Picked<B>>> = routed.iter().map(|routed| routed.pick(e)).collect();

        let mut hessian = Hessian::new(w1.cols);
        for picked in picked.iter().flatten() {
            self.observe(&mut hessian, picked.inputs.clone(), &w1.name)?;
        }
        let first = self.quantize(w1, Some(&hessian))?;
        let third = self.quantize(w3, Some(&hessian))?;
        drop(hessian);
        let (gate, up) = (self.dequantized(&first.packed), self.dequantized(&third.packed));
        let hidden = |picked: &Picked<B>| gated(&gate, &up, picked.inputs.clone());

        let mut hessian = Hessian::new(w2.cols);
        for picked in picked.iter().flatten() {
            self.observe(&mut hessian, hidden(picked), &w2.name)?;
        }
        let second = self.quantize(w2, Some(&hessian))?;
        drop(hessian);
        let down = self.dequantized(&second.packed);
        let output = |picked: Option<Picked<B>>| {
            picked.map(|picked| {
                let y = down.forward(hidden(&picked));
                (picked, y)
            })
        };
        Ok((vec![first, second, third], picked.into_iter().map(output).collect()))
    }

    fn observe(&self, hessian: &mut Hessian, x: Tensor<B, 2>, name: &str) -> Result<(), MixtralError> {
        hessian.add(&to_host(x)).map_err(|source| MixtralError::quantize(name, source))
    }

    fn quantize_all(&self, infos: &[MatrixInfo], hessian: &Hessian) -> Result<Vec<Done>, MixtralError> {
        infos.iter().map(|info| self.quantize(info, Some(hessian))).collect()
    }

    fn quantize(&self, info: &MatrixInfo, hessian: Option<&Hessian>) -> Result<Done, MixtralError> {
        let name = weight(&info.name);
        let values = self.source.checkpoint.read_f32(&name, &[info.rows, info.cols])?;
        let bits = info.bits(self.widths);
        let options = self.options.quant(bits)?;
        let quantized = Matrix::new(info.rows, info.cols, &values)
            .and_then(|matrix| quantize(matrix, hessian, &options))
            .map_err(|source| MixtralError::quantize(&name, source))?;
        let report = MatrixReport {
            name: info.name.clone(),
            bits: bits.bits(),
            tokens: hessian.map(Hessian::tokens),
            errors: quantized.report,
        };
        Ok(Done { name: info.name.clone(), packed: quantized.packed, report })
    }

    /// The matrix as the model will compute with it, dense because many tokens are about to pass.
    fn dequantized(&self, packed: &PackedMatrix) -> Linear<B> {
        let shape = packed.shape();
        Linear::dense(packed.dequantize(), shape.rows(), shape.cols(), self.device)
    }
}

/// An expert's tokens and outputs, sample by sample.
type Outputs<B> = Vec<Option<(Picked<B>, Tensor<B, 2>)>>;
