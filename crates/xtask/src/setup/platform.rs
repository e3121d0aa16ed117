//! What differs from machine to machine: which files of the wheels are needed, and what libraries are called.

/// A kind of machine that set-up knows wheels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// Linux on x86-64.
    LinuxX86,
    /// Linux on 64-bit Arm.
    LinuxArm,
    /// macOS on Apple silicon.
    MacArm,
}

use Platform::{LinuxArm, LinuxX86, MacArm};

/// Small libraries that the CPU library names; nothing else of CUDA is needed without a GPU.
const CUDA_STUBS: &[(&str, &str)] =
    &[("nvidia-cuda-runtime==13.0.96", "libcudart.so.13"), ("nvidia-cuda-cupti==13.0.85", "libcupti.so.13")];

impl Platform {
    /// This machine; errors on one that set-up knows nothing for.
    pub fn here() -> Result<Self, String> {
        Self::of(std::env::consts::OS, std::env::consts::ARCH)
    }

    fn of(os: &str, arch: &str) -> Result<Self, String> {
        match (os, arch) {
            ("linux", "x86_64") => Ok(LinuxX86),
            ("linux", "aarch64") => Ok(LinuxArm),
            ("macos", "aarch64") => Ok(MacArm),
            _ => Err(format!(
                "set-up knows no libtorch for {os} on {arch}, only for Linux on x86-64 and 64-bit Arm and for macOS on Apple silicon: unpack \
                 libtorch 2.13 yourself and export LIBTORCH"
            )),
        }
    }

    /// A library's file name.
    pub fn library(self, name: &str) -> String {
        format!("lib{name}.{}", if self == MacArm { "dylib" } else { "so" })
    }

    /// Whether a file of PyTorch's `lib` folder is needed on the CPU.
    pub fn needs(self, file: &str) -> bool {
        match self {
            LinuxX86 => matches!(file, "libtorch_cpu.so" | "libc10.so" | "libgomp.so.1"),
            // Its BLAS, LAPACK and convolutions lie beside it.
            LinuxArm => {
                matches!(file, "libtorch_cpu.so" | "libc10.so" | "libgomp.so.1" | "libgfortran.so.5")
                    || file.starts_with("libnvpl_")
                    || file.starts_with("libarm_compute")
            }
            MacArm => matches!(file, "libtorch_cpu.dylib" | "libtorch.dylib" | "libc10.dylib" | "libomp.dylib"),
        }
    }

    /// Names under which linkers look for libraries, and what they are.
    pub fn links(self) -> &'static [(&'static str, &'static str)] {
        match self {
            LinuxX86 | LinuxArm => &[("libtorch.so", "libtorch_cpu.so"), ("libgomp.so", "libgomp.so.1")],
            MacArm => &[],
        }
    }

    /// Wheels of which one library is needed beside PyTorch's.
    pub fn support(self) -> &'static [(&'static str, &'static str)] {
        if self == MacArm { &[] } else { CUDA_STUBS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_machine_is_told_what_to_do() {
        assert_eq!(Platform::of("macos", "aarch64"), Ok(MacArm));
        let said = Platform::of("windows", "x86_64").unwrap_err();
        assert!(said.contains("windows on x86_64") && said.contains("export LIBTORCH"), "{said}");
        assert!(Platform::of("macos", "x86_64").is_err());
    }

    #[test]
    fn libraries_of_gpus_are_left_out() {
        assert!(LinuxArm.needs("libnvpl_blas_core.so.0") && !LinuxArm.needs("libtorch_cuda.so"));
        assert!(MacArm.needs("libomp.dylib") && !MacArm.needs("libshm.dylib"));
        assert_eq!(MacArm.library("onnxruntime"), "libonnxruntime.dylib");
    }
}
