//! The three ways to say how large the result may be.

use mcmoe_mixtral::Method;
use mcmoe_mixtral::compress::SizeGoal;

use super::common::compression::{run, try_run};
use super::{allocated_bits, calibrated, expert_bpw, files, small};

#[test]
fn average_code_bits() {
    let model = small(1);
    for average in [1.5, 2.0, 2.3] {
        let (dir, _) = run(model.path(), &rounded(SizeGoal::ExpertBits(average)));
        let bits: u32 = allocated_bits(dir.path())[0].iter().sum();
        let room = average * 8.0;
        assert!(f64::from(bits) <= room && f64::from(bits) > room - 1.0, "{bits} of {room} bits");
    }
}

#[test]
fn stored_bits_a_weight() {
    let model = small(1);
    // A step is one expert a bit wider: an eighth of a bit on average.
    for goal in [1.8, 2.25, 2.6] {
        let (dir, _) = run(model.path(), &rounded(SizeGoal::BitsPerWeight(goal)));
        let found = expert_bpw(dir.path());
        println!("{found} of {goal} bits a weight");
        assert!(found <= goal && found > goal - 0.125, "{found} of {goal}");
    }
}

#[test]
fn bytes_of_the_whole_folder() {
    let model = small(1);
    let smallest = folder_bytes(&run(model.path(), &rounded(SizeGoal::ExpertBits(1.5))).0);
    // An expert that is a bit wider takes 6,144 bytes more; some room is kept for headers and reports.
    let mut widths = Vec::new();
    for most in [smallest + 75_000, smallest + 100_000, smallest + 125_000] {
        let (dir, _) = run(model.path(), &rounded(SizeGoal::Bytes(most)));
        let found = folder_bytes(&dir);
        println!("{found} of {most} bytes");
        assert!(found <= most, "{found} bytes for {most}");
        widths.push(allocated_bits(dir.path())[0].iter().sum::<u32>());
    }
    assert!(widths.is_sorted_by(|less, more| less < more), "{widths:?}");
}

#[test]
fn a_size_that_cannot_be_met_is_refused_and_nothing_is_left() {
    let (model, parent) = (small(1), tempfile::TempDir::new().unwrap());
    for goal in [SizeGoal::Bytes(100_000), SizeGoal::BitsPerWeight(1.0), SizeGoal::ExpertBits(0.5)] {
        let error = try_run(model.path(), &parent.path().join("out"), &rounded(goal)).unwrap_err();
        println!("{goal:?}: {error}");
        let left: Vec<_> = std::fs::read_dir(parent.path()).unwrap().collect();
        assert!(left.is_empty(), "{goal:?} leaves {left:?}");
    }
}

fn rounded(size: SizeGoal) -> mcmoe_mixtral::compress::CompressOptions {
    calibrated().method(Method::Rtn).size(size)
}

fn folder_bytes(dir: &tempfile::TempDir) -> u64 {
    files(dir.path()).values().map(|bytes| bytes.len() as u64).sum()
}
