//! Fashion-MNIST: from a folder that the user names, from Debian's package, or from its public home.

use std::path::{Path, PathBuf};

use super::{appear, beside, debian, wheel};
use crate::repository::root;
use crate::shell;

/// The four files and their SHA-256.
const FILES: [(&str, &str); 4] = [
    ("train-images-idx3-ubyte.gz", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    ("train-labels-idx1-ubyte.gz", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    ("t10k-images-idx3-ubyte.gz", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    ("t10k-labels-idx1-ubyte.gz", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
];
const PACKAGE: &str = "dataset-fashion-mnist";
const PACKAGE_FOLDER: &str = "usr/share/datasets/fashion-mnist";
const HOME: &str = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com";

/// Puts the files into `.cache/fashion-mnist`, unless they are there and whole.
pub fn fashion_mnist(given: Option<&Path>) -> Result<(), String> {
    let place = root().join(".cache/fashion-mnist");
    if whole(&place).is_ok() {
        return Ok(());
    }
    let mut tried = Vec::new();
    let given = given.map(Path::to_path_buf).or_else(|| std::env::var_os("FASHION_MNIST").map(PathBuf::from));
    let installed = PathBuf::from("/").join(PACKAGE_FOLDER);
    for folder in given.into_iter().chain([installed]) {
        match take_from(&folder, &place) {
            Ok(()) => return Ok(()),
            Err(e) => tried.push(e),
        }
    }
    for source in [from_debian, from_home] {
        match source(&place) {
            Ok(()) => return Ok(()),
            Err(e) => tried.push(e),
        }
    }
    let names: Vec<&str> = FILES.iter().map(|f| f.0).collect();
    Err(format!(
        "Fashion-MNIST is not to be had:\n  {}\nPut these four files into {} (or name their folder: `cargo xtask setup --data DIR`):\n  {}",
        tried.join("\n  "),
        place.display(),
        names.join("\n  ")
    ))
}

/// Errors unless the folder holds the four files with their checksums.
fn whole(folder: &Path) -> Result<(), String> {
    for (name, wanted) in FILES {
        let path = folder.join(name);
        if !path.is_file() {
            return Err(format!("{} is missing", path.display()));
        }
        if wheel::sha256(&path)? != wanted {
            return Err(format!("{} is damaged (its SHA-256 is not the known one)", path.display()));
        }
    }
    Ok(())
}

fn take_from(folder: &Path, place: &Path) -> Result<(), String> {
    whole(folder)?;
    let made = beside(place);
    std::fs::create_dir_all(&made).map_err(|e| format!("{}: {e}", made.display()))?;
    for (name, _) in FILES {
        std::fs::copy(folder.join(name), made.join(name)).map_err(|e| format!("{}: {e}", made.display()))?;
    }
    appear(&made, place)
}

fn from_debian(place: &Path) -> Result<(), String> {
    debian::unpacked(PACKAGE, &mut |unpacked| take_from(&unpacked.join(PACKAGE_FOLDER), place))
}

/// The public home, by Python's own client.
fn from_home(place: &Path) -> Result<(), String> {
    println!("fetching Fashion-MNIST from its public home");
    let folder = root().join(".cache/download");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for (name, _) in FILES {
        let code =
            format!("import urllib.request as u; u.socket.setdefaulttimeout(60); u.urlretrieve('{HOME}/{name}', '{name}')");
        shell::output("python3", &["-c", &code], &folder).map_err(|e| format!("its public home: {e}"))?;
    }
    let taken = take_from(&folder, place);
    let _ = std::fs::remove_dir_all(&folder);
    taken
}
