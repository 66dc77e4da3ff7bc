//! What several test files share.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::PathBuf;

use mcmoe_allocator::Factors;

/// The folder of published factors, or `None` with a notice where it is not there.
pub(crate) fn published(test: &str) -> Option<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/mixtral-8x7b-factors");
    let folder = PathBuf::from(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {test} needs {}, which is not there", folder.display());
    None
}

/// Made-up factors of 3 layers × 6 experts × widths 1, 2, 3; losses fall with the width.
pub(crate) fn made_up() -> Factors {
    let number = |layer: usize, expert: usize| ((layer * 37 + expert * 61 + 11) % 97) as f64 + 1.0;
    let table = |scale: f64| -> Vec<Vec<f64>> {
        (0..3).map(|l| (0..6).map(|e| number(l, e) * scale).collect()).collect()
    };
    let losses = |layer: usize, expert: usize| -> Vec<f64> {
        let loss = number(layer + 5, expert + 3);
        vec![loss * 5.0, loss * 2.0, loss * 0.9]
    };
    let quant_loss = (0..3).map(|l| (0..6).map(|e| losses(l, e)).collect()).collect();
    Factors::measured(vec![1, 2, 3], table(10.0), table(3.0), quant_loss).expect("valid by construction")
}

/// Every way to give `experts` one of `choices`, as digits of a counter.
pub(crate) fn every_row(experts: usize, choices: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..choices.pow(experts as u32)).map(move |mut counter| {
        let mut digit = || {
            let digit = counter % choices;
            counter /= choices;
            digit
        };
        (0..experts).map(|_| digit()).collect()
    })
}
