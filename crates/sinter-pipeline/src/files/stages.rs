//! Stages of a file over those of the file that it extends, and which of them a name means.

use super::error::ConfigError;
use super::merge::merge;
use super::texts::Texts;
use super::tree::{Node, Tree};

/// Puts stages over those of the file below: one that is there is changed or taken away, others come last, or where `after` and `before` say. Names and numbers are
/// those of the file below, whatever is changed of it.
pub(super) fn put_over(below: &mut Tree, above: Tree, texts: &Texts) -> Result<(), ConfigError> {
    let (Node::List(base), Node::List(items)) = (&below.node, &above.node) else {
        *below = above;
        return Ok(());
    };
    let base = base.clone();
    let mut now: Vec<(Option<usize>, Tree)> = base.iter().cloned().enumerate().map(|(i, t)| (Some(i), t)).collect();
    let mut said = vec![false; base.len()];
    for item in items {
        let mut item = item.clone();
        let place = [("after", true), ("before", false)].into_iter().find_map(|(key, after)| Some((item.take(key)?, after)));
        let taken_away = kind(&item).and_then(|kind| item.get(kind)).is_some_and(Tree::is_null);
        match (find(&base, &item, texts)?, place) {
            (Some(_), Some((place, _))) => {
                let help = "`after` and `before` place a new stage: give it a `name` of its own";
                return Err(texts.error(&place, "the file that this one extends has this stage already", Some(help.into())));
            }
            (Some(at), None) if std::mem::replace(&mut said[at], true) => {
                let message = format!("this file has said of the stage `{}` already", name_of(&base, at));
                return Err(texts.error(&item, message, Some("a new stage gets a `name` of its own".into())));
            }
            (Some(at), None) if taken_away => now.retain(|(number, _)| *number != Some(at)),
            (Some(at), None) => {
                if item.get("name").and_then(Tree::text) != base[at].get("name").and_then(Tree::text) {
                    // `2-prune` says where it is, not what it is called.
                    item.take("name");
                }
                if let Some((_, stage)) = now.iter_mut().find(|(number, _)| *number == Some(at)) {
                    merge(stage, item, texts)?;
                }
            }
            (None, _) if taken_away => {
                let wanted = item.get("name").and_then(Tree::text).or(kind(&item)).unwrap_or_default();
                let (message, help) = unknown(&base, wanted);
                return Err(texts.error(&item, format!("{message}, to be taken away"), Some(help)));
            }
            (None, None) => now.push((None, item)),
            (None, Some((place, after))) => {
                let at = place_of(&base, &now, &place, texts)?;
                // New ones behind the same stage stay in the order in which they were written.
                let fresh = now[at + 1..].iter().take_while(|(number, _)| number.is_none()).count();
                now.insert(if after { at + 1 + fresh } else { at }, (None, item));
            }
        }
    }
    below.node = Node::List(now.into_iter().map(|(_, tree)| tree).collect());
    below.origin = above.origin;
    Ok(())
}

/// Where the stage stands by now that `after` or `before` names: one of the file below, or a new one with a name.
fn place_of(base: &[Tree], now: &[(Option<usize>, Tree)], place: &Tree, texts: &Texts) -> Result<usize, ConfigError> {
    let wanted = place.text().unwrap_or_default();
    let fresh = now.iter().position(|(number, t)| number.is_none() && t.get("name").and_then(Tree::text) == Some(wanted));
    let old = position(base, wanted);
    if let Some(at) = fresh.or_else(|| now.iter().position(|(number, _)| old.is_some() && *number == old)) {
        return Ok(at);
    }
    let (message, help) = match old {
        Some(_) => (format!("the stage `{wanted}` is taken away"), "name one that stays".to_string()),
        None => unknown(base, wanted),
    };
    Err(texts.error(place, message, Some(help)))
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

/// The key of a stage that says what it is; of one that was taken away, none.
pub(super) fn kind(stage: &Tree) -> Option<&str> {
    let Node::Map(entries) = &stage.node else { return None };
    entries.iter().filter_map(|(key, _)| key.as_str()).find(|key| !["name", "after", "before"].contains(key))
}

/// A stage's own name, else `2-prune`.
fn name_of(list: &[Tree], at: usize) -> String {
    let own = list[at].get("name").and_then(Tree::text).map(String::from);
    own.unwrap_or_else(|| numbered(list, at))
}

fn numbered(list: &[Tree], at: usize) -> String {
    format!("{}-{}", at + 1, kind(&list[at]).unwrap_or("?"))
}

fn position_by_name(list: &[Tree], name: &str) -> Option<usize> {
    let is = |at: &usize| kind(&list[*at]).is_some() && (name_of(list, *at) == name || numbered(list, *at) == name);
    (0..list.len()).find(is)
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
    let names: Vec<String> = (0..list.len()).filter(|&i| kind(&list[i]).is_some()).map(|i| name_of(list, i)).collect();
    let what = if of_kind(list, Some(wanted)).is_empty() { "no stage is" } else { "more than one stage is" };
    let help = if names.is_empty() { "there are none".to_string() } else { format!("there are {}", names.join(", ")) };
    (format!("{what} called `{wanted}`"), help)
}
