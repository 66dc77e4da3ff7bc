//! `config.json`: broken, of another model, or at odds with the weights.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Workplace, edit_json};

/// Sets `field` in the config of a copy of the demo (`null` removes it) and checks the error.
#[track_caller]
fn refused(field: &str, value: Value, names: &[&str]) {
    let workplace = Workplace::dense();
    edit_json(&workplace.model().join("config.json"), |config| match value {
        Value::Null => drop(config.as_object_mut().unwrap().remove(field)),
        value => config[field] = value,
    });
    workplace.refuses(names);
}

#[test]
fn not_json() {
    for text in ["", "{", "[]", "mixtral", "{\"hidden_size\": 128"] {
        let workplace = Workplace::dense();
        fs::write(workplace.model().join("config.json"), text).unwrap();
        workplace.refuses(&["config.json"]);
    }
}

#[test]
fn missing_and_so_are_folders() {
    let workplace = Workplace::dense();
    fs::remove_file(workplace.model().join("config.json")).unwrap();
    workplace.refuses(&["config.json", "No such file"]);
    Workplace::empty().refuses(&["config.json", "No such file"]);
    let workplace = Workplace::empty();
    fs::write(workplace.model(), "a file").unwrap();
    workplace.refuses(&["config.json", "Not a directory"]);
}

#[test]
fn a_field_is_missing_or_of_another_type() {
    for field in ["hidden_size", "num_local_experts", "vocab_size", "rms_norm_eps"] {
        refused(field, Value::Null, &["config.json", field]);
        refused(field, json!("many"), &["config.json", "invalid type"]);
    }
}

#[test]
fn another_model() {
    refused("model_type", json!("llama"), &["config.json", "model_type", "llama"]);
    refused("hidden_act", json!("gelu"), &["config.json", "hidden_act", "gelu"]);
    refused("rope_scaling", json!({"type": "yarn"}), &["config.json", "rope_scaling"]);
    let gptq = json!({"quant_method": "gptq", "bits": 4});
    refused("quantization_config", gptq, &["config.json", "quant_method", "gptq"]);
}

#[test]
fn numbers_that_cannot_be() {
    for field in ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"] {
        refused(field, json!(0), &["config.json", field]);
        refused(field, json!(1_u64 << 40), &["config.json", field]);
        refused(field, json!(-1), &["config.json", "-1"]);
    }
    refused("num_experts_per_tok", json!(9), &["config.json", "num_experts_per_tok"]);
    refused("num_key_value_heads", json!(3), &["config.json", "num_key_value_heads"]);
    refused("rms_norm_eps", json!(-1.0), &["config.json", "rms_norm_eps"]);
}

#[test]
fn other_sizes_than_the_weights_have() {
    let w1 = "model.layers.0.block_sparse_moe.experts.0.w1.weight";
    let gate = "model.layers.0.block_sparse_moe.gate.weight";
    refused("hidden_size", json!(256), &["model.embed_tokens.weight", "[2048, 128]", "[2048, 256]"]);
    refused("vocab_size", json!(2047), &["model.embed_tokens.weight", "[2047, 128]"]);
    refused("intermediate_size", json!(256), &[w1, "[384, 128]", "[256, 128]"]);
    refused("num_attention_heads", json!(8), &["model.layers.0.self_attn"]);
    refused("num_local_experts", json!(4), &[gate, "[8, 128]", "[4, 128]"]);
    refused("num_local_experts", json!(16), &["model.layers.0.block_sparse_moe.experts.8.w1.weight"]);
    refused("num_hidden_layers", json!(4), &["model.layers.3.self_attn.q_proj.weight", "missing"]);
}
