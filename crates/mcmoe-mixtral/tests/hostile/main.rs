//! Hostile folders, tokenizers and data sets: an error or an answer, never a panic, in memory that follows
//! from the files' sizes.
//!
//! `PROPTEST_CASES=100000 cargo test --workspace --test hostile` looks further, `PROPTEST_RNG_SEED=1`
//! elsewhere.

#[path = "../../../mcmoe-allocator/tests/hostile/attack.rs"]
mod attack;
#[path = "../common/mod.rs"]
mod common;
mod data;
mod folder;
mod loading;
#[path = "../../../mcmoe-allocator/tests/hostile/memory.rs"]
mod memory;
#[cfg(unix)]
mod no_files;
mod shard;
mod tokenizer;

/// The attacks of every kind, and the long ones, each with its name.
fn every_seed() -> Vec<(String, Vec<u8>)> {
    let kinds = ["config", "index", "shard", "checksums", "allocation", "pruning", "tokenizer", "data"];
    let seeds = kinds.into_iter().flat_map(attack::seeds);
    seeds.chain(attack::long_seeds()).collect()
}
