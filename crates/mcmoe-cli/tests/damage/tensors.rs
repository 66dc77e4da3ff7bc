//! Single tensors: missing, of the wrong type, with values that are no numbers.

use crate::calibration;
use crate::common::{DEMO, Workplace, ask, edit_header, edit_json, patch, shard_of};

/// One tensor of every kind.
const TENSORS: [&str; 7] = [
    "model.embed_tokens.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.k_proj.weight",
    "model.layers.0.block_sparse_moe.gate.weight",
    "model.layers.0.block_sparse_moe.experts.3.w2.weight",
    "model.norm.weight",
    "lm_head.weight",
];

/// Drops `tensor` from its shard, but not the bytes around it.
fn rename_in_shard(workplace: &Workplace, tensor: &str) {
    edit_header(&shard_of(&workplace.model(), tensor), |header| {
        let description = header.as_object_mut().unwrap().remove(tensor).unwrap();
        header["another.weight"] = description;
    });
}

#[test]
fn missing_from_its_shard() {
    for tensor in TENSORS {
        let workplace = Workplace::dense();
        rename_in_shard(&workplace, tensor);
        let shard = shard_of(&workplace.model(), tensor);
        workplace.refuses(&[tensor, "missing", shard.file_name().unwrap().to_str().unwrap()]);
    }
}

#[test]
fn missing_from_shard_and_index() {
    for tensor in TENSORS {
        let workplace = Workplace::dense();
        rename_in_shard(&workplace, tensor);
        edit_json(&workplace.model().join("model.safetensors.index.json"), |index| {
            index["weight_map"].as_object_mut().unwrap().remove(tensor).unwrap();
        });
        workplace.refuses(&[tensor, "missing"]);
    }
}

#[test]
fn of_a_type_that_is_no_weight() {
    for tensor in TENSORS {
        let workplace = Workplace::dense();
        let shard = shard_of(&workplace.model(), tensor);
        edit_header(&shard, |header| header[tensor]["dtype"] = "I16".into());
        workplace.refuses(&[tensor, "I16", shard.file_name().unwrap().to_str().unwrap()]);
    }
}

#[test]
fn of_a_shape_that_is_turned_round() {
    let tensor = "model.layers.0.block_sparse_moe.experts.3.w2.weight";
    let workplace = Workplace::dense();
    edit_header(&shard_of(&workplace.model(), tensor), |header| {
        header[tensor]["shape"] = serde_json::json!([384, 128]);
    });
    workplace.refuses(&[tensor, "[384, 128]", "[128, 384]"]);
}

#[test]
fn not_a_number() {
    for tensor in TENSORS {
        let workplace = Workplace::dense();
        let nan = 0x7FC0_u16.to_le_bytes();
        patch(&workplace.model(), tensor, &nan);
        workplace.refuses(&[tensor]);
    }
}

#[test]
fn infinite_and_met_by_calibration() {
    for tensor in TENSORS {
        let workplace = Workplace::dense();
        let infinite = 0x7F80_u16.to_le_bytes();
        patch(&workplace.model(), tensor, &infinite);
        workplace.refuses_with(&format!("--mode uniform {}", calibration()), &[tensor]);
    }
}

/// Finite, but not what comes of it.
#[test]
fn so_large_that_activations_overflow() {
    let workplace = Workplace::dense();
    let largest = 0x7F7F_u16.to_le_bytes();
    patch(&workplace.model(), "model.layers.0.self_attn.q_proj.weight", &largest);
    workplace.refuses_with(&format!("--mode uniform {}", calibration()), &["finite", "layer"]);
    let dataset = format!("--dataset text:{DEMO}/evaluation.txt --seq-len 32 --windows 1 --json");
    ask("eval", &workplace.model(), &dataset).failed(&["finite"]);
}
