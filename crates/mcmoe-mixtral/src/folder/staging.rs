//! An output folder that appears only when it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::MixtralError;

/// A hidden folder that becomes the output folder by [`Staging::commit`], and is removed if that
/// never comes.
///
/// It lies beside the output folder and is renamed; if the output is an existing empty folder (`.`, a
/// link, a mount point), it lies inside and its files move up, `config.json` last.
#[derive(Debug)]
pub(crate) struct Staging {
    temporary: TempDir,
    target: PathBuf,
    inside: bool,
}

impl Staging {
    /// Prepares to fill `target`, which must not exist or be an empty folder.
    pub(crate) fn create(target: &Path) -> Result<Self, MixtralError> {
        let refused = |e| MixtralError::write(target, e);
        let inside = target.exists();
        if inside && fs::read_dir(target).map_err(refused)?.next().is_some() {
            return Err(MixtralError::OutputExists { path: target.to_owned() });
        }
        let parent = match target.parent() {
            _ if inside => target,
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|e| MixtralError::write(parent, e))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}.incomplete-"))
            .tempdir_in(parent)
            .map_err(refused)?;
        Ok(Self { temporary, target: target.to_owned(), inside })
    }

    /// The folder to write to.
    pub(crate) fn dir(&self) -> &Path {
        self.temporary.path()
    }

    /// Copies those of `names` that exist in `from`.
    pub(crate) fn copy(&self, from: &Path, names: &[&str]) -> Result<(), MixtralError> {
        for name in names {
            let (source, target) = (from.join(name), self.dir().join(name));
            if source.is_file() {
                let bytes = fs::read(&source).map_err(|e| MixtralError::read(&source, e))?;
                fs::write(&target, bytes).map_err(|e| MixtralError::write(&target, e))?;
            }
        }
        Ok(())
    }

    /// Gives the folder its name.
    pub(crate) fn commit(self) -> Result<(), MixtralError> {
        let refused = |e| MixtralError::write(&self.target, e);
        open_to_others(self.temporary.path()).map_err(refused)?;
        sync(self.temporary.path()).map_err(refused)?;
        if self.inside {
            return self.move_up().and_then(|()| sync_folder(&self.target)).map_err(refused);
        }
        fs::rename(self.temporary.path(), &self.target).map_err(refused)?;
        // The folder has moved away from the name that would be removed.
        let parent = self.temporary.keep().parent().map(Path::to_owned);
        parent.map_or(Ok(()), |parent| sync_folder(&parent)).map_err(refused)
    }

    /// Moves the files into the target, the one that makes it a model last.
    fn move_up(&self) -> std::io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.temporary.path())? {
            names.push(entry?.file_name());
        }
        names.sort_by_key(|name| (name == "config.json", name.clone()));
        names.iter().try_for_each(|name| fs::rename(self.temporary.path().join(name), self.target.join(name)))
    }
}

/// Makes the files of `dir` and their names durable.
fn sync(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        fs::OpenOptions::new().write(true).open(entry?.path())?.sync_all()?;
    }
    sync_folder(dir)
}

/// Makes the names in `dir` durable; only Unix lets a folder be opened for that.
fn sync_folder(dir: &Path) -> std::io::Result<()> {
    if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Temporary files and folders are private; a model need not be.
#[cfg(unix)]
fn open_to_others(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(dir)? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o644))?;
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_to_others(_dir: &Path) -> std::io::Result<()> {
    Ok(())
}
