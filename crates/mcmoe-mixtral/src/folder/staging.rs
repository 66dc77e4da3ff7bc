//! An output folder that appears only when it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::MixtralError;

/// A hidden sibling of the output folder. It is renamed to its real name by [`Staging::commit`], and
/// removed if that never comes.
#[derive(Debug)]
pub(crate) struct Staging {
    temporary: TempDir,
    target: PathBuf,
}

impl Staging {
    /// Prepares to fill `target`, which must not exist or be an empty folder.
    pub(crate) fn create(target: &Path) -> Result<Self, MixtralError> {
        if target.exists() {
            let mut entries = fs::read_dir(target).map_err(|e| MixtralError::write(target, e))?;
            if entries.next().is_some() {
                return Err(MixtralError::OutputExists { path: target.to_owned() });
            }
        }
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(|e| MixtralError::write(parent, e))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}.incomplete-"))
            .tempdir_in(parent)
            .map_err(|e| MixtralError::write(target, e))?;
        Ok(Self { temporary, target: target.to_owned() })
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
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(refused)?;
        }
        fs::rename(self.temporary.path(), &self.target).map_err(refused)?;
        // The folder has moved away from the name that would be removed.
        let _ = self.temporary.keep();
        Ok(())
    }
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
