//! The folder where an unfinished compression lives.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::fingerprint::Fingerprint;
use super::journal::Journal;
use crate::MixtralError;
use crate::folder::beside;

/// The name of work folders: hidden, beside the output or in it.
const NAME: &str = "mcmoe-work";

/// A work folder in use by this run alone.
#[derive(Debug)]
pub(super) struct WorkFolder {
    dir: PathBuf,
    /// The folder is ours alone: it goes when the work is done.
    ours: bool,
    lock: File,
}

impl WorkFolder {
    /// Opens or makes the work folder for `out`: `chosen`, else beside `out`, or in it if that is an empty
    /// folder.
    ///
    /// # Errors
    /// [`MixtralError::OutputExists`] if `out` is not empty and no run for it is under way,
    /// [`MixtralError::WorkInUse`] if one is at this moment, [`MixtralError::Write`].
    pub(super) fn open(out: &Path, chosen: Option<&Path>) -> Result<Self, MixtralError> {
        let dir = chosen.map_or_else(|| default_dir(out), Path::to_owned);
        let known = dir.exists();
        if !known && !names_besides_work(out)?.is_empty() {
            return Err(MixtralError::OutputExists { path: out.to_owned() });
        }
        let named = if chosen.is_some() { dir.as_path() } else { out };
        fs::create_dir_all(&dir).map_err(|e| MixtralError::write(named, e))?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(|e| MixtralError::write(&path, e))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, ours: chosen.is_none() || !known, lock }),
            Err(TryLockError::WouldBlock) => Err(MixtralError::WorkInUse { path: dir }),
            Err(TryLockError::Error(e)) => Err(MixtralError::write(&path, e)),
        }
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
                Err(error) if resume => return Err(error),
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
        let Self { dir, ours, lock } = self;
        drop(lock);
        let refused = |e| MixtralError::write(&dir, e);
        fs::remove_file(dir.join("lock")).map_err(refused)?;
        if ours { fs::remove_dir(&dir).map_err(refused) } else { Ok(()) }
    }

    /// After `error`: keeps the work if it can be gone on with, because only a file or a disk failed.
    pub(super) fn leave(self, journal: Option<&Journal>, error: &MixtralError) {
        let layers = journal.map_or(0, Journal::layers_done);
        let outside = matches!(
            error,
            MixtralError::Read { .. } | MixtralError::Write { .. } | MixtralError::Checksum { .. }
        );
        let worth = if journal.is_some() { layers > 0 && outside } else { self.has_journal() };
        if worth || !self.ours && layers > 0 {
            if layers > 0 {
                tracing::warn!(
                    "{layers} layers are done and kept in {}: --resume goes on",
                    self.dir.display()
                );
            }
        } else if let Err(e) = self.remove() {
            tracing::warn!("{e}");
        }
    }
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
