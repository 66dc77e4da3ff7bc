//! A disk that is full before the result is complete: the error names the file, no result is there, and
//! the layers done so far stay in the work folder.
#![cfg(target_os = "linux")]

use crate::common::{DEMO, Disk, Workplace, mcmoe, names_in, run};

const KIB: u64 = 1 << 10;
const WORK: &str = ".out.mcmoe-work";

/// Compresses to a disk of this size and checks that the error names `file` and what is `left`.
fn refused(bytes: u64, file: &str, left: &[&str]) {
    let workplace = Workplace::empty();
    let Some(disk) = Disk::mount(workplace.root(), bytes) else { return };
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out()).args(["--mode", "uniform", "--method", "rtn"]);
    let ended = run(&mut command);
    let found = names_in(workplace.root());
    drop(disk);
    ended.failed(&["cannot write", file, "No space left"]);
    assert_eq!(found, left);
}

#[test]
fn full_at_the_first_shard() {
    refused(1024 * KIB, "model-00001-of-00004.safetensors", &[]);
}

#[test]
fn full_at_a_later_shard() {
    refused(1600 * KIB, "model-00003-of-00004.safetensors", &[WORK]);
}

#[test]
fn full_when_all_weights_are_written() {
    refused(2200 * KIB, ".json", &[WORK]);
}
