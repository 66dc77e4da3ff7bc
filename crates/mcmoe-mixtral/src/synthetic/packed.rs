//! A compressed model of random codes, made in memory.

use mcmoe_allocator::zoo;
use mcmoe_quant::{BitWidth, DenseMatrix, DenseType, PackedMatrix, PackedShape, Precision};
use mcmoe_tensor_kernels::PackedOps;
use rayon::prelude::*;

use crate::folder::MatrixInfo;
use crate::model::{
    Attention, DecoderLayer, Expert, LayerWidths, Linear, Mixtral, MoeBlock, Packing, Places, RmsNorm, Rope,
    Router, check_kernels, from_host,
};
use crate::random::Xorshift;
use crate::{MixtralConfig, MixtralError};

/// A compressed model of random codes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Synthetic {
    /// Dimensions.
    pub config: MixtralConfig,
    /// Average code bits over experts.
    pub expert_bits: f64,
    /// Bits of the attention projections.
    pub attention_bits: u8,
    /// Weights that share a scale and a zero point.
    pub group_size: usize,
    /// How activations enter packed layers.
    pub precision: Precision,
}

impl Synthetic {
    /// The shape of `config` at 2 bits an expert, 4 bits for attention, in groups of 128.
    pub fn new(config: MixtralConfig) -> Self {
        Self { config, expert_bits: 2.0, attention_bits: 4, group_size: 128, precision: Precision::default() }
    }

    /// Keeps the first `layers` layers.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        let layers = layers.min(self.config.num_hidden_layers);
        self.config = self.config.with_layers(layers);
        self
    }

    /// Sets the average code bits over experts.
    #[must_use]
    pub const fn expert_bits(mut self, bits: f64) -> Self {
        self.expert_bits = bits;
        self
    }

    /// Sets how activations enter packed layers.
    #[must_use]
    pub const fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The widths of each layer: those that the precision zoo gives the experts of Mixtral 8x7B where it
    /// has this average, else some experts wider than others by one bit.
    ///
    /// # Errors
    /// [`MixtralError::Option`] for an average below 1 or above 4, or widths that cannot be packed.
    pub fn widths(&self) -> Result<Vec<LayerWidths>, MixtralError> {
        let (layers, experts) = (self.config.num_hidden_layers, self.config.num_local_experts);
        let total = (self.expert_bits * experts as f64).round();
        if !(total >= experts as f64 && total <= 4.0 * experts as f64) {
            let reason = format!("{} bits a weight; experts are measured at 1 to 4", self.expert_bits);
            return Err(MixtralError::option("--expert-bits", reason));
        }
        let total = total as usize;
        let even = || (0..experts).map(|e| ((total + experts - 1 - e) / experts) as u8).collect();
        let published = zoo::mixtral_8x7b(total as u32).map(|allocation| allocation.bits).unwrap_or_default();
        let of_layer = |l: usize| {
            let bits: Vec<u8> = match published.get(l).filter(|bits| bits.len() == experts) {
                Some(bits) => bits.clone(),
                None => even(),
            };
            let packing = |bits| {
                let coding = BitWidth::new(bits).map_err(|e| MixtralError::shape("--expert-bits", &e))?;
                Ok::<_, MixtralError>(Packing { coding: coding.into(), group_size: self.group_size })
            };
            let experts =
                bits.into_iter().map(|bits| Ok([packing(bits)?; 3])).collect::<Result<_, MixtralError>>()?;
            Ok(LayerWidths { attention: packing(self.attention_bits)?, experts })
        };
        (0..layers).map(of_layer).collect()
    }

    /// The model, its weights in memory, its layers spread over `devices` in order.
    ///
    /// # Errors
    /// Those of [`Synthetic::widths`].
    ///
    /// # Panics
    /// If there is no device.
    pub fn model_on<B: PackedOps>(&self, devices: &[B::Device]) -> Result<Mixtral<B>, MixtralError> {
        check_kernels()?;
        let config = &self.config;
        let widths = self.widths()?;
        let places = Places::<B>::spread(devices, widths.len());
        let layers = widths.iter().zip(&places.layers).enumerate();
        let layers = layers.map(|(l, (widths, device))| self.layer(l, widths, device));
        let layers = layers.collect::<Result<_, _>>()?;
        let table = |exponent, seed, device| B::dense_from(random_table(config, exponent, seed), device);
        // Logits of unit size: a row of the head is as long as 1 / √hidden makes it.
        let head = (config.hidden_size as f32).sqrt().log2() as u16;
        Ok(Mixtral {
            config: config.clone(),
            embed_tokens: table(0, 1, &places.first),
            layers,
            norm: ones(config, &places.last),
            lm_head: Linear::Stored(table(head, 2, &places.last)),
            rope: Rope::new(config.head_dim, config.rope_theta),
            pruning: None,
            places,
        })
    }

    fn layer<B: PackedOps>(
        &self,
        l: usize,
        widths: &LayerWidths,
        device: &B::Device,
    ) -> Result<DecoderLayer<B>, MixtralError> {
        let config = &self.config;
        let packed = |(i, info): (usize, MatrixInfo)| {
            let shape = info.shape(widths).map_err(|e| MixtralError::shape("--expert-bits", &e))?;
            let matrix = PackedMatrix::synthetic(shape, (l << 16 | i) as u64);
            Ok(Linear::packed(matrix, self.precision, device))
        };
        let infos = MatrixInfo::of_layer(config, l).into_iter().enumerate();
        let mut matrices = infos.map(packed).collect::<Result<Vec<Linear<B>>, MixtralError>>()?.into_iter();
        let mut next = || matrices.next().expect("a layer's matrices are complete");
        let attention = Attention::new([next(), next(), next(), next()], config);
        let experts = (0..config.num_local_experts).map(|_| Expert { w1: next(), w2: next(), w3: next() });
        let experts = experts.collect();
        let gate = gate(config, l as u64, device);
        Ok(DecoderLayer {
            input_norm: ones(config, device),
            attention,
            post_attention_norm: ones(config, device),
            moe: MoeBlock::new(Router { gate, top_k: config.num_experts_per_tok }, experts, device),
        })
    }
}

fn ones<B: PackedOps>(config: &MixtralConfig, device: &B::Device) -> RmsNorm<B> {
    RmsNorm::new(from_host(vec![1.0; config.hidden_size], [config.hidden_size], device), config.rms_norm_eps)
}

/// A gate of random weights, taken from a packed matrix of 8 bits.
fn gate<B: PackedOps>(config: &MixtralConfig, seed: u64, device: &B::Device) -> Linear<B> {
    let (rows, cols) = (config.num_local_experts, config.hidden_size);
    let shape = PackedShape::new(rows, cols, BitWidth::B8, 128).expect("a gate's shape");
    Linear::dense(PackedMatrix::synthetic(shape, !seed).dequantize(), rows, cols, device)
}

/// A BF16 matrix `[vocab, hidden]` of numbers between half of `2^-exponent` and it, of either sign.
fn random_table(config: &MixtralConfig, exponent: u16, seed: u64) -> DenseMatrix {
    let (rows, cols) = (config.vocab_size, config.hidden_size);
    let mut bytes = vec![0; 2 * rows * cols];
    bytes.par_chunks_exact_mut(2 * cols).enumerate().for_each(|(row, bytes)| {
        let mut random = Xorshift::new(seed << 32 | row as u64);
        for bytes in bytes.chunks_exact_mut(2) {
            // Sign and mantissa are random.
            let bits = random.next() as u16 & 0x807F | (126 - exponent) << 7;
            bytes.copy_from_slice(&bits.to_le_bytes());
        }
    });
    DenseMatrix::new(rows, cols, DenseType::Bf16, bytes.into()).expect("as many bytes as the shape needs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuBackend;
    use crate::model::to_host;
    use crate::synthetic::Shape;

    /// Two layers of a model small enough for a test.
    fn small() -> Synthetic {
        let mut config = Shape::Mixtral8x7b.config();
        (config.hidden_size, config.intermediate_size, config.vocab_size) = (64, 96, 50);
        (config.num_attention_heads, config.num_key_value_heads, config.head_dim) = (4, 2, 16);
        Synthetic::new(config).layers(2)
    }

    #[test]
    fn widths_keep_the_average() {
        for bits in [1.0, 1.5, 2.0, 2.5, 3.25] {
            let synthetic = Synthetic::new(Shape::Mixtral8x7b.config()).expert_bits(bits);
            let widths = synthetic.widths().unwrap();
            assert_eq!(widths.len(), 32);
            for layer in widths {
                let total: f64 = layer.experts.iter().map(|packings| packings[0].coding.bits()).sum();
                assert_eq!(total, 8.0 * bits);
            }
        }
        for bits in [0.5, 9.0, f64::NAN] {
            assert!(small().expert_bits(bits).widths().is_err());
        }
    }

    #[test]
    fn logits_are_of_unit_size() {
        let model = small().model_on::<CpuBackend>(&[Default::default()]).unwrap();
        let tokens: Vec<u32> = (0..40).collect();
        let mut cache = model.new_cache();
        let logits = to_host(model.forward(&[&tokens], &mut cache).unwrap());
        let square = logits.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / logits.len() as f64;
        assert!((0.1..10.0).contains(&square), "{square}");
        assert_eq!(model.take_activations(&mut cache).total, 2 * 2 * 40);
    }
}
