//! Several workers on this machine: processes, so that none can take another down, with the cores shared among them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sinter_model::writer_of;
use sinter_pipeline::Interrupt;

use crate::store::Store;
use crate::sweep::Sweep;
use crate::work::{Said, SweepError, Tell, begin};

/// Between two looks at the workers.
const LOOK: Duration = Duration::from_millis(300);
/// How often workers that end badly are started again while no trial comes to an end.
const RESTARTS: usize = 20;

/// A worker's process.
struct Worker {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Starts `count` workers with `command` (the program, and what tells it to be a worker; its name is added), waits until they are done, and starts those again
/// that die. What a dead one had begun is given to the others.
pub fn drive(
    sweep: &Sweep,
    command: (&Path, &[String]),
    count: usize,
    interrupt: &Interrupt,
    tell: Tell,
) -> Result<(), SweepError> {
    let folder = sweep.folder().join("workers");
    let failed = |source| SweepError::Process { program: command.0.to_path_buf(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    let mut store = Store::open(&sweep.store_path())?;
    begin(sweep, &store)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / count.max(1)).max(1).to_string();
    let start = |name: String| -> Result<Worker, SweepError> {
        let log = folder.join(format!("{name}.log"));
        let out = File::create(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut worker = Command::new(command.0);
        worker.args(command.1).arg(&name).env("OMP_NUM_THREADS", &threads).env("RAYON_NUM_THREADS", &threads);
        // Ctrl-C reaches this process alone, which asks the workers.
        let child = worker.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(failed)?;
        Ok(Worker { name, child, log })
    };
    let mut workers = Workers((1..=count).map(|n| start(format!("worker-{n}"))).collect::<Result<_, _>>()?);
    let mut told: BTreeSet<i64> = store.known()?.values().filter(|t| t.state.is_final()).map(|t| t.id).collect();
    let (mut restarts, mut stopped) = (0, false);
    while !workers.0.is_empty() {
        std::thread::sleep(LOOK);
        if interrupt.heed() && !stopped {
            stopped = true;
            workers.0.iter().for_each(|worker| ask_to_stop(&worker.child));
        }
        for trial in store.known()?.values().filter(|t| t.state.is_final()) {
            if told.insert(trial.id) {
                restarts = 0;
                tell(Said::Ended { trial: trial.clone(), cached: None });
            }
        }
        for mut worker in std::mem::take(&mut workers.0) {
            let Some(status) = worker.child.try_wait().map_err(failed)? else {
                workers.0.push(worker);
                continue;
            };
            if status.success() || stopped {
                continue;
            }
            let lost = store.worker_is_gone(&writer_of(worker.child.id()))?;
            let log = tail(&worker.log);
            let given = if lost > 0 { ", and what it had begun is given to others" } else { "" };
            tell(Said::Note { text: format!("{} ended ({status}){given}{log}", worker.name) });
            restarts += 1;
            if restarts > RESTARTS {
                return Err(SweepError::Process {
                    program: command.0.to_path_buf(),
                    source: std::io::Error::other(format!("workers ended {restarts} times; the last one: {status}{log}")),
                });
            }
            workers.0.push(start(worker.name)?);
        }
    }
    if stopped { Err(SweepError::Stopped) } else { Ok(()) }
}

/// Workers; those that are left when this goes are asked to stop.
struct Workers(Vec<Worker>);

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.iter().for_each(|worker| ask_to_stop(&worker.child));
    }
}

fn ask_to_stop(child: &Child) {
    let process = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(process) = process {
        // One that is gone already has stopped.
        let _gone = rustix::process::kill_process(process, rustix::process::Signal::INT);
    }
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().map(|line| format!("\n  {line}")).collect()
}
