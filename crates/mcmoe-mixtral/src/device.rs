//! From the user's `--device` to a burn backend: the one place that knows which exist.

use std::fmt;
use std::str::FromStr;

use mcmoe_tensor_kernels::PackedOps;

use crate::MixtralError;

/// The backend that runs on the CPU.
pub type CpuBackend = burn_flex::Flex;

#[cfg(feature = "cuda")]
pub use mcmoe_tensor_kernels::{CudaBackend, cuda_device};
#[cfg(feature = "wgpu")]
pub use mcmoe_tensor_kernels::{WgpuBackend, wgpu_device};

/// Where a model runs: the CPU, or graphics cards of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The CPU, through burn's pure Rust backend.
    #[default]
    Cpu,
    /// NVIDIA cards, by number; layers are spread over them.
    Cuda(Vec<usize>),
    /// Graphics cards through Vulkan, Metal or DirectX, by number; layers are spread over them.
    Wgpu(Vec<usize>),
}

/// Work that can be done on any backend. Rust has no generic closures; this is one.
pub trait OnDevice {
    /// What the work yields.
    type Output;

    /// Does the work on backend `B`, on `devices`, of which there is at least one.
    ///
    /// # Errors
    /// Those of the work.
    fn run<B: PackedOps>(self, devices: &[B::Device]) -> Result<Self::Output, MixtralError>;
}

impl Device {
    /// Does `work` on this device.
    ///
    /// # Errors
    /// Those of the work; [`MixtralError::Device`] if this build or this machine has no such device, or if it
    /// fails on the way, by running out of memory for example.
    pub fn run<W: OnDevice>(&self, work: W) -> Result<W::Output, MixtralError> {
        match self {
            Self::Cpu => work.run::<CpuBackend>(&[Default::default()]),
            Self::Cuda(numbers) => self.run_on_cuda(numbers, work),
            Self::Wgpu(numbers) => self.run_on_wgpu(numbers, work),
        }
    }

    #[cfg(feature = "cuda")]
    fn run_on_cuda<W: OnDevice>(&self, numbers: &[usize], work: W) -> Result<W::Output, MixtralError> {
        self.guarded::<CudaBackend, _>(numbers, cuda_device, work)
    }

    #[cfg(not(feature = "cuda"))]
    fn run_on_cuda<W: OnDevice>(&self, _: &[usize], _: W) -> Result<W::Output, MixtralError> {
        Err(self.not_built("cuda"))
    }

    #[cfg(feature = "wgpu")]
    fn run_on_wgpu<W: OnDevice>(&self, numbers: &[usize], work: W) -> Result<W::Output, MixtralError> {
        self.guarded::<WgpuBackend, _>(numbers, wgpu_device, work)
    }

    #[cfg(not(feature = "wgpu"))]
    fn run_on_wgpu<W: OnDevice>(&self, _: &[usize], _: W) -> Result<W::Output, MixtralError> {
        Err(self.not_built("wgpu"))
    }

    /// Does `work` on cards that are there. Backends tell of a card's failure by a panic, wherever the result
    /// is asked for: it becomes an error here.
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    fn guarded<B: PackedOps, W: OnDevice>(
        &self,
        numbers: &[usize],
        device: impl Fn(usize) -> Result<B::Device, mcmoe_tensor_kernels::KernelError>,
        work: W,
    ) -> Result<W::Output, MixtralError> {
        use std::panic::{AssertUnwindSafe, catch_unwind};

        let devices = numbers.iter().map(|&number| device(number)).collect::<Result<Vec<_>, _>>();
        let devices = devices.map_err(|error| self.refused(error.to_string()))?;
        // What the work has touched is dropped with it.
        catch_unwind(AssertUnwindSafe(|| work.run::<B>(&devices))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for no known reason");
            Err(self.refused(format!("it failed: {text}")))
        })
    }

    #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
    fn not_built(&self, feature: &str) -> MixtralError {
        self.refused(format!("this build has no such backend; build it with `--features {feature}`"))
    }

    fn refused(&self, reason: String) -> MixtralError {
        MixtralError::Device { device: self.to_string(), reason }
    }
}

impl FromStr for Device {
    type Err = MixtralError;

    fn from_str(text: &str) -> Result<Self, MixtralError> {
        let refuse =
            |reason: &str| MixtralError::Device { device: text.to_owned(), reason: reason.to_owned() };
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        let number = |part: &str, kind: &str| {
            let rest = part.strip_prefix(kind)?;
            if rest.is_empty() { Some(0) } else { rest.strip_prefix(':')?.parse().ok() }
        };
        let numbers =
            |kind: &str| text.split(',').map(|part| number(part, kind)).collect::<Option<Vec<usize>>>();
        numbers("cuda")
            .map(Self::Cuda)
            .or_else(|| numbers("wgpu").map(Self::Wgpu))
            .ok_or_else(|| refuse("not a device; use cpu, cuda, cuda:1, wgpu, or several like cuda:0,cuda:1"))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, numbers) = match self {
            Self::Cpu => return f.write_str("cpu"),
            Self::Cuda(numbers) => ("cuda", numbers),
            Self::Wgpu(numbers) => ("wgpu", numbers),
        };
        let cards: Vec<String> = numbers.iter().map(|number| format!("{kind}:{number}")).collect();
        f.write_str(&cards.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written() {
        let parse = |text: &str| text.parse::<Device>();
        assert_eq!(parse("cpu").unwrap(), Device::Cpu);
        assert_eq!(parse("cuda").unwrap(), Device::Cuda(vec![0]));
        assert_eq!(parse("wgpu:3").unwrap().to_string(), "wgpu:3");
        assert_eq!(parse("cuda:0,cuda:1").unwrap().to_string(), "cuda:0,cuda:1");
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda,wgpu", "cpu:0", "cuda:0,", "wgpu0"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("use cpu, cuda"), "{error}");
        }
    }
}
