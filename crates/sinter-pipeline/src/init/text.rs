//! Pieces of YAML, and the paths in them.

use std::path::{Component, Path, PathBuf};

/// A text as YAML has it within braces: bare where it may be.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let bare = !text.is_empty() && text.chars().all(plain) && !text.starts_with('-');
    let is_text = serde_yaml::from_str::<serde_yaml::Value>(text).is_ok_and(|v| v.is_string());
    match bare && is_text {
        true => text.to_string(),
        false => serde_json::to_string(text).unwrap_or_default(),
    }
}

/// A text within a pipeline, where `${` begins a variable.
pub(super) fn escaped(text: &str) -> String {
    quoted(text).replace("${", "$${")
}

/// A line of comment, whatever stands in it; wrapped where it is long.
pub(super) fn comment(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < 110 => *line += &format!(" {word}"),
            _ => lines.push(format!(" {word}")),
        }
    }
    lines.iter().map(|line| format!("#{line}\n")).collect()
}

/// A path as a file in `folder` names it; whole, where there is no folder.
pub(super) fn relative(path: &Path, folder: Option<&Path>) -> String {
    let real = |path: &Path| match path.as_os_str().is_empty() {
        true => Path::new(".").canonicalize(),
        false => path.canonicalize(),
    };
    // A link keeps its name: it may say what the file is, and what lies beside it.
    let named = |path: &Path| match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(real(parent)?.join(name)),
        _ => real(path),
    };
    let Ok(whole) = named(path) else { return path.display().to_string() };
    let Some(Ok(folder)) = folder.map(real) else { return whole.display().to_string() };
    let (to, from): (Vec<Component>, Vec<Component>) = (whole.components().collect(), folder.components().collect());
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    if common <= 1 && from.len() > 1 {
        // Nothing but the root in common: the whole path is plainer.
        return whole.display().to_string();
    }
    let up = from[common..].iter().map(|_| Component::ParentDir);
    let way: PathBuf = up.chain(to[common..].iter().copied()).collect();
    if way.as_os_str().is_empty() { ".".into() } else { way.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_yaml_as_they_were() {
        for text in
            ["plain", "a b", "5", "true", "~", "a: b", "x\"y", "données", "-x", "${A}", "1e3", "../data/x.npz", "no", "#a"]
        {
            let read: serde_yaml::Value = serde_yaml::from_str(&format!("{{ key: {} }}", quoted(text))).unwrap();
            assert_eq!(read["key"].as_str(), Some(text), "{}", quoted(text));
        }
    }

    #[test]
    fn paths_are_seen_from_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/x.npz"), "").unwrap();
        let from = |place: &str| relative(&folder.path().join("a/x.npz"), Some(&folder.path().join(place)));
        assert_eq!([from("a"), from("a/b"), from("")], ["x.npz", "../x.npz", "a/x.npz"]);
    }
}
