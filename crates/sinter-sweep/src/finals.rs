//! The end of a sweep: the best recipes run in full, with several seeds, and compared on the test split, which nothing was chosen by.

use std::path::Path;

use sinter_model::write_whole;
use sinter_pipeline::{RunError, RunOptions};
use sinter_report::RunRecord;
use sinter_task::{Examined, Paired};

use crate::store::Store;
use crate::sweep::Sweep;
use crate::trial::Trial;
use crate::work::{Said, SweepError, Tell, Working};

/// One of the best recipes.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Final {
    /// The trial that found it.
    pub trial: Trial,
    /// Its runs, one a seed.
    pub runs: Vec<FinalRun>,
}

impl Final {
    /// Of its runs, by the metric.
    pub fn mean(&self) -> f64 {
        self.runs.iter().map(|r| r.value).sum::<f64>() / self.runs.len().max(1) as f64
    }

    /// The least and the greatest of its runs, by the metric.
    pub fn spread(&self) -> (f64, f64) {
        self.runs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), r| (least.min(r.value), most.max(r.value)))
    }

    /// Bytes of the largest of its packed files.
    pub fn packed(&self) -> u64 {
        self.runs.iter().map(|r| r.packed).max().unwrap_or(0)
    }
}

/// One run of a finalist.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct FinalRun {
    /// Of the run.
    pub seed: u64,
    /// The run's folder.
    pub folder: String,
    /// The metric on the test split: in ONNX Runtime where it answered, else simulated.
    pub value: f64,
    /// The float model's.
    pub float: f64,
    /// Bytes of the packed file.
    pub packed: u64,
}

/// Two finalists beside each other.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Versus {
    /// The trials.
    pub trials: (i64, i64),
    /// By how much the second is worse than the first on the test split, in the metric's unit: the mean over seeds, simulated.
    pub lost: f64,
    /// The 95 % interval of the seed where the difference is least certain.
    pub interval: (f64, f64),
    /// How likely a difference as large would be were there none: the greatest of all seeds (1 where they do not agree which is better), times what Holm (1979)
    /// asks for as many comparisons.
    pub p: f64,
}

/// What became of the best.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Finals {
    /// The recipes, from the best trial on.
    pub finals: Vec<Final>,
    /// Every two of them, where the metric can be told sample by sample.
    pub versus: Vec<Versus>,
}

/// Their file in the sweep's folder.
const FILE: &str = "finals.json";

impl Finals {
    /// Of the runs of a trial, by the metric.
    pub fn mean(&self, trial: i64) -> f64 {
        self.finals.iter().find(|f| f.trial.id == trial).map_or(f64::NAN, Final::mean)
    }

    /// As they were kept in a sweep's folder; `None` where there are none, or none that this version reads.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }

    /// When they were kept in a sweep's folder.
    pub fn written(folder: &Path) -> Option<std::time::SystemTime> {
        std::fs::metadata(folder.join(FILE)).and_then(|m| m.modified()).ok()
    }

    /// Keeps them in a sweep's folder.
    pub fn write(&self, folder: &Path) -> Result<(), SweepError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(write_whole(&folder.join(FILE), &text)?)
    }
}

/// The level at which two recipes are said to differ.
pub const LEVEL: f64 = 0.05;

/// Runs the best recipes of a sweep with each seed, and compares them. What was run before is read from the cache.
pub fn finals(sweep: &Sweep, how: &Working, tell: Tell) -> Result<Finals, SweepError> {
    let store = Store::open(&sweep.store_path())?;
    let trials = store.trials()?;
    let best = sweep.search.finalists(&trials);
    if best.is_empty() && sweep.search.config.finalists.count > 0 {
        tell(Said::Note { text: "no recipe keeps to the limits, so there are no finalists".into() });
    }
    let seeds: Vec<u64> =
        (0..sweep.search.config.finalists.seeds.get() as u64).map(|i| sweep.search.config.seed.wrapping_add(i)).collect();
    let mut finals = Vec::new();
    let mut examined: Vec<Vec<Examined>> = Vec::new();
    for trial in best {
        match full(sweep, how, trial, &seeds, tell) {
            Ok((runs, own)) => {
                finals.push(Final { trial: trial.clone(), runs });
                examined.push(own);
            }
            // The others are compared all the same.
            Err(SweepError::Finalist { recipe, seed, source }) => {
                tell(Said::Note { text: format!("finalist {recipe} is left out: with seed {seed}, {source}") });
            }
            Err(error) => return Err(error),
        }
    }
    let versus = compare(&finals, &examined);
    Ok(Finals { finals, versus })
}

/// A recipe in full with each seed: its runs, and what each sample of the test split contributed.
fn full(
    sweep: &Sweep,
    how: &Working,
    trial: &Trial,
    seeds: &[u64],
    tell: Tell,
) -> Result<(Vec<FinalRun>, Vec<Examined>), SweepError> {
    let (mut runs, mut own) = (Vec::new(), Vec::new());
    for &seed in seeds {
        let failed = |source| SweepError::Finalist { recipe: trial.id, seed, source: Box::new(source) };
        if how.interrupt.heed() {
            return Err(SweepError::Stopped);
        }
        tell(Said::Note { text: format!("finalist {}, seed {seed}", trial.id) });
        let plan = sweep.plan(&trial.recipe, seed)?;
        let options = RunOptions {
            out: sweep.out.clone(),
            fresh: false,
            measure: false,
            checkpoint_every: how.checkpoint_every,
            interrupt: how.interrupt.clone(),
        };
        let outcome = match plan.run(&options, &|_| {}) {
            Err(RunError::Stopped { .. }) => return Err(SweepError::Stopped),
            other => other.map_err(failed)?,
        };
        own.push(plan.examine(&sweep.out).map_err(failed)?);
        runs.push(run(seed, &outcome.folder.display().to_string(), &outcome.record));
    }
    Ok((runs, own))
}

fn run(seed: u64, folder: &str, record: &RunRecord) -> FinalRun {
    let last = record.stages.last().cloned().unwrap_or_default();
    let value = record.exported().and_then(|m| m.value).unwrap_or(last.value);
    let float = record.float().map_or(f64::NAN, |row| row.value);
    FinalRun { seed, folder: folder.to_string(), value, float, packed: last.packed_bytes }
}

/// Every two finalists, sample by sample, seed by seed.
fn compare(finals: &[Final], examined: &[Vec<Examined>]) -> Vec<Versus> {
    let mut all = Vec::new();
    for a in 0..finals.len() {
        for b in a + 1..finals.len() {
            let pairs = examined[a].iter().zip(&examined[b]);
            let Some(paired) = pairs.map(|(a, b)| b.since(a)).collect::<Option<Vec<Paired>>>() else { continue };
            let Some(worst) = paired.iter().max_by(|x, y| x.p.total_cmp(&y.p)) else { continue };
            let losses: Vec<f64> = examined[a].iter().zip(&examined[b]).map(|(a, b)| lost(a, b)).collect();
            let agree = losses.iter().all(|l| *l > 0.0) || losses.iter().all(|l| *l < 0.0);
            let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
            let p = if agree { worst.p } else { 1.0 };
            all.push(Versus {
                trials: (finals[a].trial.id, finals[b].trial.id),
                lost: mean,
                interval: (worst.low, worst.high),
                p,
            });
        }
    }
    holm(&mut all);
    all
}

/// By how much the second is worse.
fn lost(first: &Examined, second: &Examined) -> f64 {
    let (first, second) = (&first.measurement, &second.measurement);
    first.metric.gain(second.value, first.value)
}

/// Makes up for the number of comparisons (Holm, 1979).
fn holm(all: &mut [Versus]) {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by(|&a, &b| all[a].p.total_cmp(&all[b].p));
    let mut least: f64 = 0.0;
    for (done, i) in order.iter().enumerate() {
        least = least.max(all[*i].p * (all.len() - done) as f64).min(1.0);
        all[*i].p = least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R: `p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")`.
    #[test]
    fn holm_is_rs() {
        let of = |p| Versus { trials: (1, 2), lost: 0.0, interval: (0.0, 0.0), p };
        let mut all: Vec<Versus> = [0.01, 0.04, 0.03, 0.005].into_iter().map(of).collect();
        holm(&mut all);
        let wanted = [0.03, 0.06, 0.06, 0.02];
        assert!(all.iter().zip(wanted).all(|(v, w)| (v.p - w).abs() < 1e-12), "{all:?}");
    }
}
