//! One decoder layer: collect Hessians, quantize, move the stream on.
//!
//! Matrices are quantized in the order in which they are computed, each on inputs that the quantized
//! ones before it produce: q, k and v, then o, then each expert's w1 and w3, then its w2.

use burn::tensor::Tensor;
use mcmoe_quant::{Hessian, Matrix, PackedMatrix, quantize_all};
use mcmoe_tensor_kernels::{PackedOps, packed_weights};
use rayon::prelude::*;

use super::clock::{Clock, Part, flops};
use super::moment::Moment;
use super::{CompressOptions, MatrixReport, plan};
use crate::calibrate::{ActivationFile, Advanced, Routed, Stream, Weights};
use crate::folder::{MatrixInfo, MatrixKind};
use crate::model::{
    DecoderLayer, Expert, LayerWidths, Linear, MoeBlock, Packing, WeightSource, gated, to_host, weight,
};
use crate::{MixtralError, Progress};

/// A layer to be quantized.
#[derive(Clone, Copy)]
pub(super) struct LayerTask<'a, B: PackedOps> {
    pub(super) source: WeightSource<'a>,
    pub(super) l: usize,
    pub(super) widths: &'a LayerWidths,
    pub(super) options: &'a CompressOptions,
    pub(super) device: &'a B::Device,
    pub(super) clock: &'a Clock,
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
        let quantize = |info| {
            let done = self.quantize(&[info], None);
            progress.advance(1);
            Ok(done?.remove(0))
        };
        MatrixInfo::of_layer(self.source.config, self.l).iter().map(quantize).collect()
    }

    /// Quantizes every matrix on the stream's activations and takes the stream through the layer.
    pub(super) fn calibrated(
        &self,
        stream: &mut Stream<'_, B>,
        progress: &dyn Progress,
    ) -> Result<(Vec<Done>, Advanced), MixtralError> {
        let mut layer = self.source.frame::<B>(self.l, self.device)?;
        let (mut done, contexts) = self.attention(&mut layer, stream)?;
        progress.advance(done.len() as u64);
        let routed = self.clock.time(Part::Forward, || stream.route(self.l, &layer, &contexts))?;
        drop((layer, contexts));
        let experts: Vec<usize> = (0..self.source.config.num_local_experts).collect();
        let mut outputs = Vec::with_capacity(experts.len());
        // Each expert is independent of the others: as many side by side as memory allows.
        for experts in experts.chunks(plan::experts_at_once(self.source.config)) {
            let quantize = |&e: &usize| {
                let quantized = self.expert(e, &routed, stream)?;
                progress.advance(quantized.0.len() as u64);
                Ok(quantized)
            };
            let quantized = experts.par_iter().map(quantize).collect::<Result<Vec<_>, MixtralError>>()?;
            for (matrices, output) in quantized {
                done.extend(matrices);
                outputs.push(output);
            }
        }
        let advanced = self.clock.time(Part::Files, || stream.advance(self.l, &routed, &outputs))?;
        Ok((done, advanced))
    }

    /// Quantizes the projections and replaces them in `layer`; leaves the inputs of the last one.
    fn attention(
        &self,
        layer: &mut DecoderLayer<B>,
        stream: &Stream<'_, B>,
    ) -> Result<(Vec<Done>, ActivationFile), MixtralError> {
        let infos = MatrixInfo::of_layer(self.source.config, self.l);
        let infos: Vec<&MatrixInfo> =
            infos.iter().filter(|info| info.kind == MatrixKind::Attention).collect();
        let mut hessian = Moment::new(infos[0].cols, self.device);
        let clock = self.clock.forward(0.0);
        stream.each(
            |hidden| layer.input_norm.forward(hidden),
            |_, x| clock.apart(|| self.observe(&mut hessian, &x, infos[0])),
        )?;
        drop(clock);
        let hessian = self.hessian(hessian, infos[0])?;
        let mut done = self.quantize(&infos[..3], Some(&hessian))?;
        let attention = &mut layer.attention;
        let targets = [&mut attention.q_proj, &mut attention.k_proj, &mut attention.v_proj];
        for (target, done) in targets.into_iter().zip(&done) {
            *target = self.dequantized(&done.packed);
        }

        let mut hessian = Moment::new(infos[3].cols, self.device);
        let clock =
            self.clock.forward(self.source.config.attention_flops(stream.len()) * stream.tokens() as f64);
        let contexts = stream
            .contexts(layer, |context| clock.apart(|| self.observe(&mut hessian, context, infos[3])))?;
        drop(clock);
        let hessian = self.hessian(hessian, infos[3])?;
        done.extend(self.quantize(&infos[3..], Some(&hessian))?);
        layer.attention.o_proj = self.dequantized(&done[3].packed);
        Ok((done, contexts))
    }

    /// Quantizes expert `e`; returns its matrices and its weighted outputs.
    fn expert(
        &self,
        e: usize,
        routed: &Routed,
        stream: &Stream<'_, B>,
    ) -> Result<(Vec<Done>, ActivationFile), MixtralError> {
        let infos = MatrixInfo::of_layer(self.source.config, self.l);
        let infos: Vec<&MatrixInfo> =
            infos.iter().filter(|info| matches!(info.kind, MatrixKind::Expert(of, _) if of == e)).collect();
        let [w1, w2, w3] = infos[..] else { unreachable!("an expert has three matrices") };
        let inputs = &routed.inputs[e];
        let products = |matrices: f64| matrices * flops::product(w1, inputs.total_rows());

        let mut hessian = Moment::new(w1.cols, self.device);
        for x in inputs.read()? {
            self.observe(&mut hessian, &x?, w1)?;
        }
        let hessian = self.hessian(hessian, w1)?;
        let first_and_third = self.quantize(&[w1, w3], Some(&hessian))?;
        drop(hessian);
        let [gate, up] = [0, 1].map(|i: usize| self.dequantized(&first_and_third[i].packed));

        let mut hessian = Moment::new(w2.cols, self.device);
        let mut hidden = stream.scratch(&format!("gated-{e:03}"), w2.cols)?;
        let clock = self.clock.forward(products(2.0));
        let pass = |inputs, _: &Weights<B>| to_host(gated(&gate, &up, inputs));
        routed.each(e, inputs, stream, pass, |x| {
            let x = x.unwrap_or_default();
            clock.apart(|| self.observe(&mut hessian, &x, w2))?;
            hidden.push(x)
        })?;
        drop(clock);
        drop((gate, up));
        let (hidden, _) = hidden.finish()?;
        let hessian = self.hessian(hessian, w2)?;
        let second = self.quantize(&[w2], Some(&hessian))?;
        drop(hessian);

        let down = self.dequantized(&second[0].packed);
        let mut outputs = stream.scratch(&format!("outputs-{e:03}"), w2.rows)?;
        let clock = self.clock.forward(products(1.0));
        let pass = |hidden: Tensor<B, 2>, weights: &Weights<B>| to_host(weights.times(down.forward(hidden)));
        routed.each(e, &hidden, stream, pass, |y| outputs.push(y.unwrap_or_default()))?;
        drop(clock);
        let [first, third] = first_and_third.try_into().ok().expect("two matrices were quantized");
        let second = second.into_iter();
        Ok((std::iter::once(first).chain(second).chain([third]).collect(), outputs.finish()?.0))
    }

    fn hessian(&self, moment: Moment<B>, info: &MatrixInfo) -> Result<Hessian, MixtralError> {
        let hessian = self.clock.time(Part::Hessians, || moment.finish());
        hessian.map_err(|source| MixtralError::quantize(&weight(&info.name), source))
    }

    fn observe(&self, hessian: &mut Moment<B>, x: &[f32], info: &MatrixInfo) -> Result<(), MixtralError> {
        let work = flops::hessian(info.cols, x.len() / info.cols);
        let added = self.clock.work(Part::Hessians, work, || hessian.add(x));
        added.map_err(|source| MixtralError::quantize(&weight(&info.name), source))
    }

    /// Quantizes matrices that read the same inputs.
    fn quantize(&self, infos: &[&MatrixInfo], hessian: Option<&Hessian>) -> Result<Vec<Done>, MixtralError> {
        let mut done = Vec::with_capacity(infos.len());
        // Those that are packed alike share the work on the Hessian.
        let packing = |info: &&MatrixInfo| info.packing(self.widths);
        for infos in infos.chunk_by(|a, b| packing(a) == packing(b)) {
            done.extend(self.quantize_alike(infos, packing(&infos[0]), hessian)?);
        }
        Ok(done)
    }

    fn quantize_alike(
        &self,
        infos: &[&MatrixInfo],
        packing: Packing,
        hessian: Option<&Hessian>,
    ) -> Result<Vec<Done>, MixtralError> {
        let name = |info: &MatrixInfo| weight(&info.name);
        let read = |info: &&MatrixInfo| self.source.checkpoint.read_f32(&name(info), &[info.rows, info.cols]);
        let values =
            self.clock.time(Part::Files, || infos.iter().map(read).collect::<Result<Vec<_>, _>>())?;
        let mut matrices = Vec::with_capacity(infos.len());
        for (info, values) in infos.iter().zip(&values) {
            let matrix = Matrix::new(info.rows, info.cols, values);
            matrices.push(matrix.map_err(|source| MixtralError::quantize(&name(info), source))?);
        }
        let options = self.options.quant(packing);
        let work = hessian.map_or(0.0, |_| flops::rounding(infos));
        let quantized = self.clock.work(Part::Rounding, work, || quantize_all(&matrices, hessian, &options));
        let quantized = quantized.map_err(|source| MixtralError::quantize(&name(infos[0]), source))?;
        let done = |(info, quantized): (&&MatrixInfo, mcmoe_quant::Quantized)| {
            let (name, bits) = (info.name.clone(), packing.coding.bits());
            let tokens = hessian.map(Hessian::tokens);
            let report = MatrixReport { name: name.clone(), bits, tokens, errors: quantized.report };
            Done { name, packed: quantized.packed, report }
        };
        Ok(infos.iter().zip(quantized).map(done).collect())
    }

    /// The quantized layer, its matrices in the order of [`MatrixInfo::of_layer`].
    pub(super) fn dense(&self, done: &[Done]) -> Result<DecoderLayer<B>, MixtralError> {
        let mut layer = self.source.frame::<B>(self.l, self.device)?;
        let mut matrices = done.iter().map(|done| self.dequantized(&done.packed));
        let mut next = || matrices.next().expect("every matrix is done");
        let attention = &mut layer.attention;
        for projection in
            [&mut attention.q_proj, &mut attention.k_proj, &mut attention.v_proj, &mut attention.o_proj]
        {
            *projection = next();
        }
        let experts = 0..self.source.config.num_local_experts;
        let experts = experts.map(|_| Expert { w1: next(), w2: next(), w3: next() }).collect();
        layer.moe = MoeBlock::new(layer.moe.router, experts, self.device);
        Ok(layer)
    }

    /// The matrix as the model will compute with it, dense because many tokens are about to pass.
    fn dequantized(&self, packed: &PackedMatrix) -> Linear<B> {
        let packed = B::packed_from(packed.clone(), self.source.precision, self.device);
        Linear::Dense(packed_weights::<B>(&packed, self.device))
    }
}
