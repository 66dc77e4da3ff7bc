//! An output folder that appears only when it is complete.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::files;
use crate::MixtralError;
use crate::durable::{parent_of, sync_folder};
use crate::regular_file;

/// Bytes that a file which travels along may have.
const MOST_COPIED: u64 = 256 << 20;

/// A hidden folder that becomes the output folder by [`Staging::commit`], and is removed if that never
/// comes. It lies beside the output folder, or inside if that is an existing empty folder (`.`, a link, a
/// mount point).
#[derive(Debug)]
pub(crate) struct Staging {
    temporary: TempDir,
    target: PathBuf,
}

impl Staging {
    /// Prepares to fill `target`, which must not exist or be an empty folder.
    pub(crate) fn create(target: &Path) -> Result<Self, MixtralError> {
        let refused = |e| MixtralError::write(target, e);
        let inside = target.exists();
        if inside && !names_in(target).map_err(refused)?.is_empty() {
            return Err(MixtralError::OutputExists { path: target.to_owned() });
        }
        let parent = if inside { target } else { parent_of(target) };
        fs::create_dir_all(parent).map_err(|e| MixtralError::write(parent, e))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let temporary = tempfile::Builder::new()
            .prefix(&format!(".{name}.incomplete-"))
            .tempdir_in(parent)
            .map_err(refused)?;
        Ok(Self { temporary, target: target.to_owned() })
    }

    /// The folder to write to.
    pub(crate) fn dir(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the folder its name.
    pub(crate) fn commit(self) -> Result<(), MixtralError> {
        let dir = self.temporary.path();
        open_to_others(dir).map_err(|e| MixtralError::write(dir, e))?;
        publish(dir, &self.target)
    }
}

/// Makes the complete folder `from` the folder `target`, which does not exist, or exists and is filled file
/// by file, `config.json` last. What was interrupted can be repeated.
pub(crate) fn publish(from: &Path, target: &Path) -> Result<(), MixtralError> {
    let refused = |e| MixtralError::write(target, e);
    if !from.exists() && target.exists() {
        return Ok(()); // renamed before the interruption
    }
    sync(from).map_err(refused)?;
    if target.exists() {
        return move_up(from, target).and_then(|()| sync_folder(target)).map_err(refused);
    }
    let parent = parent_of(target);
    fs::create_dir_all(parent).map_err(|e| MixtralError::write(parent, e))?;
    let renamed = match fs::rename(from, target) {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => copy_over(from, target),
        renamed => renamed,
    };
    renamed.and_then(|()| sync_folder(parent)).map_err(refused)
}

/// Moves the files of `from` into `target`, the one that makes it a model last.
fn move_up(from: &Path, target: &Path) -> io::Result<()> {
    let mut names = names_in(from)?;
    names.sort_by_key(|name| (name == "config.json", name.clone()));
    names.iter().try_for_each(|name| {
        match fs::rename(from.join(name), target.join(name)) {
            Err(e) if e.kind() == ErrorKind::CrossesDevices => {}
            renamed => return renamed,
        }
        let partial = target.join(files::PARTIAL);
        fs::copy(from.join(name), &partial)?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, target.join(name))?;
        sync_folder(target)?;
        fs::remove_file(from.join(name))
    })
}

/// Copies `from` to another file system, beside `target`, and renames the copy.
fn copy_over(from: &Path, target: &Path) -> io::Result<()> {
    let near = beside(target, "incomplete");
    if near.exists() {
        fs::remove_dir_all(&near)?;
    }
    fs::create_dir(&near)?;
    let copy = |name: OsString| fs::copy(from.join(&name), near.join(&name)).map(drop);
    let copied = names_in(from).and_then(|names| names.into_iter().try_for_each(copy));
    if let Err(error) = copied.and_then(|()| sync(&near)).and_then(|()| fs::rename(&near, target)) {
        let _ = fs::remove_dir_all(&near); // the error is what matters
        return Err(error);
    }
    sync_folder(parent_of(target))?;
    fs::remove_dir_all(from)
}

/// The hidden name `.NAME.KIND` beside `target`.
pub(crate) fn beside(target: &Path, kind: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{kind}"))
}

/// Copies those of `names` that exist in `from`.
pub(crate) fn copy_files(from: &Path, to: &Path, names: &[&str]) -> Result<(), MixtralError> {
    for name in names {
        let (source, target) = (from.join(name), to.join(name));
        if source.is_file() {
            let bytes =
                regular_file::read(&source, MOST_COPIED).map_err(|e| MixtralError::read(&source, e))?;
            fs::write(&target, bytes).map_err(|e| MixtralError::write(&target, e))?;
        }
    }
    Ok(())
}

fn names_in(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Makes the files of `dir` and their names durable.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    for name in names_in(dir)? {
        fs::OpenOptions::new().write(true).open(dir.join(name))?.sync_all()?;
    }
    sync_folder(dir)
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
