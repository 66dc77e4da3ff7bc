//! The packed model computes with the weights that it stands for.

use mcmoe_mixtral::folder::ModelFolder;
use serde_json::Value;

use super::common::weights::Weights;
use super::common::{demo, demo_tokens, load, logits, max_difference};
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
