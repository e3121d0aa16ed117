//! The sweep's store: every trial with its recipe, state, figures and curve, in one SQLite file that several processes share.
//!
//! SQLite's write-ahead log makes a change whole or not at all, whatever kills the process. It needs a file system whose locks hold, which those of
//! networks do not promise, so such places are refused.

mod error;
mod network;
mod opening;
mod rows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sinter_model::is_gone;

pub use error::StoreError;
use rows::{read, refresh};

use crate::chooser::Chosen;
use crate::trial::{State, Trial};

/// Whoever was silent for longer is no neighbour.
const LATELY: Duration = Duration::from_secs(120);
/// How often a trial may fail.
pub const TRIES: i64 = 3;
/// How often a trial may be lost with its worker, before it is taken for what kills them.
pub const LOSSES: i64 = 10;

/// The store of one sweep.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    db: Connection,
    /// Trials as they were read last: what has come to an end changes no more.
    read: BTreeMap<i64, Trial>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Store {
    /// Opens a sweep's store, and makes one where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_path_buf(), db: opening::to_write(path)?, read: BTreeMap::new() })
    }

    /// Looks into a store that is there: nothing of it is changed, and nobody who writes is held up.
    pub fn existing(path: &Path) -> Result<Option<Self>, StoreError> {
        let db = opening::to_read(path)?;
        Ok(db.map(|db| Self { path: path.to_path_buf(), db, read: BTreeMap::new() }))
    }

    fn fail(&self) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        |source| StoreError::Sqlite { path: self.path.clone(), source }
    }

    /// A text that is kept beside the trials.
    pub fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let found = self.db.query_row("SELECT value FROM meta WHERE key = ?", [key], |r| r.get(0)).optional();
        found.map_err(self.fail())
    }

    /// Keeps a text beside the trials.
    pub fn set_meta(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let put = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2";
        self.db.execute(put, [key, value]).map(drop).map_err(self.fail())
    }

    /// One trial.
    pub fn trial(&self, id: i64) -> Result<Option<Trial>, StoreError> {
        Ok(read(&self.db, &self.path, &format!("id = {id}"))?.pop())
    }

    /// How many trials stand so.
    pub fn count(&self, state: State) -> Result<usize, StoreError> {
        let count = self.db.query_row("SELECT count(*) FROM trial WHERE state = ?", [state.name()], |r| r.get::<_, i64>(0));
        count.map(|n| n as usize).map_err(self.fail())
    }

    /// All trials, in the order in which they were begun.
    pub fn trials(&self) -> Result<Vec<Trial>, StoreError> {
        read(&self.db, &self.path, "true")
    }

    /// All trials by number; only what may have changed since the last time is read.
    pub fn known(&mut self) -> Result<&BTreeMap<i64, Trial>, StoreError> {
        refresh(&mut self.read, &self.db, &self.path)?;
        Ok(&self.read)
    }

    /// Takes the next trial for a worker, which is named as [`sinter_model::writer`] does: one that waits, else one that `choose` thinks out of all that there are. `None`
    /// where there is nothing to do. Trials whose worker is gone, or has been silent for so long, wait again, or have failed.
    pub fn take(
        &mut self,
        worker: &str,
        silence: Duration,
        fits: &dyn Fn(&Trial) -> bool,
        choose: &mut dyn FnMut(&BTreeMap<i64, Trial>) -> Option<Chosen>,
    ) -> Result<Option<Trial>, StoreError> {
        let path = self.path.clone();
        let fail = |source| StoreError::Sqlite { path: path.clone(), source };
        let begun = self.db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
        give_up_lost(&begun, silence).map_err(fail)?;
        let waiting = read(&begun, &path, "state = 'waiting'")?;
        let id = match waiting.into_iter().find(fits) {
            Some(trial) => trial.id,
            None => {
                refresh(&mut self.read, &begun, &path)?;
                let Some((origin, recipe, seed)) = choose(&self.read) else {
                    begun.commit().map_err(fail)?;
                    return Ok(None);
                };
                insert(&begun, &origin, &recipe, seed).map_err(fail)?
            }
        };
        let take = "UPDATE trial SET state = 'running', worker = ?2, heartbeat = ?3, started = coalesce(started, ?3), tries = tries + 1 WHERE id = ?1";
        begun.execute(take, params![id, worker, now()]).map_err(fail)?;
        let taken = read(&begun, &path, &format!("id = {id}"))?.pop();
        begun.commit().map_err(fail)?;
        Ok(taken)
    }

    /// Adds a recipe that somebody wants tried.
    pub fn add(&mut self, origin: &str, recipe: &BTreeMap<String, String>, seed: u64) -> Result<i64, StoreError> {
        insert(&self.db, origin, recipe, seed).map_err(self.fail())
    }

    /// Says that a trial's worker is alive.
    pub fn beat(&self, id: i64, worker: &str) -> Result<(), StoreError> {
        self.db
            .execute(
                "UPDATE trial SET heartbeat = ?2 WHERE id = ?1 AND state = 'running' AND worker = ?3",
                params![id, now(), worker],
            )
            .map(drop)
            .map_err(self.fail())
    }

    /// A trial's value at a step; `false` where it was there before, when it was tried the last time.
    pub fn step(&self, id: i64, step: u64, value: f64) -> Result<bool, StoreError> {
        let put = "INSERT OR IGNORE INTO step VALUES (?, ?, ?)";
        self.db.execute(put, params![id, step as i64, value]).map(|rows| rows > 0).map_err(self.fail())
    }

    /// What every trial reached at a step.
    pub fn at_step(&self, step: u64) -> Result<Vec<(i64, f64)>, StoreError> {
        let mut all = self.db.prepare("SELECT trial, value FROM step WHERE step = ? ORDER BY trial").map_err(self.fail())?;
        let all = all.query_map([step as i64], |r| Ok((r.get(0)?, r.get(1)?))).and_then(Iterator::collect);
        all.map_err(self.fail())
    }

    /// A trial's curve.
    pub fn curve(&self, id: i64) -> Result<Vec<(u64, f64)>, StoreError> {
        let mut all = self.db.prepare("SELECT step, value FROM step WHERE trial = ? ORDER BY step").map_err(self.fail())?;
        let all = all.query_map([id], |r| Ok((r.get::<_, i64>(0)? as u64, r.get(1)?))).and_then(Iterator::collect);
        all.map_err(self.fail())
    }

    /// The curves of all trials.
    pub fn curves(&self) -> Result<BTreeMap<i64, Vec<(u64, f64)>>, StoreError> {
        let mut all = self.db.prepare("SELECT trial, step, value FROM step ORDER BY trial, step").map_err(self.fail())?;
        let rows = all.query_map([], |r| Ok((r.get::<_, i64>(0)?, (r.get::<_, i64>(1)? as u64, r.get::<_, f64>(2)?))));
        let mut curves = BTreeMap::<i64, Vec<(u64, f64)>>::new();
        for row in rows.map_err(self.fail())? {
            let (trial, point) = row.map_err(self.fail())?;
            curves.entry(trial).or_default().push(point);
        }
        Ok(curves)
    }

    /// The machines on which somebody is at a trial, and was heard of lately.
    pub(crate) fn machines(&self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT DISTINCT worker FROM trial WHERE state = 'running' AND worker IS NOT NULL AND heartbeat > ?";
        let mut all = self.db.prepare(sql).map_err(self.fail())?;
        let all = all
            .query_map([now() - LATELY.as_secs_f64()], |r| r.get::<_, String>(0))
            .and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let workers = all.map_err(self.fail())?;
        Ok(workers.into_iter().filter_map(|w| Some(w.rsplit_once('-')?.0.to_string())).collect())
    }

    /// A trial of this worker's has come to an end. One that failed waits for another try, up to [`TRIES`]. Figures that are no finite numbers are left out.
    pub fn end(
        &self,
        (id, worker): (i64, &str),
        state: State,
        (figures, seconds): (&BTreeMap<String, f64>, f64),
        text: &str,
    ) -> Result<(), StoreError> {
        let figures: BTreeMap<&String, f64> = figures.iter().filter(|(_, v)| v.is_finite()).map(|(k, v)| (k, *v)).collect();
        let figures = serde_json::to_string(&figures).unwrap_or_default();
        let end = "UPDATE trial SET figures = ?3, seconds = CASE WHEN ?2 = 'done' THEN ?4 END, text = ?5, worker = NULL,
                   state = CASE WHEN ?2 = 'failed' AND tries < ?6 THEN 'waiting' ELSE ?2 END
                   WHERE id = ?1 AND state = 'running' AND worker = ?7";
        self.db.execute(end, params![id, state.name(), figures, seconds, text, TRIES, worker]).map(drop).map_err(self.fail())
    }

    /// What a worker had begun, which is gone, waits again, or has failed.
    pub fn worker_is_gone(&self, worker: &str) -> Result<usize, StoreError> {
        lost(&self.db, "worker = ?1", worker, &format!("the process {worker} ended")).map_err(self.fail())
    }

    /// The worker was told to stop: what it had begun waits, and this was no try.
    pub fn put_back(&self, id: i64, worker: &str) -> Result<(), StoreError> {
        let back = "UPDATE trial SET state = 'waiting', worker = NULL, tries = tries - 1
                    WHERE id = ? AND state = 'running' AND worker = ?";
        self.db.execute(back, params![id, worker]).map(drop).map_err(self.fail())
    }
}

fn insert(db: &Connection, origin: &str, recipe: &BTreeMap<String, String>, seed: u64) -> rusqlite::Result<i64> {
    let recipe = serde_json::to_string(recipe).unwrap_or_default();
    db.execute(
        "INSERT INTO trial (state, origin, recipe, seed) VALUES ('waiting', ?, ?, ?)",
        params![origin, recipe, seed as i64],
    )?;
    Ok(db.last_insert_rowid())
}

fn give_up_lost(begun: &Transaction, silence: Duration) -> rusqlite::Result<()> {
    lost(begun, "heartbeat < ?1", now() - silence.as_secs_f64(), "its process said nothing any more")?;
    let mut workers = begun.prepare("SELECT DISTINCT worker FROM trial WHERE state = 'running' AND worker IS NOT NULL")?;
    let workers: Vec<String> = workers.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    for worker in workers.iter().filter(|worker| is_gone(worker)) {
        lost(begun, "worker = ?1", worker, &format!("the process {worker} ended"))?;
    }
    Ok(())
}

fn lost(db: &Connection, which: &str, value: impl rusqlite::ToSql, why: &str) -> rusqlite::Result<usize> {
    // To be lost is no try: whatever ended the worker need not be the trial.
    let sql = format!(
        "UPDATE trial SET worker = NULL, text = ?2, tries = tries - 1, losses = losses + 1,
         state = CASE WHEN losses + 1 < {LOSSES} THEN 'waiting' ELSE 'failed' END WHERE state = 'running' AND {which}"
    );
    db.execute(&sql, params![value, why])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("stages.prune.unstructured.sparsity".to_string(), value.to_string())])
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("deep/sweep.db")).unwrap();
        (folder, store)
    }

    const LONG: Duration = Duration::from_secs(1000);

    const NOBODY: &dyn Fn(&Trial) -> bool = &|_| true;

    /// To be lost with its worker is no try, but one that is lost again and again is given up.
    #[test]
    fn a_trial_is_taken_once_and_a_lost_one_again() {
        let (folder, mut store) = store();
        let mut other = Store::open(&folder.path().join("deep/sweep.db")).unwrap();
        let mut one = |trials: &BTreeMap<i64, Trial>| trials.is_empty().then(|| ("random".to_string(), recipe("50%"), 7));
        let mine = store.take("a", LONG, NOBODY, &mut one).unwrap().unwrap();
        assert_eq!((mine.id, mine.state, mine.tries, mine.seed, &mine.recipe), (1, State::Running, 1, 7, &recipe("50%")));
        assert_eq!(other.take("b", LONG, NOBODY, &mut one).unwrap(), None);
        assert_eq!(other.worker_is_gone("a").unwrap(), 1);
        // Whoever lost it has no say in it any more.
        assert_eq!(other.take("b", LONG, NOBODY, &mut one).unwrap().unwrap().tries, 1);
        store.end((1, "a"), State::Done, (&BTreeMap::new(), 0.0), "").unwrap();
        store.put_back(1, "a").unwrap();
        assert_eq!(store.trial(1).unwrap().unwrap().state, State::Running);
        for _ in 1..LOSSES {
            assert!(store.trial(1).unwrap().unwrap().state == State::Running);
            std::thread::sleep(Duration::from_millis(3));
            // Silent for longer than may be.
            other.take("c", Duration::from_millis(1), NOBODY, &mut |_| None).unwrap();
        }
        let lost = store.trial(1).unwrap().unwrap();
        assert_eq!(lost.state, State::Failed);
        assert!(lost.text.contains("said nothing"), "{}", lost.text);
    }

    /// A process of this machine that has ended is known to be gone at once.
    #[test]
    fn the_dead_are_not_waited_for() {
        let (_folder, mut store) = store();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = sinter_model::writer_of(child.id());
        child.wait().unwrap();
        store.add("added", &recipe("60%"), 1).unwrap();
        assert!(store.take(&dead, LONG, NOBODY, &mut |_| None).unwrap().is_some());
        assert!(store.take(&sinter_model::writer(), LONG, NOBODY, &mut |_| None).unwrap().is_some());
    }

    /// Three failures are the end of a trial, and not of the others.
    #[test]
    fn a_trial_fails_three_times() {
        let (_folder, mut store) = store();
        store.add("added", &recipe("60%"), 1).unwrap();
        store.add("added", &recipe("70%"), 1).unwrap();
        let outside = |trial: &Trial| trial.id == 1;
        for tries in 1..=TRIES {
            let taken = store.take("a", LONG, &outside, &mut |_| None).unwrap().unwrap();
            assert_eq!((taken.id, taken.tries), (1, tries));
            store.end((1, "a"), State::Failed, (&BTreeMap::new(), 0.0), "diverged").unwrap();
        }
        assert_eq!(store.take("a", LONG, &outside, &mut |_| None).unwrap(), None);
        let states: Vec<State> = store.trials().unwrap().into_iter().map(|t| t.state).collect();
        assert_eq!(states, [State::Failed, State::Waiting]);
    }

    #[test]
    fn figures_steps_and_facts_come_back() {
        let (_folder, mut store) = store();
        store.set_meta("sweep", "a").unwrap();
        store.set_meta("sweep", "b").unwrap();
        assert_eq!(store.meta("sweep").unwrap().as_deref(), Some("b"));
        store.add("added", &recipe("60%"), 1).unwrap();
        let taken = store.take("a", LONG, NOBODY, &mut |_| None).unwrap().unwrap();
        assert!(store.step(taken.id, 1, 0.5).unwrap());
        // A step that is done again counts once.
        assert!(!store.step(taken.id, 1, 0.9).unwrap());
        store.step(taken.id, 2, 0.75).unwrap();
        assert_eq!((store.curve(1).unwrap(), store.at_step(2).unwrap()), (vec![(1, 0.5), (2, 0.75)], vec![(1, 0.75)]));
        let mut figures = BTreeMap::from([("quality".to_string(), 0.1 + 0.2), ("lost".to_string(), f64::NAN)]);
        store.end((1, "a"), State::Done, (&figures, 3.5), "").unwrap();
        figures.remove("lost");
        // Whoever comes late changes nothing.
        store.end((1, "a"), State::Failed, (&BTreeMap::new(), 0.0), "late").unwrap();
        let done = store.trials().unwrap().remove(0);
        assert_eq!((done.state, done.figures, done.seconds), (State::Done, figures, Some(3.5)));
    }

    #[test]
    fn stores_of_another_version_are_refused() {
        let (folder, store) = store();
        store.db.pragma_update(None, "user_version", 9).unwrap();
        let error = Store::open(&folder.path().join("deep/sweep.db")).unwrap_err().to_string();
        assert!(error.contains("version 9") && error.contains("sweep.db"), "{error}");
        std::fs::write(folder.path().join("no.db"), "this is not a database, whatever it is called").unwrap();
        assert!(Store::open(&folder.path().join("no.db")).unwrap_err().to_string().contains("not a database"));
    }
}
