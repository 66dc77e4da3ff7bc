//! How long work reports on itself. One reporter serves every long job.

/// Receives the progress of a job that has phases of known length.
pub trait Progress: Sync {
    /// A phase of `steps` steps begins.
    fn start(&self, phase: &str, steps: u64);
    /// `steps` more steps are done.
    fn advance(&self, steps: u64);
    /// The phase is over.
    fn finish(&self);
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _phase: &str, _steps: u64) {}
    fn advance(&self, _steps: u64) {}
    fn finish(&self) {}
}
