//! Perplexity of compressed models against the published method's code, measured on the same data.

mod common;

use std::fs;
use std::path::Path;

use common::compression::run;
use common::{fixture, json};
use mcmoe_mixtral::calibrate::Calibration;
use mcmoe_mixtral::compress::{CompressOptions, SizeGoal};
use mcmoe_mixtral::evaluate::{EvalOptions, Perplexity, perplexity};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::inspect::inspect;
use mcmoe_mixtral::model::Pruning;
use mcmoe_mixtral::{CpuBackend, Method, Mode, Precision, Silent, Tokenizer};
use serde_json::Value;

const WINDOWS: usize = 256;
const SEQ_LEN: usize = 256;

#[test]
#[ignore = "slow: three compressions and eight evaluations of 65,536 tokens"]
fn tiny_mixtral_is_at_least_as_good_as_the_published_method() {
    let points = [
        Point { bits: 1.5, name: "12 (1.5 bit)", pruned: None },
        Point { bits: 2.0, name: "16 (2.0 bit)", pruned: Some((0.02, "16, 2% protected")) },
        Point { bits: 2.5, name: "20 (2.5 bit)", pruned: Some((0.02, "20, 2% protected")) },
    ];
    compare("tiny-mixtral", "mc_moe", &points);
}

/// At 2.5 bits the published rule gives one bit to either of two experts whose costs differ by 0.3 %, and
/// which one decides the perplexity: the widths are compared where they are not a toss-up.
#[test]
#[ignore = "slow: two compressions and three evaluations of 65,536 tokens"]
fn demo_mixtral_is_at_least_as_good_as_the_published_method() {
    let points = [
        Point { bits: 1.5, name: "12 (1.5 bit)", pruned: None },
        Point { bits: 2.0, name: "16 (2.0 bit)", pruned: Some((0.0, "16, median threshold")) },
    ];
    compare("demo-mixtral", "demo_mixtral_mc_moe", &points);
}

/// The trellis against llama.cpp's i-quants at the same stored bits: below them, and at two of these points
/// with at most 0.8 times their excess of ln(perplexity) over the 16-bit model.
#[test]
#[ignore = "slow: three compressions and four evaluations of 65,536 tokens"]
fn the_trellis_is_better_than_any_other_at_the_same_bytes() {
    let (Some(model), Some(train)) = (fixture("tiny-mixtral"), fixture("wikitext-2/train.txt")) else {
        return;
    };
    let (Some(_), Some(baselines)) = (fixture("wikitext-2/test.txt"), fixture("baselines.json")) else {
        return;
    };
    let others = &json(baselines)["llama_cpp"]["points"];
    let calibration = calibration(&train);
    for (bits, other, most) in [(1.5, "IQ1_S", 22.4), (1.75, "IQ1_M", 21.70), (2.0625, "IQ2_XXS", 21.13)] {
        let options = CompressOptions::default().size(SizeGoal::BitsPerWeight(bits));
        let (dir, _) = run(&model, &options.calibration(calibration.clone()));
        let sizes = inspect(dir.path()).unwrap();
        assert!(sizes.expert_bpw <= bits && sizes.attention_bpw <= 4.5, "{sizes:?}");
        let folder = ModelFolder::open(dir.path()).unwrap();
        let found = evaluate(&folder, Precision::Int8, None).perplexity;
        println!("trellis at {} bits a weight: perplexity {found:.4}", sizes.expert_bpw);
        let other = find(others, other)["perplexity"].as_f64().unwrap();
        assert!(found < other && found <= most, "{found}, theirs {other}, wanted {most}");
        if bits == 2.0625 {
            let pruned = evaluate(&folder, Precision::Int8, Some(folder.pruning(0.02).unwrap()));
            println!("pruned {:.3}: perplexity {:.4}", pruned.pruned_fraction, pruned.perplexity);
            assert!(pruned.pruned_fraction >= 0.15 && pruned.perplexity <= 1.01 * found);
        }
    }
}

/// 128 windows of 256 tokens.
fn calibration(train: &Path) -> Calibration {
    let calibration = Calibration::new(format!("wikitext2:{}", train.display()).parse().unwrap());
    calibration.samples(128).seq_len(256).seed(0)
}

/// A published result.
struct Point {
    /// Average code bits of an expert.
    bits: f64,
    name: &'static str,
    /// Share of protected tokens and name of the result with dynamic pruning.
    pruned: Option<(f32, &'static str)>,
}

/// Compresses model `name` to each point's size and compares; every line is printed before any is judged.
fn compare(name: &str, published: &str, points: &[Point]) {
    let (Some(model), Some(train)) = (fixture(name), fixture("wikitext-2/train.txt")) else { return };
    let (Some(_), Some(baselines)) = (fixture("wikitext-2/test.txt"), fixture("baselines.json")) else {
        return;
    };
    let published = &json(baselines)[published];
    let calibration = calibration(&train);
    let mut worse = Vec::new();
    for point in points {
        let mode = if point.name.starts_with("uniform") { Mode::Uniform } else { Mode::Mixed };
        let options = CompressOptions::default().size(SizeGoal::ExpertBits(point.bits)).mode(mode);
        let options = options.method(Method::Gptq);
        let (dir, _) = run(&model, &options.calibration(calibration.clone()));
        let folder = ModelFolder::open(dir.path()).unwrap();
        let expected = find(&published["points"], point.name);
        let bpw = inspect(dir.path()).unwrap().expert_bpw;
        assert!(bpw <= expected["bpw"].as_f64().unwrap(), "{bpw} bits a weight, published {expected}");
        let what = format!("{name}, {bpw} bits a weight, {}", point.name);
        let found = evaluate(&folder, Precision::Int8, None);
        worse.extend(judge(&what, &found, expected));
        if name == "tiny-mixtral" {
            worse.extend(compare_exact(&what, &found, &evaluate(&folder, Precision::F32, None)));
        }
        if let Some((protect, point)) = point.pruned {
            let pruning = folder.pruning(protect).unwrap();
            let found = evaluate(&folder, Precision::Int8, Some(pruning));
            let expected = find(&published["online_dynamic_pruning"], point);
            worse.extend(judge(&format!("{name}, {bpw} bits a weight, {point}"), &found, expected));
        }
    }
    assert!(worse.is_empty(), "worse than published: {worse:#?}");
}

/// Prints ours against theirs; the line if ours is worse.
fn judge(what: &str, found: &Perplexity, published: &Value) -> Option<String> {
    let most = published["perplexity"].as_f64().unwrap();
    let mut line = format!("{what}: perplexity {:.4}, published {most}", found.perplexity);
    if let Some(pruned) = published["pruned_expert_activations"].as_f64() {
        line += &format!("; pruned {:.3}, published {pruned}", found.pruned_fraction);
    }
    println!("{line}");
    (found.perplexity > most).then_some(line)
}

fn find<'a>(points: &'a Value, name: &str) -> &'a Value {
    points.as_array().unwrap().iter().find(|point| point["name"] == name).unwrap()
}

/// Prints the cost of rounded activations; the line if it is above a thousandth.
fn compare_exact(what: &str, rounded: &Perplexity, exact: &Perplexity) -> Option<String> {
    let off = rounded.perplexity / exact.perplexity - 1.0;
    let line =
        format!("{what}: {:.4} with exact activations, rounded {:+.3} %", exact.perplexity, 100.0 * off);
    println!("{line}");
    (off.abs() > 1e-3).then_some(line)
}

fn evaluate(folder: &ModelFolder, precision: Precision, pruning: Option<Pruning>) -> Perplexity {
    let text = fs::read_to_string(fixture("wikitext-2/test.txt").unwrap()).unwrap();
    let tokens = Tokenizer::read(folder.dir()).unwrap().encode(&text).unwrap();
    let mut model = folder.model_with::<CpuBackend>(precision, &[Default::default()]).unwrap();
    model.set_pruning(pruning).unwrap();
    perplexity(&model, &tokens, &EvalOptions::new(SEQ_LEN).windows(Some(WINDOWS)), &Silent).unwrap()
}
