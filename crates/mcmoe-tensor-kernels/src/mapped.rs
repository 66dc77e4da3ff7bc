//! Memory-mapped files.

#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could change it meanwhile")]

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::SharedBytes;

impl SharedBytes {
    /// Maps the whole file at `path` for reading.
    ///
    /// The file must not be changed or cut while it is mapped: a reader of the bytes could then see
    /// them change, or be ended by the operating system. Model files are replaced, never edited.
    ///
    /// # Errors
    /// The operating system's, if the file cannot be opened or mapped.
    pub fn map(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: the map is read-only and private to this value; that nobody edits a model file in
        // place while it is in use is the documented condition of this function.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        let range = 0..map.len();
        Self::new(Arc::new(map), range).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}
