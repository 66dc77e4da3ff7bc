//! The model's dimensions, from `config.json`.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{MixtralError, json};

/// Dimensions and constants of a Mixtral, as Hugging Face's `config.json` gives them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MixtralConfig {
    /// Width of the residual stream, d.
    pub hidden_size: usize,
    /// Width inside an expert, i.
    pub intermediate_size: usize,
    /// Number of decoder layers, L.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, each shared by a group of query heads.
    pub num_key_value_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Experts of a block, E.
    pub num_local_experts: usize,
    /// Experts that a token is routed to, k.
    pub num_experts_per_tok: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Added to the mean square in RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding's wavelengths.
    pub rope_theta: f64,
    /// Positions a token can look back, itself included; all of them if absent.
    pub sliding_window: Option<usize>,
    /// Whether `lm_head` is the embedding.
    pub tie_word_embeddings: bool,
    /// Tokens that end a text.
    pub eos_token_ids: Vec<u32>,
    /// The whole file, for fields that only others read.
    pub raw: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    hidden_act: Option<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    num_local_experts: usize,
    num_experts_per_tok: usize,
    vocab_size: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<Value>,
    sliding_window: Option<usize>,
    #[serde(default)]
    tie_word_embeddings: bool,
    eos_token_id: Option<TokenIds>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(u32),
    Many(Vec<u32>),
}

/// Mixtral's own default, for files that leave it out.
const DEFAULT_ROPE_THETA: f64 = 1e6;

/// Experts of all layers together.
const MAX_EXPERTS: usize = 1 << 16;

impl MixtralConfig {
    /// Reads and checks `config.json` in `dir`.
    ///
    /// # Errors
    /// [`MixtralError::Read`] or [`MixtralError::Json`] if there is no readable file,
    /// [`MixtralError::Config`] if it is not a Mixtral's or its dimensions contradict each other.
    pub fn read(dir: &Path) -> Result<Self, MixtralError> {
        Self::read_file(&dir.join("config.json"))
    }

    /// Reads and checks the file at `path`, whatever its name.
    ///
    /// # Errors
    /// As [`MixtralConfig::read`].
    pub fn read_file(path: &Path) -> Result<Self, MixtralError> {
        let raw: Map<String, Value> = json::read_settings(path)?;
        Self::from_json(raw).map_err(|reason| MixtralError::config(path, reason))
    }

    pub(crate) fn from_json(raw: Map<String, Value>) -> Result<Self, String> {
        let fields: RawConfig =
            serde_json::from_value(Value::Object(raw.clone())).map_err(|e| e.to_string())?;
        fields.check_kind()?;
        let rope = fields.rope_parameters.as_ref();
        let rope_theta = fields.rope_theta.or(rope.and_then(|rope| rope.rope_theta));
        let heads = fields.num_attention_heads;
        let config = Self {
            hidden_size: fields.hidden_size,
            intermediate_size: fields.intermediate_size,
            num_hidden_layers: fields.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: fields.num_key_value_heads.unwrap_or(heads),
            head_dim: fields.head_dim.unwrap_or(fields.hidden_size / heads.max(1)),
            num_local_experts: fields.num_local_experts,
            num_experts_per_tok: fields.num_experts_per_tok,
            vocab_size: fields.vocab_size,
            rms_norm_eps: fields.rms_norm_eps,
            rope_theta: rope_theta.unwrap_or(DEFAULT_ROPE_THETA),
            sliding_window: fields.sliding_window,
            tie_word_embeddings: fields.tie_word_embeddings,
            eos_token_ids: match fields.eos_token_id {
                Some(TokenIds::One(id)) => vec![id],
                Some(TokenIds::Many(ids)) => ids,
                None => Vec::new(),
            },
            raw,
        };
        config.check_sizes().map(|()| config)
    }

    /// The same model with `layers` decoder layers, in [`MixtralConfig::raw`], too.
    #[must_use]
    pub fn with_layers(mut self, layers: usize) -> Self {
        self.num_hidden_layers = layers;
        self.raw.insert("num_hidden_layers".to_owned(), layers.into());
        self
    }

    /// Width of all query heads together.
    pub const fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub const fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// The longest text the model was made for, in tokens, if the file says.
    pub fn max_position_embeddings(&self) -> Option<usize> {
        let value = self.raw.get("max_position_embeddings")?.as_u64()?;
        usize::try_from(value).ok().filter(|&positions| positions > 0)
    }

    /// Floating-point operations of a token of a sequence of `len` in attention: projections, half of all
    /// scores, their mix.
    pub(crate) fn attention_flops(&self, len: usize) -> f64 {
        let (query, key_value) = (self.query_size() as f64, self.key_value_size() as f64);
        let projections = 4.0 * self.hidden_size as f64 * (query + key_value);
        projections + 2.0 * query * len as f64
    }

    /// Floating-point operations of a token of a sequence of `len` in a layer whose experts are computed in
    /// so many `versions`.
    pub(crate) fn layer_flops(&self, len: usize, versions: usize) -> f64 {
        let experts = self.num_experts_per_tok * versions;
        self.attention_flops(len) + 2.0 * experts as f64 * self.weights_per_expert() as f64
    }

    /// Weights of one expert: `w1`, `w2` and `w3`.
    pub const fn weights_per_expert(&self) -> usize {
        3 * self.hidden_size * self.intermediate_size
    }

    /// The token that begins a text, if the file names one.
    pub fn bos_token_id(&self) -> Option<u32> {
        u32::try_from(self.raw.get("bos_token_id")?.as_u64()?).ok()
    }

    /// Makes sure that there is a layer `l`.
    pub(crate) fn check_layer(&self, l: usize) -> Result<(), MixtralError> {
        let layers = self.num_hidden_layers;
        if l < layers {
            return Ok(());
        }
        Err(MixtralError::option("layer", format!("there is no layer {l}: the model has {layers}")))
    }

    fn check_sizes(&self) -> Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden_size, 1 << 20),
            ("intermediate_size", self.intermediate_size, 1 << 24),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 12),
            ("num_attention_heads", self.num_attention_heads, 1 << 16),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 16),
            ("head_dim", self.head_dim, 1 << 14),
            ("num_local_experts", self.num_local_experts, 1 << 12),
            ("num_experts_per_tok", self.num_experts_per_tok, self.num_local_experts),
            ("vocab_size", self.vocab_size, 1 << 24),
        ];
        if let Some((name, value, most)) = sizes.iter().find(|(_, value, most)| *value == 0 || value > most) {
            return Err(format!("{name} is {value}; it must be between 1 and {most}"));
        }
        let (layers, experts) = (self.num_hidden_layers, self.num_local_experts);
        if layers * experts > MAX_EXPERTS {
            return Err(format!(
                "num_local_experts is {experts} and num_hidden_layers {layers}; there can be {MAX_EXPERTS} \
                 experts in all"
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
            return Err(format!("num_key_value_heads ({groups}) must divide num_attention_heads ({heads})"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("head_dim is {}; rotary embeddings need an even one", self.head_dim));
        }
        if self.sliding_window == Some(0) {
            return Err("sliding_window is 0; leave it out to attend to everything".to_owned());
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(self.rope_theta) || !positive(self.rms_norm_eps) {
            return Err("rope_theta and rms_norm_eps must be positive numbers".to_owned());
        }
        Ok(())
    }
}

impl RawConfig {
    fn check_kind(&self) -> Result<(), String> {
        if let Some(kind) = self.model_type.as_deref().filter(|kind| *kind != "mixtral") {
            return Err(format!("model_type is {kind:?}; only \"mixtral\" can be run"));
        }
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(format!("hidden_act is {act:?}; Mixtral's experts use \"silu\""));
        }
        let rope_type = self.rope_parameters.as_ref().and_then(|rope| rope.rope_type.as_deref());
        let scaled = self.rope_scaling.as_ref().is_some_and(|value| !value.is_null());
        if scaled || rope_type.is_some_and(|kind| kind != "default") {
            return Err("scaled rotary embeddings (rope_scaling, rope_type) are not supported".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(change: impl FnOnce(&mut Map<String, Value>)) -> Result<MixtralConfig, String> {
        let text = r#"{"model_type": "mixtral", "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 100,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "eos_token_id": 2}"#;
        let mut raw = serde_json::from_str(text).unwrap();
        change(&mut raw);
        MixtralConfig::from_json(raw)
    }

    #[test]
    fn both_places_of_rope_theta_are_read() {
        assert_eq!(parse(|_| ()).unwrap().rope_theta, 1e4);
        let nested = parse(|raw| {
            raw.remove("rope_theta");
            raw.insert("rope_parameters".into(), serde_json::json!({"rope_theta": 5e5}));
        });
        assert_eq!(nested.unwrap().rope_theta, 5e5);
    }

    #[test]
    fn lists_of_end_tokens_and_explicit_heads_are_read() {
        let config = parse(|raw| {
            raw.insert("eos_token_id".into(), serde_json::json!([2, 7]));
            raw.insert("head_dim".into(), 32.into());
        });
        let config = config.unwrap();
        assert_eq!((config.eos_token_ids, config.head_dim), (vec![2, 7], 32));
    }

    #[test]
    fn layers_change_in_the_file_too() {
        let config = parse(|_| ()).unwrap().with_layers(5);
        assert_eq!(config.num_hidden_layers, 5);
        assert_eq!(MixtralConfig::from_json(config.raw.clone()), Ok(config));
    }

    #[test]
    fn what_cannot_be_run_is_named() {
        let error = |key: &str, value: Value| parse(|raw| drop(raw.insert(key.into(), value))).unwrap_err();
        assert!(error("model_type", "llama".into()).contains("llama"));
        assert!(error("hidden_act", "gelu".into()).contains("gelu"));
        assert!(error("num_experts_per_tok", 9.into()).contains("num_experts_per_tok"));
        assert!(error("hidden_size", 0.into()).contains("hidden_size"));
        assert!(error("num_key_value_heads", 3.into()).contains("num_key_value_heads"));
        assert!(error("num_local_experts", 4097.into()).contains("4096"));
        let many = parse(|raw| {
            raw.insert("num_hidden_layers".into(), 17.into());
            raw.insert("num_local_experts".into(), 4096.into());
        });
        assert!(many.unwrap_err().contains("num_local_experts is 4096"));
        assert!(error("vocab_size", "many".into()).contains("invalid type"));
        assert!(error("rope_scaling", serde_json::json!({"factor": 2})).contains("rope_scaling"));
        assert!(parse(|raw| drop(raw.remove("hidden_size"))).unwrap_err().contains("hidden_size"));
    }
}
