//! Calls to the file system that fail, one a run: the run ends with an error that names the file, or gets
//! along, and a run that resumes it ends in the same bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::{Workplace, run};
use crate::job::{Job, MIXED};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resume/faults.c");

/// What fails, and how.
#[derive(Clone, Copy)]
struct Fault {
    /// `read` or `write`.
    kind: &'static str,
    errno: &'static str,
    /// What the error says.
    words: &'static [&'static str],
}

const READ: Fault = Fault { kind: "read", errno: "EIO", words: &["Input/output error"] };
const WRITE: Fault = Fault { kind: "write", errno: "EIO", words: &["cannot write", "Input/output error"] };
const FULL: Fault = Fault { kind: "write", errno: "ENOSPC", words: &["cannot write", "No space left"] };

/// The library that lets calls fail, compiled.
struct Library {
    dir: TempDir,
    fault: Fault,
}

/// What it says of a run.
struct Log {
    calls: usize,
    /// Function and path of the call that failed.
    failed: Option<String>,
}

impl Library {
    /// `None`, and a word on stderr, where that cannot be.
    fn of(fault: Fault) -> Option<Self> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            eprintln!("SKIPPED: calls are made to fail on Linux with glibc only");
            return None;
        }
        let dir = TempDir::new().unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-o"]).arg(dir.path().join("faults.so"));
        match cc.args([SOURCE, "-ldl"]).output() {
            Ok(output) => {
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                Some(Self { dir, fault })
            }
            Err(error) => {
                eprintln!("SKIPPED: no C compiler: cc: {error}");
                None
            }
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Loads the library into a run of `job`; only files below `root` count, and of their calls number
    /// `call` fails, none if it is 0.
    fn load(&self, job: &Job, root: &Path, call: usize) -> Command {
        let mut command = job.command();
        command.env("LD_PRELOAD", self.dir.path().join("faults.so"));
        command.env("MCMOE_FAULT_ROOT", root.canonicalize().unwrap());
        command.env("MCMOE_FAULT_KIND", self.fault.kind).env("MCMOE_FAULT_ERRNO", self.fault.errno);
        command.env("MCMOE_FAULT_LOG", self.log()).env("MCMOE_FAULT_CALL", call.to_string());
        command
    }

    /// What was said of the last run.
    fn take_log(&self) -> Log {
        let text = fs::read_to_string(self.log()).unwrap();
        fs::remove_file(self.log()).unwrap();
        let calls = text.lines().find_map(|line| line.strip_prefix("calls "));
        let failed = text.lines().find(|line| !line.starts_with("calls "));
        let calls = calls.expect("the run ended in order").parse().unwrap();
        Log { calls, failed: failed.map(str::to_owned) }
    }

    /// Calls of a run in which none fails.
    fn count(&self) -> usize {
        let workplace = Workplace::dense();
        let job = Job::of_copy(&workplace, MIXED);
        run(&mut self.load(&job, workplace.root(), 0)).done();
        job.check_result();
        let Log { calls, failed } = self.take_log();
        assert_eq!(failed, None);
        calls
    }

    /// Lets call number `call` of a run fail and resumes the run. Returns whether a call failed, and
    /// whether layers were kept.
    fn strike(&self, call: usize) -> (bool, bool) {
        let workplace = Workplace::dense();
        let job = Job::of_copy(&workplace, MIXED);
        let ended = run(&mut self.load(&job, workplace.root(), call));
        let Log { calls, failed } = self.take_log();
        eprintln!("{} call {call} of {calls} failed: {failed:?}", self.fault.kind);
        let mut kept = false;
        if ended.code == Some(0) {
            job.check_result();
        } else {
            let root = workplace.root().to_str().unwrap();
            ended.failed(&[&[root], self.fault.words].concat());
            kept = job.check_failed();
        }
        job.finish(2);
        (failed.is_some(), kept)
    }
}

/// Lets as many calls as `strikes`, spread evenly over a run, fail in a run each.
fn spread(fault: Fault, strikes: usize) {
    let Some(library) = Library::of(fault) else { return };
    let calls = library.count();
    assert!(calls >= strikes, "{calls} {} calls", fault.kind);
    let (mut failed, mut kept) = (0, 0);
    for i in 0..strikes {
        let (hit, layers) = library.strike(1 + i * (calls - 1) / (strikes - 1));
        failed += usize::from(hit);
        kept += usize::from(layers);
    }
    assert!(2 * failed > strikes, "only {failed} of {strikes} calls failed");
    assert!(kept > 0, "no run left layers to go on with");
}

#[test]
fn some_reads() {
    spread(READ, 6);
}

#[test]
fn some_writes() {
    spread(WRITE, 9);
}

#[test]
#[ignore = "slow: 24 runs"]
fn many_reads() {
    spread(READ, 24);
}

#[test]
#[ignore = "slow: 60 runs"]
fn many_writes() {
    spread(WRITE, 30);
    spread(FULL, 30);
}
