//! Files that survive a crash, and digests that tell whether they did.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::{fmt, str};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{MixtralError, regular_file};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of the regular file at `path`.
    pub(crate) fn of_file(path: &Path) -> Result<Self, MixtralError> {
        let digest = || {
            let mut file = regular_file::open(path)?;
            let (mut hasher, mut chunk) = (Hasher::default(), vec![0; CHUNK]);
            loop {
                match file.read(&mut chunk) {
                    Ok(0) => return Ok(hasher.finish()),
                    Ok(read) => hasher.add(&chunk[..read]),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        };
        digest().map_err(|e| MixtralError::read(path, e))
    }

    /// As [`Digest::of_file`], which must be this one.
    pub(crate) fn check_file(self, path: &Path) -> Result<(), MixtralError> {
        if Self::of_file(path)? == self {
            Ok(())
        } else {
            Err(MixtralError::Checksum { path: path.to_owned() })
        }
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 64 hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
        let plain = rest.is_empty() && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        plain.then_some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest under way.
#[derive(Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Writes a file that is whole or not there, whenever power fails: under another name, made durable, renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), MixtralError> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_folder(parent_of(path))
    };
    write().map_err(|e| MixtralError::write(path, e))
}

/// Makes the content of the file at `path` durable.
pub(crate) fn sync_file(path: &Path) -> Result<(), MixtralError> {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.sync_all()).map_err(|e| MixtralError::write(path, e))
}

/// Makes the names in `dir` durable; only Unix lets a folder be opened for that.
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// The folder that `path` lies in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, example of one block.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digests_are_sha256() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(Digest::from_hex(ABC), Some(Digest::of(b"abc")));
        for wrong in ["", "ba", &ABC[1..], &ABC.replace('b', "+"), &format!("{ABC}0"), "é"] {
            assert_eq!(Digest::from_hex(wrong), None, "{wrong}");
        }
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("abc");
        write(&path, b"abc").unwrap();
        Digest::of(b"abc").check_file(&path).unwrap();
        let error = Digest::of(b"abd").check_file(&path).unwrap_err();
        assert!(matches!(error, MixtralError::Checksum { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing partial is left");
    }
}
