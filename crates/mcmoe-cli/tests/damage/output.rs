//! Places where no result can be written.

use std::fs;
use std::path::Path;

use crate::common::{DEMO, Ended, Workplace, mcmoe, names_in, run};

fn compress_to(out: &Path) -> Ended {
    run(mcmoe("compress").arg(DEMO).arg("-o").arg(out).args(["--mode", "uniform", "--method", "rtn"]))
}

#[test]
fn below_a_file() {
    let workplace = Workplace::empty();
    let file = workplace.root().join("a-file");
    fs::write(&file, "mine").unwrap();
    for out in [file.clone(), file.join("out"), file.join("deep/out")] {
        compress_to(&out).failed(&["cannot write", "a-file"]);
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    assert_eq!(names_in(workplace.root()), ["a-file"]);
}

#[test]
fn where_something_is_already() {
    let workplace = Workplace::empty();
    fs::create_dir(workplace.out()).unwrap();
    fs::write(workplace.out().join("precious"), "mine").unwrap();
    compress_to(&workplace.out()).failed(&["out", "not empty"]);
    assert_eq!(names_in(&workplace.out()), ["precious"]);
    assert_eq!(names_in(workplace.root()), ["out"]);
}

#[test]
fn on_the_model_itself() {
    let workplace = Workplace::dense();
    let before = names_in(&workplace.model());
    let mut command = mcmoe("compress");
    command.arg(workplace.model()).arg("-o").arg(workplace.model());
    run(command.args(["--mode", "uniform", "--method", "rtn"])).failed(&["model", "not empty"]);
    assert_eq!(names_in(&workplace.model()), before);
}

#[test]
#[cfg(target_os = "linux")]
fn where_the_system_allows_no_folder() {
    compress_to(Path::new("/proc/nothing/out")).failed(&["cannot write", "/proc/nothing"]);
    compress_to(Path::new("/proc/out")).failed(&["cannot write", "/proc/out"]);
}

/// An empty folder is as good as none, whatever it is called.
#[test]
#[cfg(unix)]
fn an_empty_folder_is_no_obstacle() {
    let workplace = Workplace::empty();
    let (folder, link) = (workplace.root().join("folder"), workplace.root().join("link"));
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    compress_to(&link).done();
    assert!(link.join("config.json").is_file());

    let here = workplace.root().join("here");
    fs::create_dir(&here).unwrap();
    let mut command = mcmoe("compress");
    command.current_dir(&here).arg(DEMO).args(["-o", ".", "--mode", "uniform", "--method", "rtn"]);
    run(&mut command).done();
    assert!(here.join("config.json").is_file());
}
