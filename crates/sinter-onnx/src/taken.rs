//! Names that are taken, and free ones like them.

use std::collections::{HashMap, HashSet};

/// Names that are taken.
#[derive(Default)]
pub(crate) struct Taken {
    names: HashSet<String>,
    /// The last number behind each.
    last: HashMap<String, usize>,
}

impl Taken {
    /// These names.
    pub fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self { names: names.map(String::from).collect(), last: HashMap::new() }
    }

    /// Takes a free name: the hint, or that and a number.
    pub fn free(&mut self, hint: &str, other: impl Fn(&str) -> bool) -> String {
        if !hint.is_empty() && !other(hint) && self.names.insert(hint.to_string()) {
            return hint.to_string();
        }
        let count = self.last.entry(hint.to_string()).or_insert(1);
        loop {
            *count += 1;
            let name = format!("{hint}_{count}");
            if !other(&name) && self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}
