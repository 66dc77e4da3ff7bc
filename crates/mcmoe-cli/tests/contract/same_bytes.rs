//! The same command gives the same bytes, however many threads work on it.

use std::collections::BTreeMap;

use super::{calibration, compressed};
use crate::common::{DEMO, Workplace, files_of, mcmoe, run};

/// The files that a compression on so many threads makes.
fn made(threads: &str, args: &str) -> BTreeMap<String, Vec<u8>> {
    let workplace = Workplace::empty();
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out());
    command.args(calibration().split_whitespace()).args(args.split_whitespace());
    run(command.env("RAYON_NUM_THREADS", threads)).done();
    files_of(&workplace.out())
}

fn assert_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>, what: &str) {
    assert!(found.keys().eq(expected.keys()), "{what}");
    for (name, bytes) in found {
        assert!(*bytes == expected[name], "{name} differs: {what}");
    }
}

#[test]
fn threads_and_repetition_change_nothing() {
    let first = files_of(compressed());
    for threads in ["1", "2"] {
        assert_same(&made(threads, "--method gptq"), &first, &format!("gptq, {threads} threads"));
    }
    assert_same(&made("2", ""), &made("1", ""), "trellis, 1 and 2 threads");
}
