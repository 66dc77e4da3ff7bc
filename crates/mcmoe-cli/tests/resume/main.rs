//! `compress` that is killed, runs out of disk or is failed by the system, and is started again: it ends
//! in the bytes of a run that nothing happened to, or says why it does not go on.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(target_os = "linux")]
mod disks;
mod equal;
mod faults;
mod job;
mod killed;
mod refused;
mod stop;
