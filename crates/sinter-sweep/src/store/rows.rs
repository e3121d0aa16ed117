//! Rows of the store as trials.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, Row};

use super::StoreError;
use crate::trial::{State, Trial};

/// Reads what is new, and what had not come to its end.
pub(super) fn refresh(known: &mut BTreeMap<i64, Trial>, db: &Connection, path: &Path) -> Result<(), StoreError> {
    let last = known.keys().next_back().copied().unwrap_or(0);
    let open: Vec<String> = known.values().filter(|t| !t.state.is_final()).map(|t| t.id.to_string()).collect();
    let news = read(db, path, &format!("id > {last} OR id IN ({})", open.join(", ")))?;
    known.extend(news.into_iter().map(|t| (t.id, t)));
    Ok(())
}

/// The trials that a condition of SQL picks, in their order.
pub(super) fn read(db: &Connection, path: &Path, which: &str) -> Result<Vec<Trial>, StoreError> {
    let fail = |source| StoreError::Sqlite { path: path.to_path_buf(), source };
    let columns = "id, state, origin, recipe, seed, tries, seconds, coalesce(figures, '{}'), coalesce(text, '')";
    let mut all = db.prepare(&format!("SELECT {columns} FROM trial WHERE {which} ORDER BY id")).map_err(fail)?;
    let mut rows = all.query([]).map_err(fail)?;
    let mut trials = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        trials.push(trial(row, path)?);
    }
    Ok(trials)
}

fn trial(row: &Row, path: &Path) -> Result<Trial, StoreError> {
    let fail = |source| StoreError::Sqlite { path: path.to_path_buf(), source };
    let id: i64 = row.get(0).map_err(fail)?;
    let damaged = |reason: String| StoreError::Damaged { path: path.to_path_buf(), trial: id, reason };
    let text = |at: usize| row.get::<_, String>(at).map_err(fail);
    let state = text(1)?;
    Ok(Trial {
        id,
        state: State::ALL.into_iter().find(|s| s.name() == state).ok_or_else(|| damaged(format!("its state is `{state}`")))?,
        origin: text(2)?,
        recipe: serde_json::from_str(&text(3)?).map_err(|e| damaged(format!("recipe: {e}")))?,
        seed: row.get::<_, i64>(4).map_err(fail)? as u64,
        tries: row.get(5).map_err(fail)?,
        seconds: row.get(6).map_err(fail)?,
        figures: serde_json::from_str(&text(7)?).map_err(|e| damaged(format!("figures: {e}")))?,
        text: text(8)?,
    })
}
