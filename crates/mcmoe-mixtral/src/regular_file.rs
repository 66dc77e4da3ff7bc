//! Regular files, read without trust in what lies at their paths.
//!
//! A folder from elsewhere can have, under any name, a pipe that nobody writes to, a link to a device
//! without end, or more bytes than there is memory.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Opens the file at `path`.
///
/// # Errors
/// The operating system's; [`ErrorKind::InvalidInput`] for a folder, a pipe or a device.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

/// The bytes of the file at `path`, `most` of them or fewer.
///
/// # Errors
/// As [`open`]; [`ErrorKind::FileTooLarge`] if there are more.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_large(most));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // A file can grow while it is read.
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large(most)) } else { Ok(bytes) }
}

fn too_large(most: u64) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, format!("more than {most} bytes are too many for such a file"))
}

/// Whether there is anything at `path`, be it a link to nothing.
pub(crate) fn exists(path: &Path) -> bool {
    !fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

/// Whether `name` is one of a file in a folder, and can be shown to a terminal.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !["", ".", ".."].contains(&name) && !name.contains(['/', '\\']) && !name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn files_have_a_limit() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert_eq!(read(&path, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(dir.path(), 3).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&dir.path().join("b"), 3).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    #[cfg(unix)]
    fn links_to_nothing_are_there() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("link");
        assert!(!exists(&path));
        std::os::unix::fs::symlink("nothing", &path).unwrap();
        assert!(exists(&path) && !path.exists());
        assert!(open(Path::new("/dev/zero")).is_err());
    }
}
