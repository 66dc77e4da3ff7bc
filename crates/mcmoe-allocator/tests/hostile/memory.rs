//! What reading a file may allocate.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cap::Cap;

/// Bytes for each byte of a file. The dearest JSON is small objects, a tree node of some 600 bytes each.
const PER_BYTE: usize = 256;

/// Counts what is allocated, and refuses more than a GiB at a time: the test then ends, not the machine.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// The allocator counts for all threads, so tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test runs.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` on `bytes` bytes of files and checks that all its allocations together, freed or not,
/// stay within so many times [`PER_BYTE`] and `fixed` bytes.
pub(crate) fn within<T>(bytes: usize, fixed: usize, work: impl FnOnce() -> T) -> T {
    let (before, allowed) = (ALLOCATOR.total_allocated(), bytes * PER_BYTE + fixed);
    let result = work();
    let taken = ALLOCATOR.total_allocated() - before;
    assert!(taken <= allowed, "{bytes} bytes of files led to {taken} allocated ones, {allowed} are allowed");
    result
}
