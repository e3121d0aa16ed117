//! Work that goes through a model weight by weight, and can be taken up behind each.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Model, Weight};

use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::StageError;

const CHANGED: &str = "changed";

/// One such work under way. A weight that an earlier run was done with is not worked on again: it is put in its place when its turn comes, so that
/// whatever looks at the model in between finds it as it was.
#[derive(Debug)]
pub struct WeightByWeight {
    piece: usize,
    total: usize,
    /// What an earlier run came to, until its turn.
    kept: BTreeMap<String, Weight>,
    done: BTreeSet<String>,
}

impl WeightByWeight {
    /// Begins with so many weights ahead, and takes up what an earlier run kept.
    pub fn begin(context: &Context, total: usize) -> Self {
        let (piece, kept) = context.checkpoints.begin();
        let kept = kept.and_then(|mut kept| kept.models.remove(CHANGED)).map(|model| model.weights).unwrap_or_default();
        Self { piece, total, kept, done: BTreeSet::new() }
    }

    /// The weights that need no work.
    pub fn known(&self) -> BTreeSet<String> {
        self.kept.keys().cloned().collect()
    }

    /// Puts a weight in its place that an earlier run was done with; `false` for one that is still to be worked on.
    pub fn restore(&mut self, model: &mut Model, name: &str) -> bool {
        let Some(weight) = self.kept.remove(name) else { return false };
        model.weights.insert(name.to_string(), weight);
        self.done.insert(name.to_string());
        true
    }

    /// Work on a weight is done: keeps all so far where it is time to. Errors with [`StageError::Stopped`] where the user wants to stop.
    pub fn did(&mut self, context: &Context, model: &mut Model, name: &str) -> Result<(), StageError> {
        self.done.insert(name.to_string());
        let stopping = context.checkpoints.stopping();
        if !stopping && !context.checkpoints.due() {
            return Ok(());
        }
        let at = format!("weight {} of {}", self.done.len(), self.total);
        self.lend(model, at.clone(), |checkpoint| context.checkpoints.keep(self.piece, checkpoint));
        if stopping { Err(StageError::Stopped { at }) } else { Ok(()) }
    }

    /// All weights are done.
    pub fn end(self, context: &Context, model: &mut Model) {
        self.lend(model, "the end of its weights".into(), |checkpoint| context.checkpoints.end(self.piece, checkpoint));
    }

    /// Shows a checkpoint of the weights that are done. They are lent, not copied: they may be most of the memory that there is.
    fn lend(&self, model: &mut Model, at: String, show: impl FnOnce(&Checkpoint)) {
        let weights = self.done.iter().filter_map(|name| model.weights.remove_entry(name)).collect();
        let changed = Model { weights, ..Model::default() };
        let mut checkpoint = Checkpoint { at, models: BTreeMap::from([(CHANGED.to_string(), changed)]), ..Checkpoint::default() };
        show(&checkpoint);
        model.weights.extend(checkpoint.models.remove(CHANGED).map(|changed| changed.weights).unwrap_or_default());
    }
}
