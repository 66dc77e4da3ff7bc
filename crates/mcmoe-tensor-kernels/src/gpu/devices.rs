//! Which graphics cards there are: asked before a backend is, because that would panic.

use crate::KernelError;

/// The backend for graphics cards through Vulkan, Metal or DirectX.
#[cfg(feature = "wgpu")]
pub type WgpuBackend = burn_cubecl::CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;

/// The backend for NVIDIA cards.
#[cfg(feature = "cuda")]
pub type CudaBackend = burn_cubecl::CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;

/// The graphics card number `index`, discrete ones first, those that a processor emulates last.
///
/// # Errors
/// [`KernelError::NoDevice`] if there are not so many, or none at all.
#[cfg(feature = "wgpu")]
pub fn wgpu_device(index: usize) -> Result<burn_wgpu::WgpuDevice, KernelError> {
    use burn_wgpu::WgpuDevice;
    use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
    use wgpu::DeviceType;

    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: AutoGraphicsApi::backend().into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = cubecl::future::block_on(instance.enumerate_adapters(AutoGraphicsApi::backend().into()));
    let of_type = |wanted| adapters.iter().filter(move |adapter| adapter.get_info().device_type == wanted);
    let number =
        |wanted, device: fn(usize) -> WgpuDevice| of_type(wanted).enumerate().map(move |(i, _)| device(i));
    let devices: Vec<WgpuDevice> = number(DeviceType::DiscreteGpu, WgpuDevice::DiscreteGpu)
        .chain(number(DeviceType::IntegratedGpu, WgpuDevice::IntegratedGpu))
        .chain(number(DeviceType::VirtualGpu, WgpuDevice::VirtualGpu))
        .chain(number(DeviceType::Cpu, |_| WgpuDevice::Cpu))
        .collect();
    let backend = AutoGraphicsApi::backend();
    devices.get(index).cloned().ok_or_else(|| KernelError::NoDevice {
        reason: match devices.len() {
            0 => format!("no {backend} driver finds a graphics card; on Linux, packages like mesa-vulkan-drivers hold drivers"),
            1 => "the driver finds one card, number 0".to_owned(),
            count => format!("the driver finds {count} cards, numbered from 0"),
        },
    })
}

/// The NVIDIA card number `index`.
///
/// # Errors
/// [`KernelError::NoDevice`] if there are not so many, or what running kernels on it takes is missing.
#[cfg(feature = "cuda")]
pub fn cuda_device(index: usize) -> Result<burn_cuda::CudaDevice, KernelError> {
    use cudarc::driver::{result, sys};

    let refuse = |reason: String| Err(KernelError::NoDevice { reason });
    // SAFETY: this looks for the driver's library and does nothing else.
    if !unsafe { sys::is_culib_present() } {
        return refuse("no NVIDIA driver (libcuda) on this machine".to_owned());
    }
    // SAFETY: as above, for the compiler's library.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return refuse("no CUDA run-time compiler (libnvrtc) on this machine".to_owned());
    }
    if let Err(error) = result::init() {
        return refuse(format!("the NVIDIA driver does not start: {error}"));
    }
    match result::device::get_count() {
        Ok(count) if index < count as usize => Ok(burn_cuda::CudaDevice::new(index)),
        Ok(0) => refuse("the NVIDIA driver finds no card".to_owned()),
        Ok(1) => refuse("the driver finds one card, number 0".to_owned()),
        Ok(count) => refuse(format!("the driver finds {count} cards, numbered from 0")),
        Err(error) => refuse(format!("the NVIDIA driver does not say what cards there are: {error}")),
    }
}
