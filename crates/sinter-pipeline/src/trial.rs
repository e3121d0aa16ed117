//! A pipeline tried, not run: its stages alone, without artefacts and report, judged on the validation split. What sweeps do.

use std::path::Path;

use sinter_report::StageRow;
use sinter_task::{Examined, Measurement, evaluate, examine_model};
use sinter_train::{Events, Memory};

use crate::execute::{Run, RunError, RunOptions};
use crate::resolve::Plan;
use crate::store::{StageMemory, Store, StoreError};

/// What a pipeline comes to.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The result on the validation split.
    pub quality: Measurement,
    /// The float model there.
    pub float: Measurement,
    /// What the result costs. Its `value` is of the test split, and nothing may be chosen by it.
    pub row: StageRow,
    /// Stages whose results the cache held, the model as it came not counted.
    pub cached: usize,
    /// What the stages took that were done now.
    pub seconds: f64,
}

impl Plan {
    /// Does the stages that the cache does not hold, and judges what comes out on the validation split, which must not be empty.
    pub fn trial(&self, options: &RunOptions, events: Events) -> Result<Trial, RunError> {
        let run = Run::trial(self, options, events);
        let (float, result, measured) = run.stages()?;
        let rows = || measured.iter().map(|m| &m.row).filter(|row| row.index > 0);
        let judge = |at: usize, model| -> Result<Measurement, RunError> {
            let memory = StageMemory { store: &run.store, key: &self.keys[at].name, seed: 0, fresh: options.fresh };
            let what = format!("quality on the validation split, {:?}", self.metric());
            if let Some(known) = memory.recall(&what).and_then(|text| serde_json::from_str(&text).ok()) {
                return Ok(known);
            }
            let reference = (at > 0).then_some(&float);
            let found = evaluate(model, &self.data.validation, self.data.task, Some(&self.metric()), reference);
            let found = found.map_err(|e| RunError::Measure { stage: self.stage_name(at), source: e.into() })?;
            memory.keep(&what, &serde_json::to_string(&found).unwrap_or_default());
            Ok(found)
        };
        Ok(Trial {
            quality: judge(self.stages.len(), &result)?,
            float: judge(self.training_stages(), &float)?,
            row: measured.last().map(|m| m.row.clone()).unwrap_or_default(),
            cached: rows().filter(|row| row.cached).count(),
            seconds: rows().filter(|row| !row.cached).map(|row| row.seconds).sum(),
        })
    }

    /// Removes what stages kept that are under way: they will not be taken up.
    pub fn forget_work(&self, out: &Path) {
        let store = Store::of_runs(out);
        self.keys.iter().for_each(|key| store.forget_work(key));
    }

    /// The pipeline's result, which must be in the cache of a folder of runs, on the test split: with what each sample contributed, so that two results can be
    /// compared sample by sample.
    pub fn examine(&self, out: &Path) -> Result<Examined, RunError> {
        let store = Store::of_runs(out);
        let stored = |at: usize| {
            let key = &self.keys[at].name;
            store.model(key).ok_or_else(|| StoreError::Gone(key.clone()))
        };
        let (float, result) = (stored(self.training_stages())?, stored(self.stages.len())?);
        let found = examine_model(&result, &self.data.test, self.data.task, &[self.metric()], Some(&float), &|_, _| {});
        let fail = |e: sinter_task::TaskError| RunError::Measure { stage: self.stage_name(self.stages.len()), source: e.into() };
        Ok(found.map_err(fail)?.swap_remove(0))
    }
}
