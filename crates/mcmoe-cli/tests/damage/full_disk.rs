//! A disk that is full before the result is complete.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use crate::common::{DEMO, Workplace, mcmoe, names_in, run};

/// A file system in memory, mounted over a folder until it is dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// Mounts one of this `size` at `dir`; `None` where that is not allowed.
    fn mount(dir: &'a Path, size: &str) -> Option<Self> {
        let option = format!("size={size}");
        let mut command = Command::new("mount");
        let ended = command.args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(dir).output();
        ended.is_ok_and(|ended| ended.status.success()).then_some(Self(dir))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}

/// Compresses to a disk of this size and checks that the error names `file`.
fn refused(size: &str, file: &str) {
    let workplace = Workplace::empty();
    let Some(disk) = Disk::mount(workplace.root(), size) else {
        eprintln!("SKIPPED: a full disk needs the right to mount one");
        return;
    };
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out()).args(["--mode", "uniform", "--method", "rtn"]);
    let ended = run(&mut command);
    let left = names_in(workplace.root());
    drop(disk);
    ended.failed(&["cannot write", file, "No space left"]);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn full_at_the_first_shard() {
    refused("1m", "model-00001-of-00004.safetensors");
}

#[test]
fn full_at_a_later_shard() {
    refused("1600k", "model-00003-of-00004.safetensors");
}

#[test]
fn full_when_all_weights_are_written() {
    refused("2200k", ".json");
}
