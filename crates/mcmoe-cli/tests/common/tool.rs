//! Runs the tool and looks at how it ended.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `mcmoe SUBCOMMAND`, arguments to be added.
pub(crate) fn mcmoe(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcmoe"));
    command.arg(subcommand).env_remove("RUST_LOG").env_remove("RAYON_NUM_THREADS");
    command
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    command.output().expect("the tool starts").into()
}

/// `mcmoe SUBCOMMAND DIR ARGS…`, run; arguments are separated by spaces.
pub(crate) fn ask(subcommand: &str, dir: &Path, args: &str) -> Ended {
    run(mcmoe(subcommand).arg(dir).args(args.split_whitespace()))
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the tool writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ended {
    /// What a successful run printed.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// The JSON object that is all a successful run printed.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.done();
        assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
        assert!(text.ends_with('\n'), "a whole line: {text}");
        let value: Value = serde_json::from_str(&text).expect("JSON on stdout");
        assert!(value.is_object(), "{value}");
        value
    }

    /// Checks that the run failed as failures should: exit code 1, an error that holds all of `names`
    /// on stderr, nothing on stdout, no panic.
    #[track_caller]
    pub(crate) fn failed(self, names: &[&str]) {
        self.refused(1, names);
    }

    /// As [`Ended::failed`], with another exit code.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, names: &[&str]) {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains("error: "), "{}", self.stderr);
        for name in names {
            assert!(self.stderr.contains(name), "should name {name:?}: {}", self.stderr);
        }
        assert_eq!(self.stdout, "", "an error is told on stderr alone");
    }
}
