//! `--device wgpu`, against the CPU: a software driver will do. Without any, tests say so and pass.

mod common;

use std::path::Path;

use common::{DEMO, Workplace, ask, mcmoe, run};
use serde_json::Value;

/// Whether there is no card; says so.
fn no_card() -> bool {
    let ended =
        run(mcmoe("generate").args([DEMO, "--prompt", "a", "--max-new-tokens", "1", "--device", "wgpu"]));
    if ended.stderr.contains("driver finds a graphics card") {
        eprintln!("SKIPPED: {}", ended.stderr.trim());
        return true;
    }
    ended.done();
    false
}

/// The demo model, compressed on `device` with `args`.
fn compress(workplace: &Workplace, device: &str, args: &str) {
    let calibration = format!("--calibration text:{DEMO}/calibration.txt --samples 4 --seq-len 64");
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out()).args(["--device", device]);
    run(command.args(calibration.split_whitespace()).args(args.split_whitespace())).done();
}

fn eval(dir: &Path, args: &str) -> Value {
    let text = Path::new(DEMO).join("evaluation.txt");
    ask(
        "eval",
        dir,
        &format!("--dataset text:{} --seq-len 64 --json --activations f32 {args}", text.display()),
    )
    .json()
}

#[track_caller]
fn assert_same(found: &Value, expected: &Value) {
    for field in ["perplexity", "pruned_fraction"] {
        let [found, expected] = [found, expected].map(|value| value[field].as_f64().unwrap());
        assert!((found - expected).abs() <= 5e-4 * expected, "{field}: {found} for {expected}");
    }
}

#[test]
fn a_grid_evaluates_and_generates_as_on_the_cpu() {
    if no_card() {
        return;
    }
    let workplace = Workplace::empty();
    compress(&workplace, "cpu", "--method gptq --expert-bits 2");
    let args = "--windows 2 --prune --protect 0.02";
    let expected = eval(&workplace.out(), args);
    assert_same(&eval(&workplace.out(), &format!("{args} --device wgpu")), &expected);
    assert_same(&eval(&workplace.out(), &format!("{args} --device wgpu:0,wgpu:0")), &expected);
    let text = |device: &str| {
        let args = format!("--prompt Once --max-new-tokens 32 --activations f32 --device {device}");
        ask("generate", &workplace.out(), &args).done()
    };
    assert_eq!(text("wgpu"), text("cpu"));
}

#[test]
fn a_trellis_evaluates_as_on_the_cpu() {
    if no_card() {
        return;
    }
    let workplace = Workplace::empty();
    compress(&workplace, "cpu", "--mode uniform --expert-bits 2 --repair none");
    let expected = eval(&workplace.out(), "--windows 1");
    assert_same(&eval(&workplace.out(), "--windows 1 --device wgpu"), &expected);
}

#[test]
fn a_model_is_compressed_there() {
    if no_card() {
        return;
    }
    let perplexity = |device: &str| {
        let workplace = Workplace::empty();
        compress(&workplace, device, "--method gptq --mode mixed --expert-bits 2");
        eval(&workplace.out(), "--windows 8")["perplexity"].as_f64().unwrap()
    };
    // Rounding is chaotic: the two are two samples of what the method gives.
    let (found, expected) = (perplexity("wgpu"), perplexity("cpu"));
    assert!((found / expected - 1.0).abs() < 0.1, "{found} for {expected}");
}

#[test]
fn cards_that_are_not_there() {
    if no_card() {
        return;
    }
    let device = |device: &str| run(mcmoe("generate").args([DEMO, "--prompt", "a", "--device", device]));
    device("wgpu:77").failed(&["wgpu:77", "driver finds"]);
    device("wgpu:0,wgpu:77").failed(&["wgpu:0,wgpu:77"]);
}
