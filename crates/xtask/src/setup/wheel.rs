//! Python wheels as archives: fetched by pip, checked by SHA-256, unpacked here. Nothing is installed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::repository::root;
use crate::shell;

/// SHA-256 of the wheels for every platform of set-up, by file name. Another Python may get others, which pip checks itself.
const KNOWN: &[(&str, &str)] = &[
    (
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    ),
    (
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl",
        "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
    ),
    (
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    (
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
        "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
    ),
    (
        "onnx-1.16.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "7b98aa9733bd4b781eb931d33b4078ff2837e7d68062460726d6dd011f332bd4",
    ),
    (
        "onnx-1.16.2-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
        "39a57d196fe5d73861e70d9625674e6caf8ca13c5e9c740462cf530a07cd2e1c",
    ),
    ("onnx-1.16.2-cp311-cp311-macosx_11_0_universal2.whl", "859b41574243c9bfd0abce03c15c78a1f270cc03c7f99629b984daf7adfa5003"),
    (
        "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
    ),
    (
        "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_aarch64.whl",
        "2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c",
    ),
    ("onnxruntime-1.32.0-cp311-cp311-macosx_14_0_arm64.whl", "366b9e53d07812cc5c92822cecf7563b76a8a0f32ba3bb8dd232a206ac3bcb6c"),
    ("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl", "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7"),
    ("torch-2.13.0-cp311-cp311-manylinux_2_28_aarch64.whl", "092790c696a760c729fd5722835f50b9d81fd7c8f141571f3f3cf4081a8f664c"),
    ("torch-2.13.0-cp311-cp311-macosx_14_0_arm64.whl", "e76f9bcecc52b8ff711239a2f7547d5353df95878ab232f0773c1d95928b92f8"),
];

/// Fetches one wheel into the cache and returns its path.
pub fn fetch(requirement: &str) -> Result<PathBuf, String> {
    let folder = root().join(".cache/wheels");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let (name, version) = requirement.split_once("==").unwrap_or((requirement, ""));
    let stem = format!("{}-{version}-", name.replace('-', "_"));
    if let Some(found) = find(&folder, &stem) {
        if check(&found).is_ok() {
            return Ok(found);
        }
        let _ = std::fs::remove_file(&found);
    }
    println!("fetching {requirement}");
    let python =
        ["python3", "python"].into_iter().find(|p| shell::exists(p)).ok_or("Python 3 is not here: install it, with pip")?;
    let target = folder.to_string_lossy().into_owned();
    let common = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", &target];
    let plain = [&common[..], &[requirement]].concat();
    // A newer or older Python than the wheels were built for serves as well: only their libraries are used.
    let any =
        [&common[..], &["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none", requirement]]
            .concat();
    if let Err(first) = shell::run(python, &plain, &root()) {
        shell::output(python, &any, &root()).map_err(|second| {
            format!("could not fetch {requirement}: {first}; {second}. Is there a network, and is pip installed (python3 -m pip --version)?")
        })?;
    }
    let found = find(&folder, &stem).ok_or_else(|| format!("pip left no wheel for {requirement} in {}", folder.display()))?;
    check(&found)?;
    Ok(found)
}

fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries.flatten().map(|e| e.path()).find(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(stem) && name.ends_with(".whl")
    })
}

fn check(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match KNOWN.iter().find(|(known, _)| *known == name) {
        Some((_, wanted)) if sha256(path)? != *wanted => {
            Err(format!("{} is damaged (its SHA-256 is not the known one): delete it and try again", path.display()))
        }
        _ => Ok(()),
    }
}

/// The SHA-256 of a file, hexadecimal.
pub fn sha256(path: &Path) -> Result<String, String> {
    let mut file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// Unpacks the entries for which `keep` names a place within `folder`.
pub fn extract(wheel: &Path, folder: &Path, keep: &dyn Fn(&str) -> Option<PathBuf>) -> Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("{}: {e}", wheel.display());
    let file = File::open(wheel).map_err(|e| fail(&e))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(|e| fail(&e))?;
    println!("unpacking {}", wheel.file_name().unwrap_or_default().to_string_lossy());
    let mut count = 0;
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(|e| fail(&e))?;
        let safe = entry.enclosed_name().is_some();
        let Some(place) = keep(entry.name()).filter(|_| safe && entry.is_file()) else { continue };
        let path = folder.join(place);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| fail(&e))?;
        }
        let mut out = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        io::copy(&mut entry, &mut out).map_err(|e| format!("{}: {e}", path.display()))?;
        out.sync_all().map_err(|e| format!("{}: {e}", path.display()))?;
        count += 1;
    }
    if count == 0 {
        return Err(format!("{} holds none of the files that were looked for", wheel.display()));
    }
    Ok(())
}

/// Removes a wheel that is no longer needed.
pub fn forget(wheel: &Path) {
    let _ = std::fs::remove_file(wheel);
}
