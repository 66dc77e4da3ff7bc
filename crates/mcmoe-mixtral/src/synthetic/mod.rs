//! Models of the true shape with random weights, to measure speed, time and memory with no download.
//!
//! | what | holds |
//! |---|---|
//! | [`Shape`] | the shapes known by name |
//! | [`Synthetic`] | a compressed model of random codes in memory, to be run |
//! | [`synthesize`] | a dense folder of random weights on disk, to be compressed |

mod checkpoint;
mod packed;
mod tokenizer;
mod weights;

use std::fmt;
use std::str::FromStr;

use serde_json::json;

pub use checkpoint::synthesize;
pub use packed::Synthetic;

use crate::{MixtralConfig, MixtralError};

/// The shapes that are known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// Mixtral 8x7B: 32 layers, 46.7 billion weights, 12.9 of them active.
    Mixtral8x7b,
    /// Mixtral 8x22B: 56 layers, 140.6 billion weights, 39.2 of them active.
    Mixtral8x22b,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 2] = [Self::Mixtral8x7b, Self::Mixtral8x22b];

    /// The model's dimensions, as its `config.json` gives them.
    pub fn config(self) -> MixtralConfig {
        let (hidden, inner, layers, heads, vocab, positions) = match self {
            Self::Mixtral8x7b => (4096, 14336, 32, 32, 32000, 32768),
            Self::Mixtral8x22b => (6144, 16384, 56, 48, 32768, 65536),
        };
        let raw = json!({
            "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
            "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": 8, "num_local_experts": 8,
            "num_experts_per_tok": 2, "vocab_size": vocab, "max_position_embeddings": positions,
            "rms_norm_eps": 1e-5, "rope_theta": 1e6, "sliding_window": null, "tie_word_embeddings": false,
            "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
        });
        let raw = raw.as_object().cloned().unwrap_or_default();
        MixtralConfig::from_json(raw).expect("the dimensions of a published model")
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mixtral8x7b => "mixtral-8x7b",
            Self::Mixtral8x22b => "mixtral-8x22b",
        })
    }
}

impl FromStr for Shape {
    type Err = MixtralError;

    fn from_str(text: &str) -> Result<Self, MixtralError> {
        Self::ALL.into_iter().find(|shape| shape.to_string() == text).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            MixtralError::option("shape", format!("there is no {text:?}; use {}", known.join(" or ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::MatrixInfo;

    #[test]
    fn shapes_are_the_published_ones() {
        let parameters = |shape: Shape| {
            let config = shape.config();
            let matrices: usize = MatrixInfo::of_layer(&config, 0).iter().map(|m| m.rows * m.cols).sum();
            config.num_hidden_layers * matrices + 2 * config.vocab_size * config.hidden_size
        };
        assert_eq!(Shape::ALL.map(|shape| parameters(shape) / 100_000_000), [467, 1406]);
        for shape in Shape::ALL {
            assert_eq!(shape.to_string().parse::<Shape>().unwrap(), shape);
        }
        assert!("mixtral".parse::<Shape>().unwrap_err().to_string().contains("mixtral-8x7b"));
    }
}
