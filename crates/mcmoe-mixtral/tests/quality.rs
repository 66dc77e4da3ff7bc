//! Perplexity of compressed models against the published method's code, measured on the same data.

mod common;

use std::fs;

use common::compression::run;
use common::{fixture, json};
use mcmoe_mixtral::calibrate::Calibration;
use mcmoe_mixtral::compress::{CompressOptions, SizeGoal};
use mcmoe_mixtral::evaluate::{EvalOptions, Perplexity, perplexity};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::inspect::inspect;
use mcmoe_mixtral::model::Pruning;
use mcmoe_mixtral::{CpuBackend, Silent, Tokenizer};
use serde_json::Value;

const WINDOWS: usize = 256;
const SEQ_LEN: usize = 256;

#[test]
#[ignore = "slow: three compressions and five evaluations of 65,536 tokens"]
fn tiny_mixtral_is_at_least_as_good_as_the_published_method() {
    let Some(baselines) = fixture("baselines.json") else { return };
    let published = &json(baselines)["mc_moe"];
    compare("tiny-mixtral", published, 1.5, "12 (1.5 bit)", None);
    compare("tiny-mixtral", published, 2.0, "16 (2.0 bit)", Some((0.02, "16, 2% protected")));
    compare("tiny-mixtral", published, 2.5, "20 (2.5 bit)", Some((0.02, "20, 2% protected")));
}

#[test]
#[ignore = "slow: three compressions and five evaluations of 65,536 tokens"]
fn demo_mixtral_is_at_least_as_good_as_the_published_method() {
    let Some(baselines) = fixture("baselines.json") else { return };
    let published = &json(baselines)["demo_mixtral_mc_moe"];
    compare("demo-mixtral", published, 1.5, "12 (1.5 bit)", None);
    compare("demo-mixtral", published, 2.0, "16 (2.0 bit)", Some((0.0, "16, median threshold")));
    compare("demo-mixtral", published, 2.5, "20 (2.5 bit)", Some((0.0, "20, median threshold")));
}

/// Compresses model `name` to `bits` an expert and compares with the published point; the same with
/// pruning at a share of protected tokens.
fn compare(name: &str, published: &Value, bits: f64, point: &str, pruned: Option<(f32, &str)>) {
    let (Some(model), Some(train)) = (fixture(name), fixture("wikitext-2/train.txt")) else { return };
    let calibration = Calibration::new(format!("wikitext2:{}", train.display()).parse().unwrap());
    let calibration = calibration.samples(128).seq_len(256).seed(0);
    let options = CompressOptions::default().size(SizeGoal::ExpertBits(bits)).calibration(calibration);
    let (dir, _) = run(&model, &options);

    let folder = ModelFolder::open(dir.path()).unwrap();
    let expected = find(&published["points"], point);
    let bpw = inspect(dir.path()).unwrap().expert_bpw;
    assert!(bpw <= expected["bpw"].as_f64().unwrap(), "{bpw} bits a weight, published {expected}");
    let found = evaluate(&folder, None);
    report(&format!("{name}, {bpw} bits a weight"), &found, expected);
    if let Some((protect, point)) = pruned {
        let found = evaluate(&folder, Some(folder.pruning(protect).unwrap()));
        report(
            &format!("{name}, {bpw} bits a weight, {protect} protected"),
            &found,
            find(&published["online_dynamic_pruning"], point),
        );
    }
}

fn report(what: &str, found: &Perplexity, published: &Value) {
    let most = published["perplexity"].as_f64().unwrap();
    println!(
        "{what}: {:.4}, published {most}; pruned {:.3}, published {}",
        found.perplexity, found.pruned_fraction, published["pruned_expert_activations"]
    );
    assert!(found.perplexity <= most, "{what}: {} instead of at most {most}", found.perplexity);
}

fn find<'a>(points: &'a Value, name: &str) -> &'a Value {
    points.as_array().unwrap().iter().find(|point| point["name"] == name).unwrap()
}

fn evaluate(folder: &ModelFolder, pruning: Option<Pruning>) -> Perplexity {
    let text = fs::read_to_string(fixture("wikitext-2/test.txt").unwrap()).unwrap();
    let tokens = Tokenizer::read(folder.dir()).unwrap().encode(&text).unwrap();
    let mut model = folder.model::<CpuBackend>(&Default::default()).unwrap();
    model.set_pruning(pruning).unwrap();
    perplexity(&model, &tokens, &EvalOptions::new(SEQ_LEN).windows(Some(WINDOWS)), &Silent).unwrap()
}
