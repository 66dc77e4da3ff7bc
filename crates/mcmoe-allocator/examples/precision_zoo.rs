//! Regenerates a precision zoo: `precision_zoo <factors.json> <out.json>`.
//!
//! `assets/zoo/mixtral-8x7b.json` comes from the factors published with arXiv:2410.06270.

use std::env;
use std::process::ExitCode;

use mcmoe_allocator::zoo::Zoo;
use mcmoe_allocator::{AllocatorError, Exponents, Factors};

const NOTE: &str = "Bit-widths per expert, allocation[total_bits][layer][expert], total_bits being the most \
    that the code bits of one MoE block may add up to. Solved by mcmoe-allocator (exact integer program, \
    HiGHS) from the expert significance factors published with arXiv:2410.06270 (calibration: C4).";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [factors, out] = arguments.as_slice() else {
        eprintln!("usage: precision_zoo <factors.json> <out.json>");
        return ExitCode::from(2);
    };
    match regenerate(factors, out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// From 1.5 to 2.5 bits an expert, as published.
fn regenerate(factors: &str, out: &str) -> Result<(), AllocatorError> {
    let factors = Factors::read(factors)?;
    let experts = factors.num_experts as u32;
    let totals = experts * 3 / 2..=experts * 5 / 2;
    Zoo::compute(&factors, totals, Exponents::default(), NOTE)?.write(out)
}
