//! File systems of a chosen size.

use std::path::Path;
use std::process::Command;

/// A file system in memory, mounted over a folder until it is dropped.
pub(crate) struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// Mounts one of `bytes` at `dir`; `None`, and a word on stderr, where that is not allowed.
    pub(crate) fn mount(dir: &'a Path, bytes: u64) -> Option<Self> {
        let option = format!("size={bytes}");
        let mut command = Command::new("mount");
        let ended = command.args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(dir).output();
        if ended.is_ok_and(|ended| ended.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: a full disk needs the right to mount one");
        None
    }

    /// Gives it another size; what it holds stays.
    pub(crate) fn resize(&self, bytes: u64) {
        let option = format!("remount,size={bytes}");
        let resized = Command::new("mount").args(["-o", &option]).arg(self.0).status();
        assert!(resized.is_ok_and(|status| status.success()), "{} keeps its size", self.0.display());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{} stays mounted", self.0.display());
    }
}
