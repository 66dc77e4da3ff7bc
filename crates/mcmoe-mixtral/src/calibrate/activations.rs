//! Activations of all samples in files: read ahead, written behind, never all in memory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rayon::prelude::*;

use crate::MixtralError;
use crate::durable::{Digest, Hasher};

/// Samples that wait between a file and the work.
const WAITING: usize = 2;

/// Rows of `f32` activations in a file, sample after sample. The file goes when this does, unless it is kept.
#[derive(Debug)]
pub(crate) struct ActivationFile {
    path: PathBuf,
    cols: usize,
    /// Rows of each sample.
    rows: Vec<usize>,
    kept: bool,
}

impl ActivationFile {
    /// The kept file at `path` of samples with these `rows`, as it was when it was written.
    ///
    /// # Errors
    /// [`MixtralError::Read`], or [`MixtralError::Checksum`] if it has changed.
    pub(crate) fn open(
        path: PathBuf,
        cols: usize,
        rows: Vec<usize>,
        digest: Digest,
    ) -> Result<Self, MixtralError> {
        digest.check_file(&path)?;
        let file = Self { path, cols, rows, kept: true };
        let bytes = fs::metadata(&file.path).map_err(|e| MixtralError::read(&file.path, e))?.len();
        let expected = (file.rows.iter().sum::<usize>() * cols * size_of::<f32>()) as u64;
        if bytes == expected { Ok(file) } else { Err(MixtralError::Checksum { path: file.path.clone() }) }
    }

    /// Rows of each sample.
    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Rows of all samples.
    pub(crate) fn total_rows(&self) -> usize {
        self.rows.iter().sum()
    }

    /// All samples in order, the next ones being read while the last is worked on.
    pub(crate) fn read(&self) -> Result<ReadAhead, MixtralError> {
        let refused = |e| MixtralError::read(&self.path, e);
        let mut file = File::open(&self.path).map_err(refused)?;
        let lengths: Vec<usize> = self.rows.iter().map(|rows| rows * self.cols).collect();
        let (sender, samples) = sync_channel(WAITING);
        let read = move || {
            for length in lengths {
                let sample = read_values(&mut file, length);
                let ended = sample.is_err();
                // Nobody listens once the work has failed.
                if sender.send(sample).is_err() || ended {
                    return;
                }
            }
        };
        Builder::new().name("read ahead".to_owned()).spawn(read).map_err(refused)?;
        Ok(ReadAhead { samples, left: self.rows.len(), path: self.path.clone() })
    }

    /// Removes a kept file.
    pub(crate) fn remove(mut self) {
        self.kept = false;
    }
}

impl Drop for ActivationFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path); // the folder it lies in is cleared at the end
        }
    }
}

fn read_values(file: &mut File, count: usize) -> io::Result<Vec<f32>> {
    let mut bytes = vec![0; count * size_of::<f32>()];
    file.read_exact(&mut bytes)?;
    let (values, _) = bytes.as_chunks();
    Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// Samples of a file, in order.
pub(crate) struct ReadAhead {
    samples: Receiver<io::Result<Vec<f32>>>,
    left: usize,
    path: PathBuf,
}

impl Iterator for ReadAhead {
    type Item = Result<Vec<f32>, MixtralError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let sample =
            self.samples.recv().unwrap_or_else(|_| Err(io::Error::other("the reading thread ended")));
        Some(sample.map_err(|e| {
            self.left = 0;
            MixtralError::read(&self.path, e)
        }))
    }
}

/// The thread that writes, and the digest of what it wrote.
type Writing = JoinHandle<io::Result<Option<Digest>>>;

/// Writes samples to a file while the next ones are worked on.
pub(crate) struct WriteBehind {
    /// Removes the file if it is never finished.
    file: ActivationFile,
    /// Gone when the thread has ended.
    work: Option<(SyncSender<Vec<f32>>, Writing)>,
}

impl WriteBehind {
    /// A new file at `path` for rows of `cols` activations; a `durable` one is kept, and survives a crash.
    pub(crate) fn create(path: &Path, cols: usize, durable: bool) -> Result<Self, MixtralError> {
        let refused = |e| MixtralError::write(path, e);
        let mut file = File::create(path).map_err(refused)?;
        let (queue, samples) = sync_channel::<Vec<f32>>(WAITING);
        let write = move || {
            let mut hasher = durable.then(Hasher::default);
            for sample in samples {
                let mut bytes = vec![0; sample.len() * size_of::<f32>()];
                let (targets, _) = bytes.as_chunks_mut();
                targets.iter_mut().zip(&sample).for_each(|(target, value)| *target = value.to_le_bytes());
                file.write_all(&bytes)?;
                if let Some(hasher) = &mut hasher {
                    hasher.add(&bytes);
                }
            }
            if durable {
                file.sync_all()?;
            }
            Ok(hasher.map(Hasher::finish))
        };
        let thread = Builder::new().name("write behind".to_owned()).spawn(write).map_err(refused)?;
        let file = ActivationFile { path: path.to_owned(), cols, rows: Vec::new(), kept: false };
        Ok(Self { file, work: Some((queue, thread)) })
    }

    /// Appends a sample of whole rows.
    ///
    /// # Errors
    /// [`MixtralError::Write`] if an earlier one could not be written.
    pub(crate) fn push(&mut self, sample: Vec<f32>) -> Result<(), MixtralError> {
        self.file.rows.push(sample.len() / self.file.cols);
        match &self.work {
            Some((queue, _)) if queue.send(sample).is_ok() => Ok(()),
            _ => self.wait().and_then(|_| Err(self.error(io::Error::other("the writing thread ended")))),
        }
    }

    /// Waits until everything is written; a durable file's digest comes with it.
    ///
    /// # Errors
    /// [`MixtralError::Write`] if the file system refused anything.
    pub(crate) fn finish(mut self) -> Result<(ActivationFile, Option<Digest>), MixtralError> {
        let digest = self.wait()?;
        let mut file = self.file;
        file.kept = digest.is_some();
        Ok((file, digest))
    }

    fn wait(&mut self) -> Result<Option<Digest>, MixtralError> {
        let Some((queue, thread)) = self.work.take() else { return Ok(None) };
        drop(queue);
        let written = thread.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")));
        written.map_err(|e| self.error(e))
    }

    fn error(&self, source: io::Error) -> MixtralError {
        MixtralError::write(&self.file.path, source)
    }
}

/// Takes every item of `inputs` through `work`, `at_once` of them side by side, and hands the results to
/// `then` in order.
pub(crate) fn in_order<I: Send, O: Send>(
    inputs: impl Iterator<Item = Result<I, MixtralError>>,
    at_once: usize,
    work: impl Fn(usize, I) -> Result<O, MixtralError> + Sync,
    mut then: impl FnMut(usize, O) -> Result<(), MixtralError>,
) -> Result<(), MixtralError> {
    let mut inputs = inputs.enumerate();
    loop {
        let batch = inputs.by_ref().take(at_once.max(1)).map(|(i, input)| Ok((i, input?)));
        let batch: Vec<(usize, I)> = batch.collect::<Result<_, MixtralError>>()?;
        if batch.is_empty() {
            return Ok(());
        }
        let work = |(i, input)| Ok((i, work(i, input)?));
        let results: Vec<(usize, O)> =
            batch.into_par_iter().map(work).collect::<Result<_, MixtralError>>()?;
        results.into_iter().try_for_each(|(i, result)| then(i, result))?;
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.f32");
        let samples: Vec<Vec<f32>> = (0..9_u8).map(|i| vec![f32::from(i); 3 * usize::from(i % 4)]).collect();
        let mut writer = WriteBehind::create(&path, 3, true).unwrap();
        samples.iter().for_each(|sample| writer.push(sample.clone()).unwrap());
        let (file, digest) = writer.finish().unwrap();
        let rows = file.rows().to_vec();
        assert_eq!(rows, [0, 1, 2, 3, 0, 1, 2, 3, 0]);
        drop(file);
        let file = ActivationFile::open(path.clone(), 3, rows, digest.unwrap()).unwrap();
        let mut seen = Vec::new();
        let double = |_, sample: Vec<f32>| Ok(sample.iter().map(|v| 2.0 * v).collect::<Vec<f32>>());
        in_order(file.read().unwrap(), 2, double, |i, sample| {
            seen.push((i, sample));
            Ok(())
        })
        .unwrap();
        for (i, sample) in seen {
            assert_eq!(sample, samples[i].iter().map(|v| 2.0 * v).collect::<Vec<_>>());
        }
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn damage_and_refusals_are_told() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.f32");
        assert!(matches!(
            WriteBehind::create(&dir.path().join("no/such/folder"), 1, false),
            Err(MixtralError::Write { .. })
        ));
        let mut writer = WriteBehind::create(&path, 1, true).unwrap();
        writer.push(vec![1.0, 2.0]).unwrap();
        let (file, digest) = writer.finish().unwrap();
        fs::write(&path, [0; 4]).unwrap();
        let cut = file.read().unwrap().next().unwrap();
        assert!(matches!(cut, Err(MixtralError::Read { .. })), "{cut:?}");
        let damaged = ActivationFile::open(path.clone(), 1, vec![2], digest.unwrap());
        assert!(matches!(damaged, Err(MixtralError::Checksum { .. })), "{damaged:?}");
        drop(WriteBehind::create(&path, 1, false).unwrap());
        assert!(!path.exists(), "an unfinished file is removed");
    }
}
