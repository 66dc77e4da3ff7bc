//! One model in the forms that checkpoints come in.

mod common;

use std::fs;
use std::path::Path;

use common::weights::{Weights, headers};
use common::{demo, demo_tokens, load, logits, max_difference};
use safetensors::Dtype;
use serde_json::json;
use tempfile::TempDir;

#[test]
fn files_and_types_do_not_matter() {
    let expected = prompt_logits(&demo());
    let weights = Weights::read(&demo());
    for (dtype, shards) in
        [(Dtype::BF16, 1), (Dtype::BF16, 2), (Dtype::BF16, 5), (Dtype::F32, 1), (Dtype::F32, 3)]
    {
        let dir = TempDir::new().unwrap();
        weights.write(dir.path(), dtype, shards);
        assert_eq!(prompt_logits(dir.path()), expected, "{dtype:?} in {shards} files");
    }
}

#[test]
fn f16_holds_almost_the_same_weights() {
    let dir = TempDir::new().unwrap();
    Weights::read(&demo()).write(dir.path(), Dtype::F16, 2);
    let difference = max_difference(&prompt_logits(dir.path()), &prompt_logits(&demo()));
    println!("F16: logits differ by {difference:.1e}");
    assert!(difference < 1e-2, "{difference}");
}

/// An index may name shards that hold further tensors; a single file needs none.
#[test]
fn one_file_needs_no_index_and_shards_follow_theirs() {
    let weights = Weights::read(&demo());
    let (one, many) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    weights.write(one.path(), Dtype::BF16, 1);
    weights.write(many.path(), Dtype::BF16, 4);
    let index = |dir: &Path| dir.join("model.safetensors.index.json").exists();
    assert_eq!((index(one.path()), index(many.path())), (false, true));
    assert_eq!(headers(one.path()), headers(many.path()));
    fs::remove_file(many.path().join("part-2.safetensors")).unwrap();
    let error = mcmoe_mixtral::folder::ModelFolder::open(many.path()).unwrap_err().to_string();
    assert!(error.contains("part-2.safetensors"), "{error}");
}

#[test]
fn rope_theta_may_lie_in_rope_parameters() {
    let mut weights = Weights::read(&demo());
    weights.config["rope_theta"] = json!(1e4);
    let flat = prompt_logits(weights.folder().path());
    weights.config.as_object_mut().unwrap().remove("rope_theta");
    weights.config["rope_parameters"] = json!({"rope_theta": 1e4, "rope_type": "default"});
    let nested = prompt_logits(weights.folder().path());
    assert_eq!(nested, flat);
    assert!(max_difference(&flat, &prompt_logits(&demo())) > 0.1, "the model ignores rope_theta");
}

/// A tied head is the embedding, whether or not the file has one of its own.
#[test]
fn a_tied_head_is_the_embedding() {
    let mut untied = Weights::read(&demo());
    let embedding = untied.tensors["model.embed_tokens.weight"].clone();
    untied.tensors.insert("lm_head.weight".to_owned(), embedding);
    let expected = prompt_logits(untied.folder().path());
    untied.tensors.remove("lm_head.weight");
    untied.config["tie_word_embeddings"] = json!(true);
    assert_eq!(prompt_logits(untied.folder().path()), expected);
}

fn prompt_logits(dir: &Path) -> Vec<f32> {
    logits(&load(dir), &[&demo_tokens(10, 40)])
}
