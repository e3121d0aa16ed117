//! Processes of this machine.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::writer_of;

use super::{Command, Crew, Ended, Execute, ExecutorError};

/// Processes of this machine, which share its cores.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {}

impl Execute for Local {
    fn crew(&self, command: Command) -> Result<Box<dyn Crew>, ExecutorError> {
        Ok(Box::new(Processes { command, all: vec![] }))
    }
}

/// Processes; those that are left when this goes are asked to stop.
struct Processes {
    command: Command,
    all: Vec<(String, Child)>,
}

impl Crew for Processes {
    fn present(&self) -> Vec<String> {
        self.all.iter().map(|(name, _)| name.clone()).collect()
    }

    fn start(&mut self, names: &[String]) -> Result<(), ExecutorError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / self.command.count.max(1)).max(1).to_string();
        for name in names {
            let log = self.command.log(name);
            let out = File::create(&log).map_err(ExecutorError::io(&log))?;
            let err = out.try_clone().map_err(ExecutorError::io(&log))?;
            let mut worker = std::process::Command::new(&self.command.program);
            worker.args(&self.command.words).arg(name).env("OMP_NUM_THREADS", &threads).env("RAYON_NUM_THREADS", &threads);
            // Ctrl-C reaches this process alone, which asks the workers.
            let child = worker.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err).spawn();
            self.all.push((name.clone(), child.map_err(ExecutorError::io(&self.command.program))?));
        }
        Ok(())
    }

    fn ended(&mut self) -> Result<Vec<Ended>, ExecutorError> {
        let mut ended = Vec::new();
        for (name, mut child) in std::mem::take(&mut self.all) {
            match child.try_wait().map_err(ExecutorError::io(&self.command.program))? {
                None => self.all.push((name, child)),
                Some(status) => {
                    let writer = Some(writer_of(child.id()));
                    ended.push(Ended { name, well: status.success(), taken_away: false, writer, how: status.to_string() });
                }
            }
        }
        Ok(ended)
    }

    fn stop(&mut self) {
        for (_, child) in &self.all {
            let process = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(process) = process {
                // One that is gone already has stopped.
                let _gone = rustix::process::kill_process(process, rustix::process::Signal::INT);
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.stop();
    }
}
