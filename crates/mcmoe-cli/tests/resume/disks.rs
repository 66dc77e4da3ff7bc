//! A disk that gets full, and larger.

use crate::common::{Disk, Workplace, run};
use crate::job::{Job, MIXED, undisturbed};

/// Large enough for everything.
const LARGE: u64 = 64 << 20;

/// This share of what the result takes.
fn part(share: f64) -> u64 {
    let bytes: usize = undisturbed(MIXED).files.values().map(Vec::len).sum();
    (bytes as f64 * share) as u64
}

/// Runs the job on its full disk; returns whether layers are kept.
#[track_caller]
fn runs_out(job: &Job) -> bool {
    let dir = job.out.parent().unwrap().to_str().unwrap();
    run(&mut job.command()).failed(&["cannot write", dir, "No space left"]);
    job.check_failed()
}

#[test]
fn full_and_then_large() {
    let mut kept = false;
    for share in [0.02, 0.4, 0.7, 0.98] {
        let workplace = Workplace::empty();
        let Some(disk) = Disk::mount(workplace.root(), part(share)) else { return };
        let job = Job::new(&workplace, MIXED);
        kept = runs_out(&job);
        disk.resize(LARGE);
        job.finish(2);
    }
    assert!(kept, "nothing was kept on a disk that was almost large enough");
}

#[test]
fn growing_little_by_little() {
    let workplace = Workplace::empty();
    let Some(disk) = Disk::mount(workplace.root(), part(0.01)) else { return };
    let job = Job::new(&workplace, MIXED);
    let mut kept = runs_out(&job);
    for share in [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98] {
        disk.resize(part(share));
        let before = kept;
        kept = runs_out(&job);
        assert!(kept || !before, "layers are lost at {share}");
    }
    disk.resize(LARGE);
    job.finish(1);
}
