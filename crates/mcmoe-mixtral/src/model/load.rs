//! From tensors on disk to layers, dense or packed.

use mcmoe_quant::{Backend, Coding, KernelError, PackedShape, Precision, store};
use mcmoe_tensor_kernels::PackedOps;

use super::{
    Attention, DecoderLayer, Expert, Linear, Mixtral, MoeBlock, Places, RmsNorm, Rope, Router, from_host,
};
use crate::checkpoint::Checkpoint;
use crate::{MixtralConfig, MixtralError};

/// Names of a Mixtral's tensors, without `.weight`.
pub mod names {
    /// The embedding, `[vocab, hidden]`.
    pub const EMBED: &str = "model.embed_tokens";
    /// The final norm, `[hidden]`.
    pub const NORM: &str = "model.norm";
    /// The head, `[vocab, hidden]`.
    pub const HEAD: &str = "lm_head";
    /// The projections of attention, in the order of [`crate::model::Attention`].
    pub const ATTENTION: [&str; 4] = ["q_proj", "k_proj", "v_proj", "o_proj"];
    /// The matrices of an expert.
    pub const EXPERT: [&str; 3] = ["w1", "w2", "w3"];

    /// `model.layers.{layer}.{part}`.
    pub fn layer(layer: usize, part: &str) -> String {
        format!("model.layers.{layer}.{part}")
    }

    /// An attention projection.
    pub fn attention(l: usize, projection: &str) -> String {
        layer(l, &format!("self_attn.{projection}"))
    }

    /// An expert's matrix.
    pub fn expert(l: usize, expert: usize, matrix: &str) -> String {
        layer(l, &format!("block_sparse_moe.experts.{expert}.{matrix}"))
    }

    /// The norm before attention.
    pub fn input_norm(l: usize) -> String {
        layer(l, "input_layernorm")
    }

    /// The norm before the experts.
    pub fn post_attention_norm(l: usize) -> String {
        layer(l, "post_attention_layernorm")
    }

    /// The router's gate.
    pub fn gate(l: usize) -> String {
        layer(l, "block_sparse_moe.gate")
    }
}

/// How a matrix is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packing {
    /// What its codes mean.
    pub coding: Coding,
    /// Weights that share a scale.
    pub group_size: usize,
}

impl Packing {
    /// The packed shape of a matrix.
    ///
    /// # Errors
    /// Those of [`PackedShape::new`].
    pub fn shape(self, rows: usize, cols: usize) -> Result<PackedShape, KernelError> {
        PackedShape::new(rows, cols, self.coding, self.group_size)
    }
}

/// How the packed matrices of one layer are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerWidths {
    /// The attention projections.
    pub attention: Packing,
    /// `w1`, `w2` and `w3` of each expert.
    pub experts: Vec<[Packing; 3]>,
}

/// Where weights come from: a checkpoint, and the widths if it is a packed one.
#[derive(Clone, Copy, Debug)]
pub struct WeightSource<'a> {
    /// The files.
    pub checkpoint: &'a Checkpoint,
    /// The dimensions that every tensor is checked against.
    pub config: &'a MixtralConfig,
    /// One entry a layer for packed folders, `None` for dense ones.
    pub widths: Option<&'a [LayerWidths]>,
    /// How activations enter packed layers.
    pub precision: Precision,
}

impl WeightSource<'_> {
    /// Loads the whole model.
    ///
    /// # Errors
    /// Those of [`Checkpoint::read_f32`] and, for packed layers, [`MixtralError::Packed`].
    pub fn model<B: PackedOps>(&self, device: &B::Device) -> Result<Mixtral<B>, MixtralError> {
        self.model_on(std::slice::from_ref(device))
    }

    /// Loads the whole model, its layers spread over `devices` in order.
    ///
    /// # Errors
    /// As [`WeightSource::model`].
    ///
    /// # Panics
    /// If there is no device.
    pub fn model_on<B: PackedOps>(&self, devices: &[B::Device]) -> Result<Mixtral<B>, MixtralError> {
        let places = Places::<B>::spread(devices, self.config.num_hidden_layers);
        let layers = places.layers.iter().enumerate().map(|(l, device)| self.layer(l, device));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Mixtral { layers, ..self.ends(places)? })
    }

    /// The model without its layers: what comes before them and after them.
    pub(crate) fn ends<B: PackedOps>(&self, places: Places<B>) -> Result<Mixtral<B>, MixtralError> {
        check_kernels()?;
        let config = self.config;
        let embed_tokens = self.embedding::<B>(&places.first)?;
        let lm_head = match (config.tie_word_embeddings, places.first == places.last) {
            (true, true) => embed_tokens.clone(),
            (true, false) => self.embedding::<B>(&places.last)?,
            (false, _) => self.table::<B>(names::HEAD, &places.last)?,
        };
        Ok(Mixtral {
            config: config.clone(),
            embed_tokens,
            layers: vec![],
            norm: self.norm(names::NORM, &places.last)?,
            lm_head: Linear::Stored(lm_head),
            rope: self.rope(),
            pruning: None,
            places,
        })
    }

    /// Loads the embedding, `[vocab, hidden]`.
    pub(crate) fn embedding<B: PackedOps>(&self, device: &B::Device) -> Result<B::Dense, MixtralError> {
        self.table::<B>(names::EMBED, device)
    }

    /// A matrix `[vocab, hidden]`, left where it is mapped.
    fn table<B: PackedOps>(&self, name: &str, device: &B::Device) -> Result<B::Dense, MixtralError> {
        let shape = [self.config.vocab_size, self.config.hidden_size];
        Ok(B::dense_from(self.checkpoint.matrix(&weight(name), shape)?, device))
    }

    /// The rotary embedding of the config.
    pub(crate) fn rope<B: burn::tensor::backend::Backend>(&self) -> Rope<B> {
        Rope::new(self.config.head_dim, self.config.rope_theta)
    }

    /// Loads layer `l`.
    ///
    /// # Errors
    /// As [`WeightSource::model`]; [`MixtralError::Option`] if there is no such layer.
    pub fn layer<B: PackedOps>(&self, l: usize, device: &B::Device) -> Result<DecoderLayer<B>, MixtralError> {
        let mut layer = self.frame::<B>(l, device)?;
        let experts = (0..self.config.num_local_experts).map(|e| self.expert(l, e, device));
        layer.moe = MoeBlock::new(layer.moe.router, experts.collect::<Result<_, _>>()?, device);
        Ok(layer)
    }

    /// Loads layer `l` without its experts.
    pub(crate) fn frame<B: PackedOps>(
        &self,
        l: usize,
        device: &B::Device,
    ) -> Result<DecoderLayer<B>, MixtralError> {
        let config = self.config;
        config.check_layer(l)?;
        let [q, k, v, o] = names::ATTENTION;
        let attention = |projection, rows, cols| {
            let packing = self.widths.map(|widths| widths[l].attention);
            self.linear(&names::attention(l, projection), rows, cols, packing, device)
        };
        let (hidden, query, key_value) = (config.hidden_size, config.query_size(), config.key_value_size());
        let projections = [
            attention(q, query, hidden)?,
            attention(k, key_value, hidden)?,
            attention(v, key_value, hidden)?,
            attention(o, hidden, query)?,
        ];
        let gate = self.dense(&names::gate(l), config.num_local_experts, hidden, device)?;
        Ok(DecoderLayer {
            input_norm: self.norm(&names::input_norm(l), device)?,
            attention: Attention::new(projections, config),
            post_attention_norm: self.norm(&names::post_attention_norm(l), device)?,
            moe: MoeBlock::new(Router { gate, top_k: config.num_experts_per_tok }, vec![], device),
        })
    }

    /// Loads expert `e` of layer `l`.
    pub(crate) fn expert<B: PackedOps>(
        &self,
        l: usize,
        e: usize,
        device: &B::Device,
    ) -> Result<Expert<B>, MixtralError> {
        let (hidden, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let matrix = |part: usize, rows, cols| {
            let packing = self.widths.map(|widths| widths[l].experts[e][part]);
            self.linear(&names::expert(l, e, names::EXPERT[part]), rows, cols, packing, device)
        };
        Ok(Expert {
            w1: matrix(0, inner, hidden)?,
            w2: matrix(1, hidden, inner)?,
            w3: matrix(2, inner, hidden)?,
        })
    }

    fn linear<B: PackedOps>(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        packed: Option<Packing>,
        device: &B::Device,
    ) -> Result<Linear<B>, MixtralError> {
        let Some(packing) = packed else {
            return self.dense(name, rows, cols, device);
        };
        let describe = |source| MixtralError::Packed { path: self.checkpoint.dir().to_owned(), source };
        let shape = packing.shape(rows, cols).map_err(|e| describe(e.into()))?;
        let find = |name: &str| self.checkpoint.stored(name);
        let matrix = store::from_tensor(name, shape, find).map_err(describe)?;
        Ok(Linear::packed(matrix, self.precision, device))
    }

    fn dense<B: PackedOps>(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
        device: &B::Device,
    ) -> Result<Linear<B>, MixtralError> {
        let values = self.checkpoint.read_f32(&weight(name), &[rows, cols])?;
        Ok(Linear::dense(values, rows, cols, device))
    }

    fn norm<B: PackedOps>(&self, name: &str, device: &B::Device) -> Result<RmsNorm<B>, MixtralError> {
        let values = self.checkpoint.read_f32(&weight(name), &[self.config.hidden_size])?;
        let values = from_host(values, [self.config.hidden_size], device);
        Ok(RmsNorm::new(values, self.config.rms_norm_eps))
    }
}

/// Makes sure that the kernels which the environment asks for are there: products cannot say so later.
///
/// # Errors
/// [`MixtralError::Option`] if they are not.
pub(crate) fn check_kernels() -> Result<(), MixtralError> {
    match Backend::current() {
        Ok(_) => Ok(()),
        Err(error) => Err(MixtralError::option(Backend::VARIABLE, error.to_string())),
    }
}

/// A dense tensor's full name.
pub(crate) fn weight(name: &str) -> String {
    format!("{name}.weight")
}
