//! What `sinter cache` says.

use sinter_model::Bytes;
use sinter_pipeline::{Kind, Prune, Store};

use crate::answer::{Failure, failed, say};
use crate::args::CacheAction;

pub fn run(store: &Store, action: &CacheAction) -> Result<(), Failure> {
    match action {
        CacheAction::List { json: true } => say(&serde_json::to_string_pretty(&store.entries()).map_err(failed)?),
        CacheAction::List { json: false } => list(store),
        CacheAction::Verify => verify(store),
        CacheAction::Prune { older, keep_last } => {
            let (count, bytes) = store.prune(Prune { older: *older, keep_last: *keep_last }).map_err(failed)?;
            say(&format!("{count} entries removed, {}", Bytes(bytes)))
        }
        CacheAction::Clear => say(&format!("{} removed", Bytes(store.clear().map_err(failed)?))),
    }
}

fn list(store: &Store) -> Result<(), Failure> {
    let entries = store.entries();
    let mut lines: Vec<String> = Vec::new();
    for e in &entries {
        let kind = match e.kind {
            Some(Kind::Stage) => "stage",
            Some(Kind::Memory) => "memory",
            Some(Kind::Work) => "work",
            None => "damaged",
        };
        lines.push(format!(
            "{}  {kind:<7}  {:>10}  unused for {:>6}  {}",
            e.key,
            Bytes(e.bytes).to_string(),
            age(e.unused_seconds),
            e.name
        ));
    }
    lines.push(format!("{} entries, {}", entries.len(), Bytes(entries.iter().map(|e| e.bytes).sum())));
    say(&lines.join("\n"))
}

/// In the largest unit that fits.
fn age(seconds: u64) -> String {
    match seconds {
        s if s >= 86_400 => format!("{} d", s / 86_400),
        s if s >= 3_600 => format!("{} h", s / 3_600),
        s if s >= 60 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

/// Exit code 1 where something was damaged.
fn verify(store: &Store) -> Result<(), Failure> {
    let findings = store.verify().map_err(failed)?;
    let faults: Vec<String> = findings.iter().filter_map(|f| Some(format!("{}: {}", f.key, f.fault.as_ref()?))).collect();
    if faults.is_empty() {
        return say(&format!("{} entries, every byte is as it was written", findings.len()));
    }
    Err(failed(format!("{} of {} entries are damaged:\n{}", faults.len(), findings.len(), faults.join("\n"))))
}
