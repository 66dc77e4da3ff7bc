//! The same bytes on any number of threads, from any shards, and wherever the work lies.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use crate::common::{DEMO, Workplace, names_in, reshard, run};
use crate::job::{DATA_FREE, Job, MIXED, Place, THREADS};
use crate::stop::Stopped;

/// A folder that lies on another file system than those of tests; `None`, and a word on stderr, where
/// there is no other.
pub(crate) fn other_file_system() -> Option<TempDir> {
    let shared_memory = Path::new("/dev/shm");
    let device = |dir: &Path| fs::metadata(dir).ok().map(|metadata| metadata.dev());
    let differs = device(shared_memory).is_some_and(|dev| Some(dev) != device(&std::env::temp_dir()));
    let other = if differs { TempDir::new_in(shared_memory).ok() } else { None };
    if other.is_none() {
        eprintln!("SKIPPED: there is no second file system at {}", shared_memory.display());
    }
    other
}

#[test]
fn however_the_weights_are_sharded() {
    for (files, threads) in [(1, "1"), (7, "2")] {
        let workplace = Workplace::empty();
        reshard(Path::new(DEMO), &workplace.model(), files);
        let job = Job::of_copy(&workplace, MIXED);
        run(job.command().env(THREADS, threads)).done();
        job.check_result();
    }
}

/// Stops a job that works in the folder `work` and resumes it.
fn stop_and_finish(workplace: &Workplace, work: &Path) {
    let job = Job::new(workplace, MIXED).at(Place::Given(work.to_owned()));
    Stopped::half_way(job).job.finish(2);
}

#[test]
fn with_work_in_a_new_folder() {
    let workplace = Workplace::empty();
    stop_and_finish(&workplace, &workplace.root().join("deep/work"));
}

#[test]
fn with_work_on_another_file_system() {
    let Some(other) = other_file_system() else { return };
    stop_and_finish(&Workplace::empty(), &other.path().join("work"));
}

#[test]
fn with_work_in_the_output_folder() {
    let workplace = Workplace::empty();
    Stopped::half_way(Job::new(&workplace, MIXED).at(Place::Inside)).job.finish(1);
    assert_eq!(names_in(workplace.root()), ["out"]);
}

#[test]
fn a_work_folder_of_the_users_stays() {
    let workplace = Workplace::empty();
    let work = workplace.root().join("work");
    let job = Job::new(&workplace, DATA_FREE).at(Place::Given(work.clone()));
    fs::create_dir(&work).unwrap();
    run(&mut job.command()).done();
    job.check_result();
    assert!(work.exists());
}

#[test]
fn a_work_folder_of_our_own_goes() {
    let workplace = Workplace::empty();
    let job = Job::new(&workplace, DATA_FREE).at(Place::Given(workplace.root().join("work")));
    run(&mut job.command()).done();
    job.check_result();
    assert_eq!(names_in(workplace.root()), ["out"]);
}
