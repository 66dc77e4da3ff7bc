//! `bench`: figures that hang together, whatever the machine's speed.

use std::path::Path;

use serde_json::Value;

use super::{assert_close, compressed, number};
use crate::common::{DEMO, ask, mcmoe, run};

const QUICK: &str = "--rounds 1 --prompt 16 --context 1,40";

fn measured(dir: &Path) -> Value {
    ask("bench", dir, &format!("{QUICK} --json")).json()
}

#[track_caller]
fn check(report: &Value, layers: f64) {
    let number = |field| number(report, field);
    let positive = ["decode_tokens_per_second", "prefill_tokens_per_second", "bytes_per_token", "read_gb_s"];
    for field in positive.into_iter().chain(["machine_read_gb_s", "token_gb_32_layers", "prefill_over_f32"]) {
        assert!(number(field) > 0.0 && number(field).is_finite(), "{field}: {report}");
    }
    assert_eq!(number("layers"), layers);
    assert_close(number("read_gb_s"), number("bytes_per_token") * number("decode_tokens_per_second") / 1e9);
    let pruned = &report["contexts"][0]["pruning"];
    assert!(super::number(pruned, "bytes_per_token") <= number("bytes_per_token"), "{report}");
}

#[test]
fn a_compressed_folder() {
    let report = measured(compressed());
    check(&report, 3.0);
    assert!(number(&report["load"], "seconds") > 0.0);
    let contexts: Vec<f64> =
        report["contexts"].as_array().unwrap().iter().map(|c| number(c, "context")).collect();
    assert_eq!(contexts, [1.0, 40.0]);
    // Keys and values of 3 layers, 2 heads of 32 features, 4 bytes each.
    let kv = number(&report["contexts"][1]["decode"], "kv_bytes_per_token");
    assert_eq!(kv, f64::from(2 * 3 * 2 * 32 * 4 * 40));
    // A token of the whole model reads the head, attention, gates and two of eight experts a layer.
    let whole = number(&ask("inspect", compressed(), "--json").json(), "tensor_bytes");
    assert!(number(&report, "bytes_per_token") < whole, "{report}");
}

#[test]
fn a_dense_folder() {
    check(&measured(Path::new(DEMO)), 3.0);
}

#[test]
fn a_model_of_true_shape_with_random_weights() {
    let args =
        "--synthetic mixtral-8x7b --layers 1 --expert-bits 2.5 --rounds 1 --prompt 4 --threads 1 --json";
    let report = run(mcmoe("bench").args(args.split_whitespace())).json();
    check(&report, 1.0);
    assert_eq!((number(&report, "whole_layers"), number(&report, "threads")), (32.0, 1.0));
    // Head and attention of one layer; two experts of 1 to 3 bits each.
    let fixed = 2.0 * 32_000.0 * 4096.0 + 4096.0 * (2.0 * 4096.0 + 2.0 * 1024.0) * 4.25 / 8.0;
    let expert = 3.0 * 4096.0 * 14_336.0 / 8.0;
    let experts = number(&report, "bytes_per_token") - fixed;
    assert!((2.0 * 1.25 * expert..2.0 * 3.3 * expert).contains(&experts), "{experts}");
}

#[test]
fn people_get_a_table() {
    let text = ask("bench", compressed(), QUICK).done();
    for words in ["context", "tokens/s", "GB/s", "prefill of 16 tokens", "loaded in", "kernels"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn numbers_beyond_all_sense_are_named() {
    for option in ["--context", "--rounds", "--prompt"] {
        let args = format!("{option} {}", u64::MAX);
        ask("bench", compressed(), &args).failed(&[option, "18446744073709551615"]);
    }
}

#[test]
fn the_environment_can_force_kernels() {
    let report = run(mcmoe("bench")
        .arg(compressed())
        .args(["--rounds", "1", "--prompt", "2", "--json"])
        .env("MCMOE_CPU", "scalar"));
    assert_eq!(report.json()["backend"], "scalar");
    let unknown = run(mcmoe("inspect").arg(compressed()).env("MCMOE_CPU", "sse9"));
    unknown.refused(2, &["MCMOE_CPU", "sse9", "scalar"]);
}

#[test]
fn single_kernels_are_measured_at_every_width() {
    let report = run(mcmoe("bench").args(["--kernels", "--rounds", "1", "--json"])).json();
    let reports = report["kernels"].as_array().unwrap();
    // Four widths and six rates: two shapes, and a block of experts.
    assert_eq!(reports.len(), 10 * 3);
    for report in reports {
        assert!(number(report, "gb_s") > 0.0 && number(report, "machine_gb_s") > 0.0, "{report}");
    }
}
