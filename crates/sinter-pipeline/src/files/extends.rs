//! `extends`: a file that says only what differs from another.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::paths::Paths;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Files that stand upon one another: more is a mistake.
const DEEPEST: usize = 16;

/// What a file says together with what it extends.
pub(super) fn load(path: &Path, texts: &mut Texts, paths: &Paths) -> Result<Tree, ConfigError> {
    read(path, texts, paths, &mut Vec::new())
}

fn read(path: &Path, texts: &mut Texts, paths: &Paths, seen: &mut Vec<PathBuf>) -> Result<Tree, ConfigError> {
    let mut tree = texts.read(path)?;
    let Some(base) = tree.take("extends") else { return Ok(tree) };
    let wrong = |message: String, help: &str, texts: &Texts| texts.error(&base, message, Some(help.to_string()));
    let Some(name) = base.text() else {
        return Err(wrong("`extends` is no path".into(), "write `extends: base.yaml`, relative to this file", texts));
    };
    let from = path.parent().unwrap_or(Path::new("")).join(name);
    seen.push(path.canonicalize().unwrap_or_else(|_| path.to_path_buf()));
    let around = from.canonicalize().is_ok_and(|real| seen.contains(&real));
    if around || seen.len() > DEEPEST {
        let message = format!("{} extends itself, by way of {}", path.display(), from.display());
        return Err(wrong(message, "a file can't stand upon itself: take one `extends` away", texts));
    }
    if !from.is_file() {
        return Err(wrong(format!("there is no file {}", from.display()), "`extends` is relative to this file", texts));
    }
    let mut below = read(&from, texts, paths, seen)?;
    let way = Path::new(name).parent().unwrap_or(Path::new(""));
    paths.seen_from(&mut below, way, from.parent().unwrap_or(Path::new("")));
    merge(&mut below, tree, texts, true)?;
    Ok(below)
}

/// Puts what a file says over what stood before: mappings key by key, stages by their names, all else as a whole. `~` takes a key away.
fn merge(below: &mut Tree, above: Tree, texts: &Texts, top: bool) -> Result<(), ConfigError> {
    let Tree { origin, node } = above;
    match (&mut below.node, node) {
        (Node::Map(_), Node::Map(entries)) => {
            below.origin = origin;
            for (key, tree) in entries {
                let name = key.as_str().unwrap_or_default().to_string();
                match below.get_mut(&name) {
                    _ if tree.is_null() => drop(below.take(&name)),
                    Some(place) if top && name == "stages" => stages(place, tree, texts)?,
                    Some(place) => merge(place, tree, texts, false)?,
                    None => below.put(&name, tree),
                }
            }
        }
        (_, node) => *below = Tree { origin, node },
    }
    Ok(())
}

/// Stages of a file over those of the one below: each that is there already is changed, others come behind, or where `after` and `before` say.
fn stages(below: &mut Tree, above: Tree, texts: &Texts) -> Result<(), ConfigError> {
    let (Node::List(list), Node::List(items)) = (&mut below.node, &above.node) else {
        *below = above;
        return Ok(());
    };
    for item in items.clone() {
        let mut item = item;
        let place = [("after", 1), ("before", 0)].into_iter().find_map(|(key, plus)| Some((item.take(key)?, plus)));
        match (find(list, &item, texts)?, place) {
            (Some(at), None) => {
                let kind = kind(&list[at]).unwrap_or_default().to_string();
                if item.get(&kind).is_some_and(Tree::is_null) {
                    list.remove(at);
                    continue;
                }
                if list[at].get("name").is_none() {
                    // `2-prune` says where it is, not what it is called.
                    item.take("name");
                }
                merge(&mut list[at], item, texts, false)?;
            }
            (Some(_), Some((place, _))) => {
                return Err(texts.error(
                    &place,
                    "the file that this one extends has this stage already",
                    Some("`after` and `before` place a new stage: give it a `name` of its own".into()),
                ));
            }
            (None, None) => list.push(item),
            (None, Some((place, plus))) => {
                let wanted = place.text().unwrap_or_default();
                let Some(at) = position(list, wanted) else {
                    let (message, help) = unknown(list, wanted);
                    return Err(texts.error(&place, message, Some(help)));
                };
                list.insert(at + plus, item);
            }
        }
    }
    Ok(())
}

/// Which stage of a list an item means: the one of its name, else the only one of its kind.
fn find(list: &[Tree], item: &Tree, texts: &Texts) -> Result<Option<usize>, ConfigError> {
    let mine = kind(item);
    if let Some(name) = item.get("name") {
        let Some(at) = name.text().and_then(|name| position_by_name(list, name)) else { return Ok(None) };
        return match (kind(&list[at]), mine) {
            (Some(theirs), Some(mine)) if theirs != mine => {
                let message = format!("`{}` is a `{theirs}` stage there, not `{mine}`", name.text().unwrap_or_default());
                Err(texts.error(name, message, Some("give a new stage another name".into())))
            }
            _ => Ok(Some(at)),
        };
    }
    match &of_kind(list, mine)[..] {
        [] => Ok(None),
        [at] => Ok(Some(*at)),
        several => {
            let kind = mine.unwrap_or_default();
            let names: Vec<String> = several.iter().map(|&i| format!("`name: {}`", name_of(list, i))).collect();
            let message = format!("the file that this one extends has {} stages `{kind}`", several.len());
            Err(texts.error(item, message, Some(format!("say which is meant: {}", names.join(" or ")))))
        }
    }
}

/// The key of a stage that says what it is.
pub(super) fn kind(stage: &Tree) -> Option<&str> {
    let Node::Map(entries) = &stage.node else { return None };
    entries.iter().filter_map(|(key, _)| key.as_str()).find(|key| !["name", "after", "before"].contains(key))
}

/// A stage's own name, else `2-prune`.
pub(super) fn name_of(list: &[Tree], at: usize) -> String {
    let own = list[at].get("name").and_then(Tree::text).map(String::from);
    own.unwrap_or_else(|| format!("{}-{}", at + 1, kind(&list[at]).unwrap_or("?")))
}

fn position_by_name(list: &[Tree], name: &str) -> Option<usize> {
    let numbered = |i: usize| format!("{}-{}", i + 1, kind(&list[i]).unwrap_or("?"));
    (0..list.len()).find(|&i| name_of(list, i) == name || numbered(i) == name)
}

/// Stages of a kind; where some have no name of their own, those.
fn of_kind(list: &[Tree], wanted: Option<&str>) -> Vec<usize> {
    let same: Vec<usize> = (0..list.len()).filter(|&i| wanted.is_some() && kind(&list[i]) == wanted).collect();
    let plain: Vec<usize> = same.iter().copied().filter(|&i| list[i].get("name").is_none()).collect();
    if plain.is_empty() { same } else { plain }
}

/// By name, else the only one of that kind.
pub(super) fn position(list: &[Tree], name: &str) -> Option<usize> {
    position_by_name(list, name).or_else(|| match of_kind(list, Some(name))[..] {
        [only] => Some(only),
        _ => None,
    })
}

/// In words, that no stage or more than one is meant, and what there is.
pub(super) fn unknown(list: &[Tree], wanted: &str) -> (String, String) {
    let names: Vec<String> = (0..list.len()).map(|i| name_of(list, i)).collect();
    let what = if of_kind(list, Some(wanted)).is_empty() { "no stage is" } else { "more than one stage is" };
    (format!("{what} called `{wanted}`"), format!("there are {}", names.join(", ")))
}
