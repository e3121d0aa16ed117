//! Packages of Debian, fetched and unpacked without installing them.

use std::path::Path;

use crate::repository::root;
use crate::shell;

/// Unpacks a package into a folder that is gone again when `take` has taken from it.
pub fn unpacked(package: &str, take: &mut dyn FnMut(&Path) -> Result<(), String>) -> Result<(), String> {
    if !shell::exists("apt-get") || !shell::exists("dpkg-deb") {
        return Err("Debian's package: this is no Debian".into());
    }
    println!("fetching Debian's {package}");
    let folder = root().join(".cache/debian");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let fail = |e: String| format!("Debian's package: {e}");
    let download = || shell::output("apt-get", &["download", package], &folder);
    if download().is_err() {
        // The list of packages may be missing or old; only root may renew it.
        let _ = shell::output("apt-get", &["update"], &folder);
        download().map_err(fail)?;
    }
    let entries = std::fs::read_dir(&folder).map_err(|e| e.to_string())?.flatten();
    let file = entries.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "deb"));
    let file = file.ok_or("Debian's package: apt-get left no file")?;
    shell::output("dpkg-deb", &["-x", &file.to_string_lossy(), "unpacked"], &folder).map_err(fail)?;
    let taken = take(&folder.join("unpacked"));
    let _ = std::fs::remove_dir_all(&folder);
    taken
}
