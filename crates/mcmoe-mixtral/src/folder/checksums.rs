//! `checksums.sha256`: what every file of a folder was when it was written, as `sha256sum -c` reads it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::{ModelFolder, files};
use crate::durable::Digest;
use crate::model::{names, weight};
use crate::{MixtralError, Progress, regular_file};

/// Bytes of a line's digest and the two spaces behind it.
const DIGEST_BYTES: usize = 64 + 2;
/// The largest file of checksums that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Digests of the files of a folder, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checksums(pub(crate) Vec<(String, Digest)>);

/// What a verification looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Files that equal their checksums; 0 for dense folders, which have none.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// Tensors whose contents were checked.
    pub tensors: usize,
}

impl Checksums {
    /// Of all files in `dir` but the one that holds them; those of which the digest is `known` are not read.
    pub(crate) fn of(dir: &Path, known: &HashMap<PathBuf, Digest>) -> Result<Self, MixtralError> {
        let mut names = file_names(dir)?;
        names.retain(|name| name != files::CHECKSUMS);
        let digest = |name: String| {
            let path = dir.join(&name);
            let digest = known.get(&path).map_or_else(|| Digest::of_file(&path), |digest| Ok(*digest));
            digest.map(|digest| (name, digest))
        };
        Ok(Self(names.into_par_iter().map(digest).collect::<Result<_, _>>()?))
    }

    /// Writes them to `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), MixtralError> {
        let lines: String = self.0.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect();
        let path = dir.join(files::CHECKSUMS);
        fs::write(&path, lines).map_err(|e| MixtralError::write(&path, e))
    }

    /// Those in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, MixtralError> {
        let path = dir.join(files::CHECKSUMS);
        let refuse = |reason: String| MixtralError::Json { path: path.clone(), reason };
        let bytes = regular_file::read(&path, MAX_BYTES).map_err(|e| MixtralError::read(&path, e))?;
        let text = str::from_utf8(&bytes).map_err(|e| refuse(e.to_string()))?;
        let parse = |(line, text): (usize, &str)| {
            let parts = text.split_at_checked(DIGEST_BYTES);
            let digest = |text: &str| Digest::from_hex(text.strip_suffix("  ")?);
            let sound = parts.and_then(|(start, name)| Some((name.to_owned(), digest(start)?)));
            sound.filter(|(name, _)| regular_file::is_plain_name(name)).ok_or_else(|| {
                refuse(format!("line {} is not a checksum and a file of this folder", line + 1))
            })
        };
        let checksums = Self(text.lines().enumerate().map(parse).collect::<Result<_, _>>()?);
        match checksums.repeated() {
            None => Ok(checksums),
            Some(name) => Err(refuse(format!("{name:?} has two checksums"))),
        }
    }

    /// A name that is listed more than once.
    fn repeated(&self) -> Option<&String> {
        let mut names = HashSet::new();
        self.0.iter().map(|(name, _)| name).find(|name| !names.insert(*name))
    }

    /// Makes sure that every file of `dir` is listed and equals its checksum; returns their bytes.
    fn check(&self, dir: &Path, progress: &dyn Progress) -> Result<u64, MixtralError> {
        let listed: HashSet<&String> = self.0.iter().map(|(name, _)| name).collect();
        let unlisted = |name: &String| name != files::CHECKSUMS && !listed.contains(name);
        if let Some(name) = file_names(dir)?.into_iter().find(unlisted) {
            let reason = format!("{} has no checksum", name.escape_debug());
            return Err(MixtralError::Json { path: dir.join(files::CHECKSUMS), reason });
        }
        progress.start("checksums", self.0.len() as u64);
        let check = |(name, digest): &(String, Digest)| {
            let path = dir.join(name);
            digest.check_file(&path)?;
            progress.advance(1);
            Ok(fs::metadata(&path).map_or(0, |metadata| metadata.len()))
        };
        let bytes = self.0.par_iter().map(check).sum::<Result<u64, MixtralError>>();
        progress.finish();
        bytes
    }
}

impl ModelFolder {
    /// Reads everything and checks it: every file against its checksum, every matrix against what its layout
    /// promises, every other weight for being finite. A dense folder has no checksums; its weights are
    /// checked.
    ///
    /// # Errors
    /// [`MixtralError::Checksum`] for a file that differs from its checksum, [`MixtralError::Read`] for one
    /// that is missing, [`MixtralError::Json`] for one without a checksum; those of reading tensors.
    pub fn verify(&self, progress: &dyn Progress) -> Result<Verification, MixtralError> {
        let (mut files, mut bytes) = (0, 0);
        if self.compression.is_some() {
            let checksums = Checksums::read(self.dir())?;
            bytes = checksums.check(self.dir(), progress)?;
            files = checksums.0.len();
        }
        let layers = self.config.num_hidden_layers;
        progress.start("tensors", layers as u64 + 1);
        let mut tensors = super::dense_tensors(&self.checkpoint, &self.config)?.len();
        progress.advance(1);
        for l in 0..layers {
            tensors += self.check_layer(l)?;
            progress.advance(1);
        }
        progress.finish();
        Ok(Verification { files, bytes, tensors })
    }

    /// Checks all tensors of layer `l` and counts them.
    fn check_layer(&self, l: usize) -> Result<usize, MixtralError> {
        let checkpoint = &self.checkpoint;
        let matrices = if self.compression.is_some() {
            self.layer_matrices(l)?.iter().map(|(_, matrix)| matrix.bytes().unload()).count()
        } else {
            let check = |info: super::MatrixInfo| {
                let (tensor, _) = checkpoint.weights(&weight(&info.name), &[info.rows, info.cols])?;
                tensor.bytes.unload();
                Ok::<_, MixtralError>(())
            };
            let infos = super::MatrixInfo::of_layer(&self.config, l);
            let count = infos.len();
            infos.into_iter().try_for_each(check).map(|()| count)?
        };
        let hidden = self.config.hidden_size;
        let others = [names::input_norm(l), names::post_attention_norm(l)].map(|name| (name, vec![hidden]));
        let gate = (names::gate(l), vec![self.config.num_local_experts, hidden]);
        for (name, shape) in others.iter().chain([&gate]) {
            checkpoint.weights(&weight(name), shape)?;
        }
        Ok(matrices + 3)
    }
}

/// Names of the files in `dir`, sorted.
fn file_names(dir: &Path) -> Result<Vec<String>, MixtralError> {
    let refused = |e| MixtralError::read(dir, e);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        if fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::Silent;

    #[test]
    fn changes_are_found() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        fs::write(dir.path().join("b c"), "two").unwrap();
        let checksums = Checksums::of(dir.path(), &HashMap::new()).unwrap();
        checksums.write(dir.path()).unwrap();
        let read = Checksums::read(dir.path()).unwrap();
        assert_eq!(read, checksums);
        assert_eq!(read.check(dir.path(), &Silent).unwrap(), 6);

        fs::write(dir.path().join("d"), "").unwrap();
        assert!(read.check(dir.path(), &Silent).unwrap_err().to_string().contains("d has no checksum"));
        fs::remove_file(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("a"), "onf").unwrap();
        assert!(matches!(read.check(dir.path(), &Silent), Err(MixtralError::Checksum { .. })));
        fs::remove_file(dir.path().join("a")).unwrap();
        assert!(matches!(read.check(dir.path(), &Silent), Err(MixtralError::Read { .. })));
    }

    #[test]
    fn only_files_of_the_folder_are_listed() {
        let dir = TempDir::new().unwrap();
        let digest = Digest::of(b"");
        for name in ["../a", "/etc/passwd", "", ".", "..", "\u{1b}[2J"] {
            fs::write(dir.path().join(files::CHECKSUMS), format!("{digest}  {name}\n")).unwrap();
            let error = Checksums::read(dir.path()).unwrap_err();
            assert!(error.to_string().contains("line 1"), "{error}");
        }
    }

    #[test]
    fn a_file_is_listed_once() {
        let dir = TempDir::new().unwrap();
        let line = format!("{}  a\n", Digest::of(b""));
        fs::write(dir.path().join(files::CHECKSUMS), line.repeat(2)).unwrap();
        let error = Checksums::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("\"a\" has two checksums"), "{error}");
    }
}
