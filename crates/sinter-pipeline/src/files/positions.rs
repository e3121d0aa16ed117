//! Where each key and value of a YAML file stands.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, Span};

use super::tree::join;

/// Byte ranges by path, such as `stages[1].prune.layers[0].match`.
#[derive(Debug, Default)]
pub(super) struct Positions {
    keys: HashMap<String, Range<usize>>,
    values: HashMap<String, Range<usize>>,
}

enum Level {
    /// The path of the mapping, and the key whose value comes next.
    Mapping(String, Option<String>),
    Sequence(String, usize),
}

impl Positions {
    /// Reads the positions; a file that is no YAML has none after the fault.
    pub fn new(text: &str) -> Self {
        let mut positions = Self::default();
        let offsets: Vec<usize> = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect();
        let byte = |i: usize| offsets.get(i).copied().unwrap_or(text.len());
        let range = |span: &Span| byte(span.start.index())..byte(span.end.index());
        let mut levels: Vec<Level> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            match event {
                Event::Scalar(value, ..) => {
                    if let Some(Level::Mapping(path, key @ None)) = levels.last_mut() {
                        let path = join(path, &value);
                        positions.keys.insert(path.clone(), range(&span));
                        *key = Some(path);
                    } else {
                        let path = next(&mut levels);
                        positions.values.insert(path, range(&span));
                    }
                }
                Event::Alias(_) => {
                    let path = next(&mut levels);
                    positions.values.insert(path, range(&span));
                }
                Event::MappingStart(..) => {
                    let path = next(&mut levels);
                    positions.values.insert(path.clone(), range(&span));
                    levels.push(Level::Mapping(path, None));
                }
                Event::SequenceStart(..) => {
                    let path = next(&mut levels);
                    positions.values.insert(path.clone(), range(&span));
                    levels.push(Level::Sequence(path, 0));
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    levels.pop();
                }
                _ => {}
            }
        }
        positions
    }

    /// Where the key at a path stands.
    pub fn key(&self, path: &str) -> Option<Range<usize>> {
        self.keys.get(path).cloned()
    }

    /// The value at a path, or its key where the value is a block, or the nearest enclosing one that is there.
    pub fn find(&self, path: &str) -> Option<Range<usize>> {
        let value = self.values.get(path).filter(|r| !r.is_empty());
        if let Some(found) = value.or_else(|| self.keys.get(path)).or_else(|| self.values.get(path)) {
            return Some(found.clone());
        }
        let cut = path.rfind(['.', '['])?;
        self.find(&path[..cut])
    }
}

/// The path of the value that begins here.
fn next(levels: &mut [Level]) -> String {
    match levels.last_mut() {
        None => String::new(),
        Some(Level::Mapping(path, key)) => key.take().unwrap_or_else(|| path.clone()),
        Some(Level::Sequence(path, index)) => {
            *index += 1;
            format!("{path}[{}]", *index - 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_found() {
        let text = "name: é\nstages:\n  - train: { epochs: 3 }\n  - prune:\n      layers: [a, \"b c\"]\n";
        let positions = Positions::new(text);
        let at = |path: &str| positions.find(path).map(|r| &text[r]);
        assert_eq!(at("name"), Some("é"));
        assert_eq!(at("stages[0].train.epochs"), Some("3"));
        assert_eq!(positions.key("stages[0].train.epochs").map(|r| &text[r]), Some("epochs"));
        assert_eq!(at("stages[1].prune.layers[1]"), Some("\"b c\""));
        assert_eq!(at("stages[1].prune.nothing").map(|s| s.trim_end()), Some("prune"));
    }
}
