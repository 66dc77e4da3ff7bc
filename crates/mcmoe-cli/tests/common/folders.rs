//! Model folders to work on: the demo, copies of it, a compressed one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::{mcmoe, run};

/// The demo model.
pub(crate) const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/demo-mixtral");

/// A folder of a test's own that holds a model, and nothing else until the tool is run.
pub(crate) struct Workplace {
    root: TempDir,
}

impl Workplace {
    /// With a copy of the dense demo model.
    pub(crate) fn dense() -> Self {
        Self::with(Path::new(DEMO))
    }

    /// With a copy of the model in `dir`.
    pub(crate) fn with(dir: &Path) -> Self {
        let workplace = Self { root: TempDir::new().unwrap() };
        copy_folder(dir, &workplace.model());
        workplace
    }

    /// Without a model.
    pub(crate) fn empty() -> Self {
        Self { root: TempDir::new().unwrap() }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The model's folder.
    pub(crate) fn model(&self) -> PathBuf {
        self.root().join("model")
    }

    /// Where results go.
    pub(crate) fn out(&self) -> PathBuf {
        self.root().join("out")
    }

    /// Compresses the model without calibration and checks that this fails as it should, and that
    /// nothing is left of the attempt.
    #[track_caller]
    pub(crate) fn refuses(&self, names: &[&str]) {
        self.refuses_with("--mode uniform --method rtn", names);
    }

    /// As [`Workplace::refuses`] with these arguments, separated by spaces.
    #[track_caller]
    pub(crate) fn refuses_with(&self, args: &str, names: &[&str]) {
        let before = names_in(self.root());
        let mut command = mcmoe("compress");
        command.arg(self.model()).arg("-o").arg(self.out()).args(args.split_whitespace());
        run(&mut command).failed(names);
        assert_eq!(names_in(self.root()), before, "a failed run leaves nothing behind");
    }
}

/// Copies the files of `from` into a new folder `to`.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in files_of(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// Names and contents of the files in `dir`.
pub(crate) fn files_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    names_in(dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

/// Names of everything in `dir`, hidden things too, sorted.
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort_unstable();
    names
}

/// The demo model compressed with `args`, made once a test binary; all its tests have to give the same.
pub(crate) fn compressed(args: &str) -> &'static Path {
    static MADE: OnceLock<Kept> = OnceLock::new();
    let kept = MADE.get_or_init(|| {
        let dir = TempDir::new().unwrap().keep();
        let out = dir.join("compressed");
        let mut command = mcmoe("compress");
        run(command.arg(DEMO).arg("-o").arg(&out).args(args.split_whitespace())).done();
        Kept { out, args: args.to_owned(), _remover: remove_at_exit(&dir) }
    });
    assert_eq!(kept.args, args);
    &kept.out
}

/// A folder that lives as long as the test binary.
struct Kept {
    out: PathBuf,
    args: String,
    _remover: Child,
}

/// Starts a process that removes `dir` once this one has ended: nothing drops a static.
fn remove_at_exit(dir: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", r#"cat; rm -rf -- "$0""#]).arg(dir);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
