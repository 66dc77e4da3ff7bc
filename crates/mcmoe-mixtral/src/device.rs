//! From the user's `--device` to a burn backend: the one place that knows which exist.

use std::fmt;
use std::str::FromStr;

use mcmoe_tensor_kernels::PackedOps;

use crate::MixtralError;

/// The backend that runs on the CPU.
pub type CpuBackend = burn_flex::Flex;

/// Where a model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU, through burn's pure Rust backend.
    #[default]
    Cpu,
}

/// Work that can be done on any backend. Rust has no generic closures; this is one.
pub trait OnDevice {
    /// What the work yields.
    type Output;

    /// Does the work on backend `B`.
    ///
    /// # Errors
    /// Those of the work.
    fn run<B: PackedOps>(self, device: &B::Device) -> Result<Self::Output, MixtralError>;
}

impl Device {
    /// Does `work` on this device.
    ///
    /// # Errors
    /// Those of the work.
    pub fn run<W: OnDevice>(self, work: W) -> Result<W::Output, MixtralError> {
        match self {
            Self::Cpu => work.run::<CpuBackend>(&Default::default()),
        }
    }
}

impl FromStr for Device {
    type Err = MixtralError;

    fn from_str(text: &str) -> Result<Self, MixtralError> {
        let kind = text.split(':').next().unwrap_or_default();
        let refuse = |reason: String| Err(MixtralError::Device { device: text.to_owned(), reason });
        match kind {
            "cpu" if text == "cpu" => Ok(Self::Cpu),
            "cuda" | "wgpu" => refuse(format!("this build has no {kind} backend; use cpu")),
            _ => refuse("not a device; use cpu".to_owned()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
        }
    }
}
