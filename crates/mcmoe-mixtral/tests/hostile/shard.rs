//! Attacks on any file of a folder; in a safetensors file they can go to the header alone.

use proptest::prelude::*;

use super::attack::{Change, changed, changes};

/// What happens to a file.
#[derive(Clone, Debug)]
pub(crate) enum Attack {
    /// Changes anywhere.
    Bytes(Vec<Change>),
    /// Changes in the header, whose length is put right. Other files than shards are all header.
    Header(Vec<Change>),
    /// Another length in front.
    Length(u64),
    /// Other bytes altogether.
    Other(Vec<u8>),
}

pub(crate) fn attacks() -> impl Strategy<Value = Attack> {
    prop_oneof![
        4 => changes().prop_map(Attack::Bytes),
        12 => changes().prop_map(Attack::Header),
        1 => prop_oneof![any::<u64>(), 0..4_096u64].prop_map(Attack::Length),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Attack::Other),
    ]
}

impl Attack {
    /// `file` after the attack.
    pub(crate) fn on(&self, file: &[u8]) -> Vec<u8> {
        match self {
            Self::Bytes(changes) => changed(file, changes),
            Self::Header(changes) => match split(file) {
                Some((header, data)) => shard(&changed(header, changes), data),
                None => changed(file, changes),
            },
            Self::Length(length) => [&length.to_le_bytes()[..], file.get(8..).unwrap_or_default()].concat(),
            Self::Other(bytes) => bytes.clone(),
        }
    }
}

/// A safetensors file.
pub(crate) fn shard(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

/// Header and data of a safetensors file; `None` for any other.
fn split(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = file.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}
