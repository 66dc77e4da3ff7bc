//! What several test files share: running the tool, copies of model folders, edits of their files.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

#[cfg(target_os = "linux")]
mod disk;
mod folders;
mod json_files;
mod random;
mod shards;
mod tool;

#[cfg(target_os = "linux")]
pub(crate) use disk::Disk;
pub(crate) use folders::{DEMO, Workplace, compressed, copy_folder, files_of, names_in};
pub(crate) use json_files::{edit_json, read_json, write_json};
pub(crate) use random::Random;
pub(crate) use shards::{edit_header, patch, patch_at, raw_header, reshard, shard_of, stored_bytes};
pub(crate) use tool::{Ended, ask, mcmoe, run};
