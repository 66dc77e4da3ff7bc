//! Reads a stream line by line, in bounded memory.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use super::error::{DatasetError, Place};

/// The longest line accepted. Documents are kilobytes; a file without line ends must not fill the memory.
pub(super) const MAX_LINE_BYTES: usize = 64 << 20;

/// The lines of a stream, counted from 1.
pub(super) struct Lines<R> {
    stream: R,
    path: PathBuf,
    number: usize,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `stream`, which comes from the file at `path`.
    pub(super) fn new(stream: R, path: PathBuf) -> Self {
        Self { stream, path, number: 0, buffer: Vec::new() }
    }

    /// The next line that is not blank, with its number; `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<(usize, &str)>, DatasetError> {
        while self.fill()? {
            if !self.buffer.trim_ascii().is_empty() {
                return self.line().map(Some);
            }
        }
        Ok(None)
    }

    /// Reads one line into the buffer; false at the end of the stream.
    fn fill(&mut self) -> Result<bool, DatasetError> {
        self.buffer.clear();
        self.number += 1;
        let mut line = self.stream.by_ref().take(MAX_LINE_BYTES as u64 + 1);
        let read =
            line.read_until(b'\n', &mut self.buffer).map_err(|e| DatasetError::from_io(&self.path, e))?;
        if read > MAX_LINE_BYTES {
            let (path, line) = (self.path.clone(), self.number);
            return Err(DatasetError::LineTooLong { path, line, max_bytes: MAX_LINE_BYTES });
        }
        Ok(read > 0)
    }

    fn line(&self) -> Result<(usize, &str), DatasetError> {
        match std::str::from_utf8(&self.buffer) {
            Ok(text) => Ok((self.number, text)),
            Err(_) => {
                let place = Place::Line(self.number);
                Err(DatasetError::InvalidUtf8 { path: self.path.clone(), place })
            }
        }
    }
}
