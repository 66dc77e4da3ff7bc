//! Standard streams whose other end goes away, or that cannot be written.
#![cfg(unix)]

mod common;

use std::fs::OpenOptions;
use std::io::{PipeWriter, pipe};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{DEMO, Workplace, ask, mcmoe, run};

/// A pipe that nobody reads.
fn unread() -> PipeWriter {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    writer
}

fn generate() -> Command {
    let mut command = mcmoe("generate");
    command.args([DEMO, "--prompt", "The", "--max-new-tokens", "16"]);
    command
}

/// Runs `command` with nobody at the other end of stdout and checks that it ends in silence.
#[track_caller]
fn ends_quietly(command: &mut Command) {
    let child = command.stdout(unread()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{stderr}");
    assert_eq!(output.status.code(), Some(0), "{stderr}");
}

#[test]
fn a_reader_of_stdout_may_leave_early() {
    ends_quietly(&mut generate());
    ends_quietly(generate().arg("--json"));
    ends_quietly(mcmoe("inspect").arg(DEMO));
    ends_quietly(mcmoe("inspect").arg(DEMO).arg("--json"));
    ends_quietly(&mut mcmoe("--help"));
}

#[test]
fn the_head_of_a_text_can_be_taken() {
    let script =
        r#"{ "$0" generate "$1" --prompt The --max-new-tokens 16; echo "code $?" >&2; } | head -c 1"#;
    let ended = run(Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_mcmoe"), DEMO]));
    assert_eq!((ended.stdout.len(), ended.stderr.trim()), (1, "code 0"));
}

#[test]
fn a_reader_of_stderr_may_leave_early() {
    let code =
        |command: &mut Command| command.stdout(Stdio::null()).stderr(unread()).status().unwrap().code();
    assert_eq!(code(mcmoe("inspect").arg("no-such-folder")), Some(1), "an error that nobody reads");
    assert_eq!(code(mcmoe("factors").args([DEMO, "-o", "unused.json"])), Some(2), "wrong usage");
    let workplace = Workplace::empty();
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out()).args(["--mode", "uniform", "--method", "rtn"]);
    assert_eq!(code(&mut command), Some(0), "progress that nobody reads");
    ask("inspect", &workplace.out(), "").done();
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_stdout_is_an_error() {
    let dataset = format!("text:{DEMO}/evaluation.txt");
    let mut eval = mcmoe("eval");
    eval.args([DEMO, "--seq-len", "32", "--windows", "1", "--json", "--dataset", &dataset]);
    for command in [&mut generate(), mcmoe("inspect").arg(DEMO), &mut eval] {
        let full = OpenOptions::new().write(true).open(Path::new("/dev/full")).unwrap();
        let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
        common::Ended::from(output.unwrap()).failed(&["standard output", "No space left"]);
    }
}
