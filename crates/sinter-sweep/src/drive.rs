//! Several workers: processes, so that none can take another down, wherever the sweep's executor starts them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sinter_pipeline::Interrupt;

use crate::executors::Command;
use crate::store::Store;
use crate::sweep::Sweep;
use crate::work::{Said, SweepError, Tell, begin};

/// Between two looks at the workers.
const LOOK: Duration = Duration::from_millis(300);
/// How often workers that end badly are started again while no trial comes to an end: so often each.
const RESTARTS: usize = 20;
/// Between two tries to start what could not be started, and to stop what does not hear.
const AGAIN: Duration = Duration::from_secs(10);

/// Has trials done by workers until there are none left; returns at once where all are over.
pub fn drive(sweep: &Sweep, command: Command, interrupt: &Interrupt, tell: Tell) -> Result<(), SweepError> {
    let mut store = Store::open(&sweep.store_path())?;
    begin(sweep, &store)?;
    let (mut over, mut open) = (0, 0);
    for trial in store.known()?.values().filter(|t| sweep.search.holds(t)) {
        *(if trial.state.is_final() { &mut over } else { &mut open }) += 1;
    }
    match open == 0 && over >= sweep.search.config.trials.get() {
        true => Ok(()),
        false => watch(sweep, &mut store, command, interrupt, tell),
    }
}

/// Has something done by one worker that is told so by its words.
pub fn delegate(sweep: &Sweep, command: Command, interrupt: &Interrupt, tell: Tell) -> Result<(), SweepError> {
    watch(sweep, &mut Store::open(&sweep.store_path())?, Command { count: 1, ..command }, interrupt, tell)
}

/// Starts workers, waits until they are done, and starts those again that die. What a dead one had begun is given to the others.
fn watch(sweep: &Sweep, store: &mut Store, command: Command, interrupt: &Interrupt, tell: Tell) -> Result<(), SweepError> {
    std::fs::create_dir_all(&command.folder).map_err(|source| SweepError::Process { program: command.folder.clone(), source })?;
    let wanted: Vec<String> = (1..=command.count).map(|n| format!("worker-{n}")).collect();
    let mut crew = sweep.search.config.executor.kind().crew(command.clone())?;
    let mut there: BTreeSet<String> = crew.present().into_iter().collect();
    if !there.is_empty() {
        tell(Said::Note { text: format!("{} workers of an earlier driver are still at it", there.len()) });
    }
    let missing: Vec<String> = wanted.iter().filter(|name| !there.contains(*name)).cloned().collect();
    crew.start(&missing)?;
    there.extend(missing);
    let mut told: BTreeSet<i64> = store.known()?.values().filter(|t| t.state.is_final()).map(|t| t.id).collect();
    let (mut restarts, mut stopped) = (0, None::<Instant>);
    // Those that are to be started again, once what starts them answers.
    let (mut due, mut tried) = (Vec::<String>::new(), Instant::now());
    while !there.is_empty() || (!due.is_empty() && stopped.is_none()) {
        std::thread::sleep(LOOK);
        if interrupt.heed() && stopped.is_none_or(|last| last.elapsed() > AGAIN) {
            stopped = Some(Instant::now());
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
            if ended.well || stopped.is_some() {
                continue;
            }
            let lost = ended.writer.map_or(Ok(0), |writer| store.worker_is_gone(&writer))?;
            let log = command.tail(&ended.name);
            let given = if lost > 0 { ", and what it had begun is given to others" } else { "" };
            tell(Said::Note { text: format!("{} ended ({}){given}{log}", ended.name, ended.how) });
            // Whose time is over, or who makes room for another, is at no fault.
            restarts += usize::from(!ended.taken_away);
            if restarts > RESTARTS * command.count {
                return Err(SweepError::Process {
                    program: command.program.clone(),
                    source: std::io::Error::other(format!("workers ended {restarts} times; the last one: {}{log}", ended.how)),
                });
            }
            if wanted.contains(&ended.name) {
                due.push(ended.name);
            }
        }
        if !due.is_empty() && stopped.is_none() && tried.elapsed() > LOOK {
            match crew.start(&due) {
                Ok(()) => there.extend(std::mem::take(&mut due)),
                Err(error) => {
                    tell(Said::Note { text: format!("{error}; it is tried again") });
                    std::thread::sleep(AGAIN);
                }
            }
            tried = Instant::now();
        }
    }
    if stopped.is_some() { Err(SweepError::Stopped) } else { Ok(()) }
}
