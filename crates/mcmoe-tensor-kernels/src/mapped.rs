//! Memory-mapped files.

#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could change it meanwhile")]

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::SharedBytes;
use crate::bytes::Owner;

impl SharedBytes {
    /// Maps the whole file at `path` for reading.
    ///
    /// The file must not be changed or cut while it is mapped: a reader of the bytes could then see
    /// them change, or be ended by the operating system. Model files are replaced, never edited.
    ///
    /// # Errors
    /// The operating system's, if the file cannot be opened or mapped.
    pub fn map(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        // SAFETY: the map is read-only and private to this value; that nobody edits a model file in
        // place while it is in use is the documented condition of this function.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self::mapped(map))
    }

    /// Lets go of the memory that holds these bytes if they are a mapped file's: whoever reads them again
    /// reads the file again. For files larger than memory, of which each part is read once.
    pub fn unload(&self) {
        #[cfg(unix)]
        if let (Owner::Mapped(map), range) = self.parts() {
            // SAFETY: the map is shared, read-only and of a file; pages dropped from it come back with the
            // same bytes.
            let advised = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
            // Advice not taken costs memory, nothing else.
            drop(advised);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unloaded_bytes_come_back() {
        let path = std::env::temp_dir().join(format!("mcmoe-unload-{}", std::process::id()));
        let expected: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        std::fs::write(&path, &expected).unwrap();
        let bytes = SharedBytes::map(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let part = bytes.slice(5_000..70_000).unwrap();
        assert!(part[..] == expected[5_000..70_000]);
        part.unload();
        assert!(bytes[..] == expected[..]);
        SharedBytes::from(vec![1, 2]).unload();
    }
}
