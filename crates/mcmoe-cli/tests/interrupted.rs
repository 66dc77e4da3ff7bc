//! A compression that is killed half-way leaves no folder that looks finished.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{DEMO, Workplace, ask, mcmoe, names_in, run};

fn compress(workplace: &Workplace) -> Command {
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out());
    command.args(["--mode", "uniform", "--method", "gptq", "--samples", "8", "--seq-len", "64"]);
    command.arg("--calibration").arg(format!("text:{DEMO}/calibration.txt"));
    command
}

/// The hidden folder that is filled before it gets its name.
fn staging(root: &Path) -> Option<PathBuf> {
    let name = names_in(root).into_iter().find(|name| name.starts_with(".out.incomplete-"))?;
    Some(root.join(name))
}

#[test]
fn a_killed_run_leaves_no_result_and_is_repeated_with_success() {
    let workplace = Workplace::empty();
    let mut child = compress(&workplace).stderr(Stdio::null()).spawn().unwrap();
    let has_shard = |dir: PathBuf| dir.join("model-00002-of-00004.safetensors").exists();
    while !staging(workplace.root()).is_some_and(has_shard) {
        assert_eq!(child.try_wait().unwrap(), None, "the run ended before it was killed");
        sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = names_in(workplace.root());
    assert!(left.iter().all(|name| name.starts_with(".out.incomplete-")), "{left:?}");

    run(&mut compress(&workplace)).done();
    ask("inspect", &workplace.out(), "").done();
    let _ = staging(workplace.root()).map(fs::remove_dir_all);
    assert_eq!(names_in(workplace.root()), ["out"]);
}
