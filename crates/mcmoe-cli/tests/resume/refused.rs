//! What is not resumed: work of other options or inputs, damaged work, work that is under way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::common::{Ended, Workplace, names_in, run};
use crate::job::{DATA_FREE, Job, MIXED, Place, WORK, files_below};
use crate::stop::{FIRST_LAYER, Stopped, refuses, start, wait_for};

/// [`MIXED`] with `from` replaced.
fn changed(from: &str, to: &str) -> String {
    assert!(MIXED.contains(from), "{from}");
    MIXED.replace(from, to)
}

#[test]
fn other_options() {
    let workplace = Workplace::empty();
    let stopped = Stopped::half_way(Job::new(&workplace, MIXED));
    let others = [
        changed("--expert-bits 2.0", "--expert-bits 2.5"),
        changed("--expert-bits 2.0", "--bpw 2.5"),
        changed("--method gptq", "--method rtn"),
        format!("{MIXED} --attention-bits 8"),
        format!("{MIXED} --group-size 64"),
        format!("{MIXED} --mode uniform"),
    ];
    for options in others {
        refuses(&Job { options, ..stopped.job.clone() }, &["option"]);
    }
    // These are options and choose the calibration tokens: naming either is right.
    let others = [
        changed("--samples 8", "--samples 7"),
        changed("--seq-len 64", "--seq-len 32"),
        format!("{MIXED} --seed 1"),
    ];
    for options in others {
        let ended = run(&mut Job { options, ..stopped.job.clone() }.resume());
        let named = ["option", "calibration"].iter().any(|word| ended.stderr.contains(word));
        assert!(named, "{}", ended.stderr);
        ended.failed(&[WORK]);
    }
    stopped.goes_on(&mut stopped.job.resume());
}

#[test]
fn without_resume_other_options_start_over() {
    let workplace = Workplace::empty();
    let stopped = Stopped::half_way(Job::new(&workplace, MIXED));
    let other = Job { options: changed("--expert-bits 2.0", "--expert-bits 2.5"), ..stopped.job };
    run(&mut other.command()).done();
    other.check_result();
}

/// Checks that the job is not resumed while `damage` is done to each of `paths`.
#[track_caller]
fn damaged(stopped: &Stopped, paths: &[PathBuf], damage: fn(&Path), names: &[&str]) {
    let sound = |i: usize| stopped.job.out.with_file_name(format!("sound-{i}"));
    for (i, path) in paths.iter().enumerate() {
        fs::rename(path, sound(i)).unwrap();
        fs::copy(sound(i), path).unwrap();
        damage(path);
    }
    stopped.refuses(names);
    for (i, path) in paths.iter().enumerate() {
        fs::rename(sound(i), path).unwrap();
    }
}

/// Changes the bytes of the file at `path`.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn flip_first(path: &Path) {
    edit(path, |bytes| bytes[0] ^= 1);
}

fn flip_middle(path: &Path) {
    edit(path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
    });
}

fn flip_last(path: &Path) {
    edit(path, |bytes| *bytes.last_mut().unwrap() ^= 0x80);
}

fn empty(path: &Path) {
    edit(path, Vec::clear);
}

fn cut(path: &Path) {
    edit(path, |bytes| bytes.truncate(bytes.len() / 2));
}

fn cut_last(path: &Path) {
    edit(path, |bytes| bytes.truncate(bytes.len() - 1));
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[test]
fn damaged_work() {
    let workplace = Workplace::empty();
    let stopped = Stopped::half_way(Job::new(&workplace, MIXED));
    let work = files_below(&stopped.job.work());
    let of_type = |end: &str| -> Vec<PathBuf> {
        work.iter().filter(|path| path.to_str().unwrap().ends_with(end)).cloned().collect()
    };
    for damage in [flip_first, flip_middle, flip_last, empty, cut, cut_last] {
        damaged(&stopped, &[stopped.job.journal()], damage, &["journal.bin"]);
    }
    let shard = [stopped.job.unfinished(FIRST_LAYER)];
    for damage in [flip_middle, flip_last, empty, cut_last, remove] {
        damaged(&stopped, &shard, damage, &[FIRST_LAYER]);
    }
    // Not all of them may still be needed, but one is.
    let activations = of_type(".f32");
    assert!(!activations.is_empty(), "{work:?}");
    for damage in [flip_middle, flip_last, empty, cut_last, remove] {
        damaged(&stopped, &activations, damage, &[".f32"]);
    }
    stopped.goes_on(&mut stopped.job.resume());
}

/// The lowest bit of the last weight.
fn flip_weight(path: &Path) {
    edit(path, |bytes| {
        let low = bytes.len() - 2;
        bytes[low] ^= 1;
    });
}

fn another_epsilon(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("1e-05"), "{text}");
    fs::write(path, text.replace("1e-05", "2e-05")).unwrap();
}

fn more_words(path: &Path) {
    edit(path, |bytes| drop(bytes.splice(0..0, *b"Some more words, and then: ")));
}

#[test]
fn other_inputs() {
    let workplace = Workplace::dense();
    let stopped = Stopped::half_way(Job::of_copy(&workplace, MIXED));
    let of_model = |name: &str| [workplace.model().join(name)];
    for shard in 1..=3 {
        let shard = of_model(&format!("model-{shard:05}-of-00003.safetensors"));
        damaged(&stopped, &shard, flip_weight, &["weights"]);
    }
    damaged(&stopped, &of_model("config.json"), another_epsilon, &["config.json"]);
    damaged(&stopped, &of_model("calibration.txt"), more_words, &["calibration"]);
    stopped.goes_on(&mut stopped.job.resume());
}

/// Sends a signal.
fn signal(child: &Child, name: &str) {
    let script = format!("kill -{name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
}

#[test]
fn work_that_is_under_way() {
    let workplace = Workplace::empty();
    let job = Job::new(&workplace, MIXED);
    let other = Job { options: DATA_FREE.to_owned(), ..job.clone() };
    let mut child = start(&mut job.command());
    let journal = job.journal();
    assert!(wait_for(&mut child, || journal.exists()), "the run ended before it was stopped");
    signal(&child, "STOP");
    let others = [job.command(), job.resume(), other.command()].map(|mut command| run(&mut command));
    signal(&child, "CONT");
    Ended::from(child.wait_with_output().unwrap()).done();
    for ended in others {
        ended.failed(&[WORK]);
    }
    job.check_result();
}

#[test]
fn a_folder_of_other_files_is_no_work_folder() {
    let workplace = Workplace::empty();
    let dir = workplace.root().join("mine");
    fs::create_dir_all(dir.join("result")).unwrap();
    fs::write(dir.join("measuring-00001.f32"), "mine").unwrap();
    let job = Job::new(&workplace, DATA_FREE).at(Place::Given(dir.clone()));
    for mut command in [job.command(), job.resume()] {
        run(&mut command).failed(&["--work-dir", "mine", "empty folder"]);
    }
    assert_eq!(names_in(&dir), ["measuring-00001.f32", "result"]);
    assert!(!job.out.exists());
}
