//! Several workers: processes, so that none can take another down, wherever the sweep's executor starts them.

use std::collections::BTreeSet;
use std::time::Duration;

use sinter_pipeline::Interrupt;

use crate::executors::Command;
use crate::store::Store;
use crate::sweep::Sweep;
use crate::work::{Said, SweepError, Tell, begin};

/// Between two looks at the workers.
const LOOK: Duration = Duration::from_millis(300);
/// How often workers that end badly are started again while no trial comes to an end.
const RESTARTS: usize = 20;

/// Starts workers, waits until they are done, and starts those again that die. What a dead one had begun is given to the others.
pub fn drive(sweep: &Sweep, command: Command, interrupt: &Interrupt, tell: Tell) -> Result<(), SweepError> {
    std::fs::create_dir_all(&command.folder).map_err(|source| SweepError::Process { program: command.folder.clone(), source })?;
    let mut store = Store::open(&sweep.store_path())?;
    begin(sweep, &store)?;
    let wanted: Vec<String> = (1..=command.count).map(|n| format!("worker-{n}")).collect();
    let mut crew = sweep.search.config.executor.kind().crew(command.clone())?;
    let mut there: BTreeSet<String> = crew.present().into_iter().collect();
    if !there.is_empty() {
        tell(Said::Note { text: format!("{} workers of an earlier driver are still at it", there.len()) });
    }
    let missing: Vec<String> = wanted.into_iter().filter(|name| !there.contains(name)).collect();
    crew.start(&missing)?;
    there.extend(missing);
    let mut told: BTreeSet<i64> = store.known()?.values().filter(|t| t.state.is_final()).map(|t| t.id).collect();
    let (mut restarts, mut stopped) = (0, false);
    while !there.is_empty() {
        std::thread::sleep(LOOK);
        if interrupt.heed() && !stopped {
            stopped = true;
            crew.stop();
        }
        for trial in store.known()?.values().filter(|t| t.state.is_final()) {
            if told.insert(trial.id) {
                restarts = 0;
                tell(Said::Ended { trial: trial.clone(), cached: None });
            }
        }
        for ended in crew.ended()? {
            there.remove(&ended.name);
            if ended.well || stopped {
                continue;
            }
            let lost = ended.writer.map_or(Ok(0), |writer| store.worker_is_gone(&writer))?;
            let log = command.tail(&ended.name);
            let given = if lost > 0 { ", and what it had begun is given to others" } else { "" };
            tell(Said::Note { text: format!("{} ended ({}){given}{log}", ended.name, ended.how) });
            restarts += 1;
            if restarts > RESTARTS {
                return Err(SweepError::Process {
                    program: command.program.clone(),
                    source: std::io::Error::other(format!("workers ended {restarts} times; the last one: {}{log}", ended.how)),
                });
            }
            crew.start(std::slice::from_ref(&ended.name))?;
            there.insert(ended.name);
        }
    }
    if stopped { Err(SweepError::Stopped) } else { Ok(()) }
}
