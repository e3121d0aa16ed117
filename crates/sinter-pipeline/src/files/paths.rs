//! Paths within a file, which are relative to it.

use std::path::Path;

use serde_yaml::Value;

use super::tree::{Node, Tree};

/// Which values of a kind of file are paths.
#[derive(Debug)]
pub(crate) struct Paths {
    /// By where they stand, as in `model.onnx`.
    pub at: &'static [&'static str],
    /// By key, wherever it stands, and what the text begins with where it is a path, as in `teacher: onnx:PATH`.
    pub keys: &'static [(&'static str, &'static str)],
    /// Keys of commands, whose words are paths where there is such a file.
    pub commands: &'static [&'static str],
}

impl Paths {
    /// Rewrites the paths of a tree to what they are seen from another folder, from which `way` leads to `folder`, the file's own.
    pub(super) fn seen_from(&self, tree: &mut Tree, way: &Path, folder: &Path) {
        if way.as_os_str().is_empty() {
            return;
        }
        for path in self.at {
            let found = path.split('.').try_fold(&mut *tree, |tree, key| tree.get_mut(key));
            if let Some(tree) = found {
                rewrite(tree, "", way);
            }
        }
        self.descend(tree, way, folder);
    }

    fn descend(&self, tree: &mut Tree, way: &Path, folder: &Path) {
        match &mut tree.node {
            Node::Map(entries) => {
                for (key, inner) in entries {
                    let key = key.as_str().unwrap_or_default();
                    if let Some((_, begins)) = self.keys.iter().find(|(k, _)| *k == key) {
                        rewrite(inner, begins, way);
                    }
                    if self.commands.contains(&key)
                        && let Node::List(words) = &mut inner.node
                    {
                        let files = words.iter_mut().filter(|w| w.text().is_some_and(|word| folder.join(word).is_file()));
                        files.for_each(|word| rewrite(word, "", way));
                    }
                    self.descend(inner, way, folder);
                }
            }
            Node::List(items) => items.iter_mut().for_each(|inner| self.descend(inner, way, folder)),
            Node::Leaf(_) => {}
        }
    }
}

fn rewrite(tree: &mut Tree, begins: &str, way: &Path) {
    let Some(path) = tree.text().and_then(|text| text.strip_prefix(begins)) else { return };
    if path.starts_with("${") {
        // A variable may stand for a whole path: that is seen once it is put in.
        tree.way = Some(tree.way.as_ref().map_or_else(|| way.to_path_buf(), |inner| way.join(inner)));
    } else {
        tree.node = Node::Leaf(Value::String(format!("{begins}{}", way.join(path).display())));
    }
}
