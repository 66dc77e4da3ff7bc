//! Compressed folders that were damaged: `eval`, `generate` and `inspect` say what is wrong.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{DEMO, Workplace, ask, compressed, edit_header, edit_json, patch, patch_at, shard_of};
use serde_json::json;

/// A packed matrix in the third shard.
const MATRIX: &str = "model.layers.1.block_sparse_moe.experts.5.w2";

/// A copy of the compressed demo.
fn copy() -> Workplace {
    let args = format!(
        "--mode uniform --method rtn --samples 8 --seq-len 64 --calibration text:{DEMO}/calibration.txt"
    );
    Workplace::with(compressed(&args))
}

/// Damages a copy of the compressed demo and checks that no command gets along with it.
#[track_caller]
fn refused(damage: impl FnOnce(&Path), names: &[&str]) {
    let workplace = copy();
    damage(&workplace.model());
    let model = workplace.model();
    eval(&model, "--json").failed(names);
    ask("generate", &model, "--prompt The --max-new-tokens 2").failed(names);
    ask("inspect", &model, "--json").failed(names);
}

fn eval(dir: &Path, args: &str) -> common::Ended {
    let dataset = format!("--dataset text:{DEMO}/evaluation.txt --seq-len 32 --windows 1");
    ask("eval", dir, &format!("{dataset} {args}"))
}

/// Changes `quantization_config` in the folder's config.
fn quantization(field: &'static str, value: serde_json::Value) -> impl FnOnce(&Path) {
    move |dir| edit_json(&dir.join("config.json"), |config| config["quantization_config"][field] = value)
}

/// Writes `text` to the file `name` of the folder.
fn write(name: &'static str, text: &'static str) -> impl FnOnce(&Path) {
    move |dir| fs::write(dir.join(name), text).unwrap()
}

fn packed(matrix: &str) -> String {
    format!("{matrix}.packed")
}

fn shard(dir: &Path) -> PathBuf {
    shard_of(dir, &packed(MATRIX))
}

#[test]
fn undamaged_it_works() {
    let workplace = copy();
    eval(&workplace.model(), "--prune --json").json();
    ask("generate", &workplace.model(), "--prompt The --max-new-tokens 2 --prune").done();
    ask("inspect", &workplace.model(), "--json").json();
}

#[test]
fn a_matrix_cut_short() {
    let shrink = |dir: &Path| {
        edit_header(&shard(dir), |header| {
            let shape = &mut header[packed(MATRIX)]["shape"];
            shape[1] = (shape[1].as_u64().unwrap() - 1).into();
        });
    };
    refused(shrink, &["model-00003-of-00004.safetensors"]);
    let fewer_rows = |dir: &Path| {
        edit_header(&shard(dir), |header| {
            let shape = &mut header[packed(MATRIX)]["shape"];
            *shape = json!([shape[0].as_u64().unwrap() / 2, shape[1].as_u64().unwrap() * 2]);
        });
    };
    refused(fewer_rows, &[&packed(MATRIX), "shape"]);
    let truncate = |dir: &Path| {
        let mut bytes = fs::read(shard(dir)).unwrap();
        bytes.truncate(bytes.len() - 4096);
        fs::write(shard(dir), bytes).unwrap();
    };
    refused(truncate, &["model-00003-of-00004.safetensors", "not a sound safetensors file"]);
}

#[test]
fn a_matrix_of_another_type() {
    let name = packed(MATRIX);
    let retype = |dir: &Path| edit_header(&shard(dir), |header| header[&name]["dtype"] = "I8".into());
    refused(retype, &[&name, "I8"]);
}

#[test]
fn a_matrix_missing() {
    let name = packed(MATRIX);
    let rename = |dir: &Path| {
        edit_header(&shard(dir), |header| {
            let tensor = header.as_object_mut().unwrap().remove(&name).unwrap();
            header["another"] = tensor;
        });
        edit_json(&dir.join("model.safetensors.index.json"), |index| {
            index["weight_map"].as_object_mut().unwrap().remove(&name).unwrap();
        });
    };
    refused(rename, &[&name, "missing"]);
}

#[test]
fn scales_and_zeros_that_are_no_numbers() {
    // In a tensor that every token meets: a tile starts with 16 scales, then come 16 zero points.
    let name = packed("model.layers.1.self_attn.o_proj");
    for (offset, bits) in [(0, 0x7C00_u16), (2, 0x7E00), (32, 0xFC00), (34, 0x7E00)] {
        let damage = |dir: &Path| patch_at(dir, &name, offset, &bits.to_le_bytes());
        refused(damage, &[&name, "not finite"]);
    }
}

#[test]
fn damage_in_an_expert_that_no_token_meets() {
    let workplace = copy();
    patch(&workplace.model(), &packed(MATRIX), &0x7E00_u16.to_le_bytes());
    ask("inspect", &workplace.model(), "--json").failed(&[&packed(MATRIX), "not finite"]);
}

#[test]
fn another_method_or_version() {
    for method in ["gptq", "awq", ""] {
        refused(quantization("quant_method", method.into()), &["config.json", "quant_method", method]);
    }
    for version in [json!(1), json!(4), json!(0), json!("2"), json!(1.5), json!(u64::MAX)] {
        refused(quantization("version", version), &["config.json", "version"]);
    }
}

#[test]
fn widths_and_groups_that_are_not_the_stored_ones() {
    let projection = "model.layers.0.self_attn.q_proj";
    refused(quantization("attention_bits", json!(8)), &[projection, "shape"]);
    refused(quantization("attention_bits", json!(5)), &["config.json", "5 bits"]);
    refused(quantization("group_size", json!(64)), &[projection, "shape"]);
    refused(quantization("group_size", json!(0)), &["config.json", "group size 0"]);
    refused(quantization("group_size", json!(-8)), &["config.json", "-8"]);
}

#[test]
fn an_allocation_that_is_none() {
    for text in ["", "{", "[]", "{}", r#"{"bits": "2"}"#] {
        refused(write("allocation.json", text), &["allocation.json"]);
    }
    refused(|dir| fs::remove_file(dir.join("allocation.json")).unwrap(), &["allocation.json"]);
}

#[test]
fn an_allocation_that_does_not_fit_the_model() {
    let of = |bits: Vec<Vec<u8>>| {
        move |dir: &Path| common::write_json(&dir.join("allocation.json"), &json!({ "bits": bits }))
    };
    let changed = |l: usize, e: usize, width: u8| {
        let mut bits = vec![vec![2; 8]; 3];
        bits[l][e] = width;
        of(bits)
    };
    refused(of(vec![vec![2; 8]; 2]), &["allocation.json", "2 entries, expected 3"]);
    refused(of(vec![vec![2; 7]; 3]), &["allocation.json", "7 entries, expected 8"]);
    refused(changed(2, 6, 5), &["allocation.json", "layer 2, expert 6", "5 bits"]);
    let w1 = "model.layers.1.block_sparse_moe.experts.5.w1.packed";
    refused(changed(1, 5, 3), &[w1, "shape"]);
}

#[test]
fn thresholds_that_do_not_fit_the_model() {
    let texts = [
        "",
        "{}",
        r#"{"thresholds": [0.5, 0.5]}"#,
        r#"{"thresholds": [0.5, 0.5, 0.5, 0.5]}"#,
        r#"{"thresholds": [0.5, 0.5, 1.5]}"#,
        r#"{"thresholds": [0.5, -0.5, 0.5]}"#,
        r#"{"thresholds": [0.5, null, 0.5]}"#,
    ];
    for text in texts {
        refused(write("pruning.json", text), &["pruning.json"]);
    }
}

#[test]
fn pruning_needs_thresholds() {
    let workplace = copy();
    fs::remove_file(workplace.model().join("pruning.json")).unwrap();
    for dir in [&workplace.model(), Path::new(DEMO)] {
        eval(dir, "--prune --json").failed(&["--prune", "pruning.json"]);
        ask("generate", dir, "--prompt The --prune").failed(&["--prune", "pruning.json"]);
    }
    eval(&workplace.model(), "--json").json();
}

#[test]
fn a_share_of_protected_tokens_out_of_range() {
    for share in ["2", "-1", "nan"] {
        eval(copy().model().as_path(), &format!("--prune --protect={share}")).refused(2, &["protect"]);
    }
}

#[test]
fn no_tokenizer() {
    let workplace = copy();
    fs::remove_file(workplace.model().join("tokenizer.json")).unwrap();
    eval(&workplace.model(), "--json").failed(&["tokenizer.json"]);
    ask("generate", &workplace.model(), "--prompt The").failed(&["tokenizer.json"]);
    ask("inspect", &workplace.model(), "--json").json();
}

#[test]
fn dense_tensors_that_are_no_numbers() {
    let tensors = [
        "model.embed_tokens.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        "model.layers.1.input_layernorm.weight",
        "model.norm.weight",
        "lm_head.weight",
    ];
    for tensor in tensors {
        let workplace = copy();
        patch(&workplace.model(), tensor, &0x7FC0_u16.to_le_bytes());
        eval(&workplace.model(), "--json").failed(&[tensor]);
        ask("generate", &workplace.model(), "--prompt The").failed(&[tensor]);
    }
}

#[test]
fn a_compressed_model_cannot_be_compressed_again() {
    copy().refuses(&["MODEL_DIR", "already compressed"]);
}
