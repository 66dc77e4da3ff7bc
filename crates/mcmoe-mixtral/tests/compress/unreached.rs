//! Experts that calibration hardly reaches, or not at all.

use mcmoe_mixtral::compress::{CompressOptions, SizeGoal, rarely_reached};
use mcmoe_mixtral::{CpuBackend, Method, Mode};
use mcmoe_quant::{Fallback, Matrix, QuantOptions, quantize};

use super::common::compression::run;
use super::common::weights::Weights;
use super::common::{demo, demo_tokens, ids, json, load, logits, numbers};
use super::{calibrated, compressed, expert_matrices};

/// An expert of layer 1 that no token reaches.
const UNREACHED: usize = 7;

#[test]
fn an_expert_that_no_token_reaches_is_rounded_and_named() {
    let model = demo_with_unreached_expert();
    let source = model.folder();
    let (dir, report) = run(source.path(), &calibrated());
    let named: Vec<&str> = rarely_reached(&report)
        .filter(|(_, fallback)| *fallback == Fallback::NoTokens)
        .map(|(matrix, _)| matrix.name.as_str())
        .collect();
    assert_eq!(named, expert_matrices(1, UNREACHED));

    let factors = json(dir.path().join("factors.json"));
    for key in ["frequency", "weight"] {
        assert_eq!(numbers(&factors[key][1])[UNREACHED], 0.0);
    }
    assert_eq!(numbers(&factors["quant_loss"][1][UNREACHED]), [0.0; 3]);

    let folder = mcmoe_mixtral::folder::ModelFolder::open(dir.path()).unwrap();
    let bits = ids(&json(dir.path().join("allocation.json"))["bits"][1])[UNREACHED] as u8;
    let options = QuantOptions::new(bits).unwrap().method(Method::Rtn);
    for (name, packed) in folder.layer_matrices(1).unwrap() {
        if !expert_matrices(1, UNREACHED).contains(&name) {
            continue;
        }
        let (shape, values) = &model.tensors[&format!("{name}.weight")];
        let rounded = quantize(Matrix::new(shape[0], shape[1], values).unwrap(), None, &options).unwrap();
        assert_eq!(packed.bytes()[..], rounded.packed.bytes()[..], "{name}");
    }
    let tokens = demo_tokens(0, 50);
    let model = folder.model::<CpuBackend>(&Default::default()).unwrap();
    assert!(logits(&model, &[&tokens]).iter().all(|logit| logit.is_finite()));
}

#[test]
fn a_model_with_an_unreached_expert_can_be_uniform_too() {
    let source = demo_with_unreached_expert().folder();
    let uniform = CompressOptions::default().mode(Mode::Uniform).size(SizeGoal::ExpertBits(1.0));
    let options = uniform.calibration(super::common::compression::calibration());
    let (dir, report) = run(source.path(), &options);
    assert_eq!(rarely_reached(&report).filter(|(_, fallback)| *fallback == Fallback::NoTokens).count(), 3);
    assert!(logits(&load(dir.path()), &[&demo_tokens(0, 50)]).iter().all(|logit| logit.is_finite()));
}

/// Exactly the matrices with fewer tokens than input features are named, with their tokens.
#[test]
fn matrices_with_few_tokens_are_named() {
    let (_, report) = compressed();
    let mut few = 0;
    for matrix in &report.matrices {
        let features = if matrix.name.ends_with(".w2") { 384 } else { 128 };
        let tokens = matrix.tokens.unwrap();
        let expected = (tokens < features).then_some(Fallback::FewTokens { tokens });
        let named = rarely_reached(report).find(|(other, _)| other.name == matrix.name);
        assert_eq!(named.map(|(_, fallback)| fallback), expected, "{}", matrix.name);
        few += usize::from(expected.is_some());
    }
    assert!(0 < few && few < report.matrices.len());
}

/// Of rows a, −a, b, −b and 0, the zero row is never among the two best.
fn demo_with_unreached_expert() -> Weights {
    let mut weights = Weights::read(&demo()).first_layers(2).narrowed(128);
    let width = weights.size("hidden_size");
    let gate = weights.get_mut("model.layers.1.block_sparse_moe.gate.weight");
    for (from, to) in [(0, 1), (2, 3)] {
        let negative: Vec<f32> = gate[from * width..][..width].iter().map(|v| -v).collect();
        gate[to * width..][..width].copy_from_slice(&negative);
    }
    gate[UNREACHED * width..][..width].fill(0.0);
    weights
}
