//! `compress` on input that is damaged or does not fit, and on output that cannot be written: exit code
//! 1, an error that names the thing, no panic, and nothing left behind.

#[path = "../common/mod.rs"]
mod common;

mod config;
mod full_disk;
mod output;
mod shards;
mod steps;
mod tensors;
mod text;
mod tokenizer;

/// Calibration small enough for a test.
fn calibration() -> String {
    format!("--calibration text:{}/calibration.txt --samples 2 --seq-len 32", common::DEMO)
}
