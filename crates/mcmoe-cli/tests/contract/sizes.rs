//! `--size` and `--bpw`: promises about stored bytes.

use super::number;
use crate::common::{DEMO, Workplace, ask, files_of, mcmoe, run};

/// Compresses the demo model with `args` into a place of its own.
fn compress(args: &str) -> Workplace {
    let workplace = Workplace::empty();
    let mut command = mcmoe("compress");
    run(command.arg(DEMO).arg("-o").arg(workplace.out()).args(args.split_whitespace())).done();
    workplace
}

#[test]
fn a_size_is_an_upper_bound_that_is_made_use_of() {
    let workplace = compress("--size 2.45MB --mode random --method rtn");
    let on_disk: usize = files_of(&workplace.out()).values().map(Vec::len).sum();
    assert!(on_disk <= 2_450_000, "{on_disk}");
    let bits = number(&ask("inspect", &workplace.out(), "--json").json(), "expert_bits");
    assert!((1.5..=3.0).contains(&bits), "{bits}");
}

#[test]
fn stored_bits_a_weight_are_an_upper_bound_that_is_made_use_of() {
    let workplace = compress("--bpw 2.3 --mode random --method rtn");
    let bpw = number(&ask("inspect", &workplace.out(), "--json").json(), "expert_bpw");
    assert!(2.1 < bpw && bpw <= 2.3, "{bpw}");
}

#[test]
fn what_cannot_be_kept_is_not_promised() {
    let refuses = |args: &str, names: &[&str]| {
        Workplace::dense().refuses_with(&format!("--mode random --method rtn {args}"), names);
    };
    refuses("--size 1KiB", &["--size"]);
    refuses("--bpw 0.5", &["0.5 stored bits", "smallest possible"]);
    refuses("--expert-bits 0.5", &["code bits", "smallest possible"]);
}
