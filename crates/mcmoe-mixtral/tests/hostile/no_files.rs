//! Folders, pipes and devices in the place of files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::{Silent, Tokenizer};

use super::folder::Folder;
use super::memory;

/// Bytes that finding out may take.
const FIXED: usize = 64 << 20;
/// Who takes so long waits for something that never comes.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_folder_is_refused() {
    in_the_place_of_every_file(|path| fs::create_dir(path).unwrap());
}

/// Nobody ever writes to it, so whoever opens or reads it never ends.
#[test]
fn a_pipe_is_refused() {
    in_the_place_of_every_file(|path| {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    });
}

/// Its length is zero and its bytes are without end.
#[test]
fn a_device_is_refused() {
    in_the_place_of_every_file(|path| symlink("/dev/zero", path).unwrap());
}

fn in_the_place_of_every_file(put: impl Fn(&Path)) {
    let _alone = memory::alone();
    for folder in [Folder::dense(), Folder::packed()] {
        for name in folder.names() {
            println!("{name}");
            let dir = folder.write();
            let path = dir.path().join(&name);
            fs::remove_file(&path).unwrap();
            put(&path);
            let (done, end) = mpsc::channel();
            let (place, bytes) = (dir.path().to_owned(), folder.bytes());
            thread::spawn(move || {
                let refused = memory::within(bytes, FIXED, || is_refused(&place));
                // Whoever lost patience is no longer there.
                let _ = done.send(refused);
            });
            assert_eq!(end.recv_timeout(PATIENCE), Ok(true), "{name}");
        }
    }
}

/// Whether model, checksums or tokenizer cannot be read from `dir`.
fn is_refused(dir: &Path) -> bool {
    let verified = ModelFolder::open(dir).and_then(|folder| folder.verify(&Silent));
    verified.is_err() || Tokenizer::read(dir).is_err()
}
