//! The store's file: its tables, and how it is opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::StoreError;
use super::network::network;

/// Of the tables below.
const VERSION: i64 = 1;
/// How long a busy store is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS trial (
    id INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    origin TEXT NOT NULL,
    recipe TEXT NOT NULL,
    seed INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    worker TEXT,
    heartbeat REAL,
    started REAL,
    seconds REAL,
    figures TEXT,
    text TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS trial_state ON trial (state);
CREATE TABLE IF NOT EXISTS step (trial INTEGER NOT NULL REFERENCES trial, step INTEGER NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (trial, step)) STRICT;
";

/// To write; makes it where there is none.
pub(super) fn to_write(path: &Path) -> Result<Connection, StoreError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |source| StoreError::Io { path: folder.to_path_buf(), source };
    std::fs::create_dir_all(folder).map_err(io)?;
    if let Some(kind) = network(folder) {
        return Err(StoreError::Network { path: folder.to_path_buf(), kind });
    }
    let fail = |source| StoreError::Sqlite { path: path.to_path_buf(), source };
    let mut db = Connection::open(path).map_err(fail)?;
    db.busy_timeout(PATIENCE).map_err(fail)?;
    db.pragma_update(None, "journal_mode", "wal").map_err(fail)?;
    // A power failure may lose the last trials then, but never more, and never what is there.
    db.pragma_update(None, "synchronous", "normal").map_err(fail)?;
    let begun = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let found: i64 = begun.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(fail)?;
    if ![0, VERSION].contains(&found) {
        return Err(StoreError::Version { path: path.to_path_buf(), found, known: VERSION });
    }
    begun.execute_batch(TABLES).map_err(fail)?;
    begun.pragma_update(None, "user_version", VERSION).map_err(fail)?;
    begun.commit().map_err(fail)?;
    Ok(db)
}

/// To look into one that is there; `None` where there is none, or not yet.
pub(super) fn to_read(path: &Path) -> Result<Option<Connection>, StoreError> {
    if !path.is_file() {
        return Ok(None);
    }
    let fail = |source| StoreError::Sqlite { path: path.to_path_buf(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = path.as_os_str().to_os_string();
    log.push("-wal");
    let db = match (Path::new(&log).is_file(), path.to_str()) {
        // Nobody writes: as a file that does not change, it needs no others beside it, which the folder may not allow.
        (false, Some(text)) => {
            let each = text.chars().map(|c| if "%?#".contains(c) { format!("%{:02X}", c as u32) } else { c.into() });
            let place = format!("file:{}?immutable=1", each.collect::<String>());
            Connection::open_with_flags(place, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        _ => Connection::open_with_flags(path, flags),
    };
    let db = db.map_err(fail)?;
    db.busy_timeout(PATIENCE).map_err(fail)?;
    match db.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(fail)? {
        VERSION => Ok(Some(db)),
        // Somebody is about to make it.
        0 => Ok(None),
        found => Err(StoreError::Version { path: path.to_path_buf(), found, known: VERSION }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever looks leaves no file behind, and may look where it may not write.
    #[test]
    fn looking_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("50% #1?");
        let path = place.join("sweep.db");
        assert!(to_read(&path).unwrap().is_none());
        drop(to_write(&path).unwrap());
        let files = || std::fs::read_dir(&place).unwrap().count();
        assert_eq!(files(), 1);
        let db = to_read(&path).unwrap().unwrap();
        assert_eq!(db.query_row("SELECT count(*) FROM trial", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
        assert!(db.execute("DELETE FROM trial", []).is_err());
        assert_eq!(files(), 1);
        // Beside somebody who writes, too.
        let writer = to_write(&path).unwrap();
        writer.execute("INSERT INTO meta VALUES ('a', 'b')", []).unwrap();
        let db = to_read(&path).unwrap().unwrap();
        assert_eq!(db.query_row("SELECT value FROM meta", [], |r| r.get::<_, String>(0)).unwrap(), "b");
    }
}
