//! Looks at the folder while somebody listens.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sinter_pipeline::status;
use sinter_sweep::Standing;
use tokio::sync::watch;

use crate::guard::is_within;
use crate::pages;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// What was seen: enough to bring a page up to date, or to say that it is not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Seen {
    /// The tables of the first page.
    pub tables: String,
    /// How far each sweep is: a mark that changes when a trial begins or ends, and when finalists are compared.
    pub sweeps: BTreeMap<String, String>,
}

impl Seen {
    /// As the folder is now.
    pub fn of(folder: &Path) -> Self {
        let (mut runs, mut all) = (status(&[folder.to_path_buf()]), Standing::all(folder));
        runs.retain(|run| is_within(folder, &run.folder));
        all.retain(|sweep| is_within(folder, &Standing::store_path(folder, &sweep.name)));
        let sweeps = all.iter().map(|sweep| (sweep.name.clone(), format!("{sweep:?}"))).collect();
        Self { tables: pages::tables(folder, &runs, &all).into_string(), sweeps }
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Looks again and again, as long as anybody listens.
pub(crate) struct Watch(watch::Sender<Seen>);

impl Watch {
    /// Begins; nothing is looked at before somebody listens.
    pub fn start(folder: &Path) -> Self {
        let (sender, _) = watch::channel(Seen::default());
        tokio::spawn(look(folder.to_path_buf(), sender.clone()));
        Self(sender)
    }

    /// What is seen from now on.
    pub fn listen(&self) -> watch::Receiver<Seen> {
        self.0.subscribe()
    }
}

async fn look(folder: PathBuf, sender: watch::Sender<Seen>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if sender.receiver_count() == 0 {
            continue;
        }
        let folder = folder.clone();
        match tokio::task::spawn_blocking(move || Seen::of(&folder)).await {
            Ok(seen) => {
                sender.send_if_modified(|old| {
                    let changed = *old != seen;
                    *old = seen;
                    changed
                });
            }
            Err(error) => tracing::warn!("the folder could not be looked at: {error}"),
        }
    }
}
