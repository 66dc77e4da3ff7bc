//! The packed model computes with the weights that it stands for.

use mcmoe_mixtral::Precision;
use mcmoe_mixtral::folder::ModelFolder;
use serde_json::Value;

use super::common::weights::Weights;
use super::common::{demo, demo_tokens, load, load_with, logits, max_difference};
use super::compressed;

#[test]
fn logits_are_those_of_the_dequantized_weights() {
    let (dir, _) = compressed();
    let folder = ModelFolder::open(dir).unwrap();
    let mut dense = Weights::read(&demo());
    let mut replaced = 0;
    for layer in 0..folder.config().num_hidden_layers {
        for (name, matrix) in folder.layer_matrices(layer).unwrap() {
            let values = dense.get_mut(&format!("{name}.weight"));
            let dequantized = matrix.dequantize();
            assert_eq!(values.len(), dequantized.len());
            assert_ne!(values, dequantized, "{name}");
            values.copy_from_slice(&dequantized);
            replaced += 1;
        }
    }
    assert_eq!(replaced, 3 * (4 + 3 * 8));
    assert_eq!(dense.config.get("quantization_config"), None::<&Value>);
    let (packed, dense) = (load(dir), load(dense.folder().path()));
    for len in [1, 3, 60] {
        let tokens = demo_tokens(20, len);
        let difference = max_difference(&logits(&packed, &[&tokens]), &logits(&dense, &[&tokens]));
        println!("{len} tokens: off by {difference:.1e}");
        assert!(difference <= 1e-3, "{len} tokens: {difference}");
    }
}

/// Rounded activations change logits a little; where they change the choice of an expert, more.
#[test]
fn rounded_activations_stay_close() {
    let (dir, _) = compressed();
    let tokens = demo_tokens(20, 60);
    let [exact, rounded] =
        [Precision::F32, Precision::Int8].map(|precision| logits(&load_with(dir, precision), &[&tokens]));
    assert_ne!(exact, rounded);
    let norm =
        |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    let difference =
        norm(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b)) / norm(&mut exact.iter().copied());
    println!("off by {difference:.4} of the logits' norm");
    assert!(difference < 0.05, "{difference}");
}
