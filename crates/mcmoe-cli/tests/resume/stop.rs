//! Runs that are stopped on purpose.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::common::{Ended, run};
use crate::job::{Job, WORK};

/// Time between two looks at a run.
const POLL: Duration = Duration::from_micros(200);
/// The number of the signal that cannot be caught.
const SIGKILL: i32 = 9;
/// Holds the first decoder layer of the compressed demo.
pub(crate) const FIRST_LAYER: &str = "model-00002-of-00004.safetensors";

/// Starts `command` with its output kept.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool starts")
}

/// Waits until `ready` says so or the run is over; returns whether it still runs.
pub(crate) fn wait_for(child: &mut Child, ready: impl Fn() -> bool) -> bool {
    while !ready() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        sleep(POLL);
    }
    true
}

/// Runs `command` and kills it as soon as `ready` says so. Returns whether it was killed; a run that
/// was quicker has to be a success.
#[track_caller]
pub(crate) fn kill_when(command: &mut Command, ready: impl Fn() -> bool) -> bool {
    let mut child = start(command);
    wait_for(&mut child, ready);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let killed = output.status.signal() == Some(SIGKILL);
    if !killed {
        Ended::from(output).done();
    }
    killed
}

/// As [`kill_when`], after a time.
#[track_caller]
pub(crate) fn kill_after(command: &mut Command, delay: Duration) -> bool {
    let started = Instant::now();
    kill_when(command, || started.elapsed() >= delay)
}

/// A job stopped in its middle: its first layer is done and recorded, its last one is not.
pub(crate) struct Stopped {
    pub(crate) job: Job,
    /// When the first layer was written.
    written: Option<SystemTime>,
}

impl Stopped {
    pub(crate) fn half_way(job: Job) -> Self {
        let first = job.unfinished(FIRST_LAYER);
        let recorded = || {
            let written = modified(&first);
            written.is_some() && modified(&job.journal()) > written
        };
        let killed = kill_when(&mut job.command(), recorded);
        assert!(killed && !job.is_complete(), "the run ended before it was stopped");
        let written = modified(&first);
        Self { job, written }
    }

    /// Checks that the job is not resumed, and that the error holds all of `names`.
    #[track_caller]
    pub(crate) fn refuses(&self, names: &[&str]) {
        refuses(&self.job, names);
    }

    /// Goes on by `command` and checks the result; the first layer is not done again.
    #[track_caller]
    pub(crate) fn goes_on(&self, command: &mut Command) {
        run(command).done();
        let written = modified(&self.job.out.join(FIRST_LAYER));
        assert_eq!(written, self.written, "the first layer was done again");
        self.job.check_result();
    }
}

/// Checks that `job` does not go on with the work it finds, and that the error holds all of `names`.
#[track_caller]
pub(crate) fn refuses(job: &Job, names: &[&str]) {
    run(&mut job.resume()).failed(&[&[WORK], names].concat());
    assert!(job.journal().exists() && !job.out.exists());
}

/// When the file at `path` was last written; `None` if there is none.
pub(crate) fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
