//! Bytes with a shared owner: a vector or a memory map.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of bytes kept alive by a reference-counted owner.
///
/// Packed matrices read from a memory-mapped file point into the map through this type, so opening a
/// model copies nothing.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Owner,
    range: Range<usize>,
}

/// What keeps bytes alive.
#[derive(Clone)]
pub(crate) enum Owner {
    /// Something in memory.
    Memory(Arc<dyn AsRef<[u8]> + Send + Sync>),
    /// A mapped file.
    Mapped(Arc<memmap2::Mmap>),
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Memory(owner) => (**owner).as_ref(),
            Self::Mapped(map) => map,
        }
    }
}

impl SharedBytes {
    /// The `range` of `owner`'s bytes, or `None` if it reaches past their end.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Self> {
        (*owner).as_ref().get(range.clone())?;
        Some(Self { owner: Owner::Memory(owner), range })
    }

    pub(crate) fn mapped(map: memmap2::Mmap) -> Self {
        let range = 0..map.len();
        Self { owner: Owner::Mapped(Arc::new(map)), range }
    }

    pub(crate) const fn parts(&self) -> (&Owner, &Range<usize>) {
        (&self.owner, &self.range)
    }

    /// The `range` of these bytes, sharing their owner, or `None` if it reaches past their end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        self.get(range.clone())?;
        let start = self.range.start;
        Some(Self { owner: self.owner.clone(), range: start + range.start..start + range.end })
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Owner::Memory(Arc::new(bytes)), range }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // An owner whose length changed between calls could break the range; empty is then honest.
        self.owner.as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(vec![1_u8, 2, 3]);
        assert_eq!(SharedBytes::new(owner.clone(), 1..3).unwrap().to_vec(), [2, 3]);
        assert!(SharedBytes::new(owner.clone(), 2..4).is_none());
        let tail = SharedBytes::new(owner, 1..3).unwrap();
        assert_eq!(tail.slice(1..2).unwrap().to_vec(), [3]);
        assert!(tail.slice(1..3).is_none());
    }
}
