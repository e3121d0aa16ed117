//! Where runs stand: what `sinter status` prints.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sinter_report::{RunRecord, run_folders};

use crate::journal::{Progress, State, silent};

/// Where one run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The run's folder.
    pub folder: PathBuf,
    /// What the run says of itself.
    #[serde(flatten)]
    pub progress: Progress,
    /// Seconds since it said so.
    pub silent_seconds: Option<u64>,
}

/// Where the runs in these folders stand, in the order of their folders. Folders that hold no run are passed over.
pub fn status(folders: &[PathBuf]) -> Vec<Standing> {
    let all = folders.iter().flat_map(|folder| run_folders(folder));
    all.filter_map(|folder| Some(Standing { progress: standing(&folder)?, silent_seconds: silent(&folder), folder })).collect()
}

/// Runs of a Sinter that kept no journal are done, or nothing is known of them.
fn standing(folder: &Path) -> Option<Progress> {
    Progress::read(folder).or_else(|| {
        let record = RunRecord::read(folder).ok()?;
        let stages = record.stages.iter().skip(1).map(|s| s.stage.clone()).collect();
        let progress = Progress::new(record.pipeline, State::Done, record.started, stages);
        Some(Progress { text: record.summary, ..progress })
    })
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Done => "done",
        })
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { state, stages, stage, work, kept, loss, text, .. } = &self.progress;
        write!(f, "{state:<11}  {}", self.folder.display())?;
        if let (Some(stage), State::Running | State::Interrupted | State::Failed) = (stage, state) {
            let at =
                stages.iter().position(|s| s == stage).map_or_else(String::new, |i| format!(" ({} of {})", i + 1, stages.len()));
            write!(f, "\n             {stage}{at}")?;
            if let Some((what, done, total)) = work {
                write!(f, ", {what}: {done} of {total}")?;
            }
            if let Some(loss) = loss {
                write!(f, ", loss {loss:.4}")?;
            }
            if let (State::Running, Some(seconds)) = (state, self.silent_seconds.filter(|s| *s > 60)) {
                write!(f, ", nothing heard for {} min", seconds / 60)?;
            }
        }
        match (state, kept) {
            (State::Interrupted, Some(kept)) => write!(f, "\n             the same command goes on at {kept}"),
            (State::Interrupted, None) if stage.is_some() => {
                write!(f, "\n             the same command goes on at the beginning of the stage")
            }
            (State::Interrupted, None) => write!(f, "\n             between two stages; the same command goes on there"),
            (State::Failed | State::Done, _) if !text.is_empty() => write!(f, "\n             {text}"),
            _ => Ok(()),
        }
    }
}
