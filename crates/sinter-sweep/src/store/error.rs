//! Why a store did not do what was asked.

use std::path::PathBuf;

/// Why the store did not take or give something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error(
        "{path}: {source} (a store that is damaged can be moved away: what was computed is in the cache, so that trying again is quick)"
    )]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: rusqlite::Error,
    },
    /// The folder could not be made or looked at.
    #[error("{path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Locks can't be trusted there.
    #[error(
        "{path} lies on a network file system ({kind}), where the locks of SQLite can't be trusted and a store can be ruined; put it on a disk of this machine \
         (--out), or share one store over the network by a PostgreSQL server, which this version can't do yet"
    )]
    Network {
        /// The folder.
        path: PathBuf,
        /// `NFS`.
        kind: &'static str,
    },
    /// Another Sinter wrote it.
    #[error(
        "{path}: this store has version {found}, this Sinter knows {known}; go on with the Sinter that wrote it, or take another --out"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Something in it can't be read.
    #[error(
        "{path}: trial {trial}: {reason}; move the file away: what was computed is in the cache, so that trying again is quick"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The trial.
        trial: i64,
        /// What is wrong.
        reason: String,
    },
}
