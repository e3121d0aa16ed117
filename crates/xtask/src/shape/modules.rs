//! The modules of a crate as files, and which file uses what of which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;
use syn::{Item, UseTree};

/// A path from the root of the crate: `["measure", "Measured"]`.
type Names = Vec<String>;

/// A module in a file of its own.
pub struct Module {
    pub path: PathBuf,
    /// Its place in the crate.
    names: Names,
    /// What it uses of its own crate.
    uses: BTreeSet<Names>,
    /// What it hands on under its own name, and from where.
    hands_on: BTreeMap<String, Names>,
}

/// The files of a crate.
pub struct Tree {
    pub files: Vec<Module>,
}

/// Reads a crate from its first file.
pub fn read(first: &Path) -> Result<Tree, String> {
    let mut tree = Tree { files: vec![] };
    tree.add(first, vec![])?;
    Ok(tree)
}

impl Tree {
    fn add(&mut self, path: &Path, names: Names) -> Result<(), String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = syn::parse_file(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut walk = Walk { here: names.clone(), uses: BTreeSet::new(), hands_on: BTreeMap::new(), inner: vec![] };
        walk.visit_file(&file);
        let children: Vec<String> = file.items.iter().filter_map(child).collect();
        self.files.push(Module { path: path.to_path_buf(), names: names.clone(), uses: walk.uses, hands_on: walk.hands_on });
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = if matches!(stem.as_str(), "lib" | "main" | "mod") { folder.to_path_buf() } else { folder.join(stem) };
        for child in children {
            let flat = folder.join(format!("{child}.rs"));
            let place = if flat.is_file() { flat } else { folder.join(&child).join("mod.rs") };
            self.add(&place, [names.clone(), vec![child]].concat())?;
        }
        Ok(())
    }

    /// Of each file, the files that it uses; those above and below it in the tree do not count.
    pub fn uses(&self) -> Vec<Vec<usize>> {
        let related = |a: &Names, b: &Names| a.starts_with(b) || b.starts_with(a);
        let of = |module: &Module| {
            let files = module.uses.iter().filter_map(|names| self.resolve(names, 0));
            let others = files.filter(|&i| !related(&self.files[i].names, &module.names));
            others.collect::<BTreeSet<usize>>().into_iter().collect()
        };
        self.files.iter().map(of).collect()
    }

    /// The file in which a path ends, through what modules hand on.
    fn resolve(&self, names: &Names, depth: usize) -> Option<usize> {
        let holds = |i: &usize| names.starts_with(&self.files[*i].names);
        let file = (0..self.files.len()).filter(holds).max_by_key(|&i| self.files[i].names.len())?;
        let module = &self.files[file];
        let next = names.get(module.names.len()).and_then(|name| module.hands_on.get(name));
        match next {
            Some(from) if depth < 8 && from != names => self.resolve(from, depth + 1).or(Some(file)),
            _ => Some(file),
        }
    }
}

fn child(item: &Item) -> Option<String> {
    match item {
        Item::Mod(m) if m.content.is_none() => Some(m.ident.to_string()),
        _ => None,
    }
}

/// Gathers paths of one file.
struct Walk {
    here: Names,
    uses: BTreeSet<Names>,
    hands_on: BTreeMap<String, Names>,
    /// Modules within the file, around what is looked at.
    inner: Names,
}

impl Walk {
    /// A path of this crate from its root; `None` for one of another.
    fn whole(&self, path: &[String]) -> Option<Names> {
        let mut at = [self.here.clone(), self.inner.clone()].concat();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (vec![], &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|s| s == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ => return None,
        }
        at.extend(rest.iter().cloned());
        Some(at)
    }

    fn note(&mut self, path: &[String]) {
        let whole = self.whole(path);
        self.uses.extend(whole);
    }

    fn tree(&mut self, before: Names, tree: &UseTree, public: bool) {
        match tree {
            UseTree::Path(p) => self.tree([before, vec![p.ident.to_string()]].concat(), &p.tree, public),
            UseTree::Group(g) => g.items.iter().for_each(|t| self.tree(before.clone(), t, public)),
            UseTree::Name(n) if n.ident == "self" => self.note(&before),
            UseTree::Name(n) => self.leaf([before, vec![n.ident.to_string()]].concat(), n.ident.to_string(), public),
            UseTree::Rename(r) => self.leaf([before, vec![r.ident.to_string()]].concat(), r.rename.to_string(), public),
            UseTree::Glob(_) => self.note(&before),
        }
    }

    fn leaf(&mut self, path: Names, name: String, public: bool) {
        if public && self.inner.is_empty() {
            // Without a word before it the path begins at a child.
            let from = self.whole(&path).unwrap_or_else(|| [self.here.clone(), path.clone()].concat());
            self.hands_on.insert(name, from);
        }
        self.note(&path);
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Names = vec![];
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.note(&std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.note(&std::mem::take(&mut path));
                    self.tokens(group.stream());
                    colons = 0;
                }
                _ => {
                    self.note(&std::mem::take(&mut path));
                    colons = 0;
                }
            }
        }
        self.note(&path);
    }
}

impl<'a> Visit<'a> for Walk {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        let tests = item.attrs.iter().any(|a| a.path().is_ident("cfg"));
        if item.content.is_none() || tests {
            return;
        }
        self.inner.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.inner.pop();
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.tree(vec![], &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        self.note(&path.segments.iter().map(|s| s.ident.to_string()).collect::<Names>());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        self.tokens(item.tokens.clone());
    }
}
