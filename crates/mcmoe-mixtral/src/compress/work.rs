//! The folder where an unfinished compression lives.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::fingerprint::Fingerprint;
use super::journal::Journal;
use crate::MixtralError;
use crate::folder::beside;

/// The name of work folders: hidden, beside the output or in it.
const NAME: &str = "mcmoe-work";
/// The file that marks a folder as ours to clear, locked while a run uses it.
const LOCK: &str = "mcmoe.lock";

/// A work folder in use by this run alone.
#[derive(Debug)]
pub(super) struct WorkFolder {
    dir: PathBuf,
    /// Nobody chose the folder.
    hidden: bool,
    /// The folder is made for the work: it goes when the work is done.
    made: bool,
    /// A run has been here before.
    known: bool,
    lock: File,
}

/// What the lock of a folder says that was made for the work.
const MADE: &[u8] = b"made";

impl WorkFolder {
    /// Opens or makes the work folder for `out`: `chosen`, else beside `out`, or in it if that is an empty
    /// folder.
    ///
    /// # Errors
    /// [`MixtralError::OutputExists`] if `out` is not empty and no run for it is under way,
    /// [`MixtralError::Option`] if the folder holds files that are not ours, or `out`,
    /// [`MixtralError::WorkInUse`] if another run uses it, [`MixtralError::Write`].
    pub(super) fn open(out: &Path, chosen: Option<&Path>) -> Result<Self, MixtralError> {
        let dir = chosen.map_or_else(|| default_dir(out), Path::to_owned);
        let made = !dir.exists();
        let known = dir.join(LOCK).exists() || chosen.is_none() && !made;
        if made && !names_besides_work(out)?.is_empty() {
            return Err(MixtralError::OutputExists { path: out.to_owned() });
        }
        if !made && !known && has_entries(&dir)? {
            let reason = format!("{} holds other files; choose an empty folder", dir.display());
            return Err(MixtralError::option("--work-dir", reason));
        }
        if is_within(out, &dir) {
            let reason = format!("the output {} would lie in {}", out.display(), dir.display());
            return Err(MixtralError::option("--work-dir", reason));
        }
        let named = if chosen.is_some() { dir.as_path() } else { out };
        fs::create_dir_all(&dir).map_err(|e| MixtralError::write(named, e))?;
        let path = dir.join(LOCK);
        let refused = |e| MixtralError::write(&path, e);
        let lock = File::options().read(true).append(true).create(true).open(&path).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MixtralError::WorkInUse { path: dir }),
            Err(TryLockError::Error(e)) => return Err(refused(e)),
        }
        if made {
            (&lock).write_all(MADE).map_err(refused)?;
        }
        let made = made || fs::read(&path).is_ok_and(|text| text == MADE);
        Ok(Self { dir, hidden: chosen.is_none(), made, known, lock })
    }

    /// Whether a run has used the folder before.
    pub(super) const fn is_known(&self) -> bool {
        self.known
    }

    /// The folder itself.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the result grows.
    pub(super) fn result(&self) -> PathBuf {
        self.dir.join("result")
    }

    fn journal_path(&self) -> PathBuf {
        self.dir.join("journal.bin")
    }

    /// There is something that a run could go on from.
    pub(super) fn has_journal(&self) -> bool {
        self.journal_path().exists()
    }

    /// The journal of the run to go on with: the one here if it was of the same inputs, else a new one.
    ///
    /// # Errors
    /// With `resume`, [`MixtralError::OtherRun`] if the run here was of other inputs, and
    /// [`MixtralError::Journal`] if its journal is damaged.
    pub(super) fn journal(&self, fingerprint: Fingerprint, resume: bool) -> Result<Journal, MixtralError> {
        let path = self.journal_path();
        if self.has_journal() {
            let found = Journal::read(&path).and_then(|journal| {
                match journal.state.fingerprint.difference(&fingerprint) {
                    None => Ok(journal),
                    Some(what) => Err(MixtralError::OtherRun { path: self.dir.clone(), what }),
                }
            });
            match found {
                Ok(journal) => {
                    tracing::info!(work_dir = %self.dir.display(), layers = journal.layers_done(), "going on");
                    return Ok(journal);
                }
                Err(error) if resume || matches!(error, MixtralError::Read { .. }) => return Err(error),
                Err(reason) => tracing::warn!("starting over: {reason}"),
            }
        }
        self.clear(true)?;
        fs::create_dir_all(self.result()).map_err(|e| MixtralError::write(&self.result(), e))?;
        Ok(Journal::new(&path, fingerprint))
    }

    /// Removes activations but those in `keep`: others were on their way when the run stopped.
    pub(super) fn remove_activations(&self, keep: Option<&Path>) -> Result<(), MixtralError> {
        let refused = |e| MixtralError::write(&self.dir, e);
        for entry in fs::read_dir(&self.dir).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            if path.extension().is_some_and(|extension| extension == "f32") && Some(path.as_path()) != keep {
                fs::remove_file(&path).map_err(|e| MixtralError::write(&path, e))?;
            }
        }
        Ok(())
    }

    /// Removes what is in the result besides these shards: the last files of a run that was stopped there.
    pub(super) fn keep_only(&self, shards: &[PathBuf]) -> Result<(), MixtralError> {
        let result = self.result();
        let refused = |e| MixtralError::write(&result, e);
        for entry in fs::read_dir(&result).map_err(refused)? {
            let path = entry.map_err(refused)?.path();
            if !shards.contains(&path) {
                fs::remove_file(&path).map_err(|e| MixtralError::write(&path, e))?;
            }
        }
        Ok(())
    }

    /// Removes everything of a run; the journal last, or first if the run is not to be gone on with.
    fn clear(&self, forget: bool) -> Result<(), MixtralError> {
        let remove = |path: PathBuf| match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(MixtralError::write(&path, e)),
            _ => Ok(()),
        };
        if forget {
            remove(self.journal_path())?;
        }
        match fs::remove_dir_all(self.result()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(MixtralError::write(&self.result(), e));
            }
            _ => {}
        }
        self.remove_activations(None)?;
        remove(self.journal_path().with_extension("partial"))?;
        if forget { Ok(()) } else { remove(self.journal_path()) }
    }

    /// Removes what is left of a run that is complete or leads nowhere.
    pub(super) fn remove(self) -> Result<(), MixtralError> {
        self.clear(false)?;
        let Self { dir, hidden, made, lock, .. } = self;
        // Where open files cannot be removed, the lock is let go first.
        let lock = cfg!(unix).then_some(lock);
        let refused = |e| MixtralError::write(&dir, e);
        fs::remove_file(dir.join(LOCK)).map_err(refused)?;
        let removed = if hidden || made { fs::remove_dir(&dir).map_err(refused) } else { Ok(()) };
        drop(lock);
        removed
    }

    /// After `error`: what is on record stays, unless nobody named the folder and the model has to change
    /// before another run can come further.
    pub(super) fn leave(self, error: &MixtralError) {
        let dir = self.dir.clone();
        if self.has_journal() && !(self.hidden && is_of_the_model(error)) {
            let advice = match error {
                MixtralError::Checksum { .. } => "remove it to start over",
                _ => "the same command goes on from there",
            };
            tracing::warn!("the work so far is kept in {}: {advice}", dir.display());
        } else if let Err(e) = self.remove() {
            tracing::warn!("{e}");
        }
    }
}

/// Whether the weights or options themselves are to blame.
const fn is_of_the_model(error: &MixtralError) -> bool {
    use MixtralError as E;
    matches!(
        error,
        E::NotFinite { .. }
            | E::TensorNotFinite { .. }
            | E::TensorShape { .. }
            | E::TensorType { .. }
            | E::MissingTensor { .. }
            | E::Quantize { .. }
            | E::Option { .. }
    )
}

fn is_within(path: &Path, dir: &Path) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute(path).starts_with(absolute(dir))
}

fn has_entries(dir: &Path) -> Result<bool, MixtralError> {
    let mut entries = fs::read_dir(dir).map_err(|e| MixtralError::write(dir, e))?;
    Ok(entries.next().is_some())
}

fn default_dir(out: &Path) -> PathBuf {
    let near = beside(out, NAME);
    if out.file_name().is_some() && (near.exists() || !out.exists()) { near } else { inside(out) }
}

fn inside(out: &Path) -> PathBuf {
    out.join(format!(".{NAME}"))
}

/// Names in the output folder, our work folder left out.
pub(super) fn names_besides_work(out: &Path) -> Result<Vec<String>, MixtralError> {
    if !out.exists() {
        return Ok(Vec::new());
    }
    let refused = |e| MixtralError::write(out, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(out).map_err(refused)? {
        names.push(entry.map_err(refused)?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| Some(name.as_str()) != inside(out).file_name().and_then(|name| name.to_str()));
    Ok(names)
}
