//! What the commands print and write, on the demo model.

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod compress;
mod dry_run;
mod eval;
mod generate;
mod inspect;
mod same_bytes;
mod sizes;
mod steps;
mod synthesize;
mod trellis;
mod verify;

use std::path::Path;

use serde_json::Value;

/// Calibration small enough for a test.
fn calibration() -> String {
    format!("--calibration text:{}/calibration.txt --samples 8 --seq-len 64", common::DEMO)
}

/// The demo model, compressed with every default but the calibration's size.
fn compressed() -> &'static Path {
    common::compressed(&format!("{} --method gptq", calibration()))
}

/// `bits` of an allocation file.
fn bits_in(path: &Path) -> Vec<Vec<u64>> {
    serde_json::from_value(common::read_json(path)["bits"].take()).unwrap()
}

/// A number of a JSON object.
#[track_caller]
fn number(object: &Value, field: &str) -> f64 {
    object[field].as_f64().unwrap_or_else(|| panic!("{field} is a number: {object}"))
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} should be {expected}");
}
