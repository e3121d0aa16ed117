//! Work under way, kept from time to time: a run that was killed goes on where it was, and comes to the same result.

use std::collections::BTreeMap;

use sinter_model::Model;
use tch::Tensor;

/// All that the rest of a piece of work depends on.
#[derive(Debug, Default)]
pub struct Checkpoint {
    /// How far the work is, in words: `epoch 3 of 8, step 120 of 469`.
    pub at: String,
    /// Models on the way, by names of the work's own.
    pub models: BTreeMap<String, Model>,
    /// Tensors of any shape, likewise.
    pub tensors: BTreeMap<String, Tensor>,
    /// Everything else, as JSON.
    pub facts: String,
}

/// Where a stage keeps work that is under way. Pieces of work (one training, say) are numbered in the order in which a stage begins them, which is
/// the same in every run.
pub trait Checkpoints {
    /// Begins the next piece of work: its number, and what an earlier run kept of it.
    fn begin(&self) -> (usize, Option<Checkpoint>);

    /// Whether it is time to keep something. Cheap: asked at every step.
    fn due(&self) -> bool;

    /// Keeps how far a piece of work is, in place of what was kept of it before. A store that is full or read-only keeps nothing.
    fn keep(&self, piece: usize, checkpoint: &Checkpoint);

    /// Whether the user wants to stop: then the work is kept once more, and ends with [`StageError::Stopped`](crate::StageError::Stopped).
    fn stopping(&self) -> bool;

    /// The piece of work is done: keeps what it came to, so that what comes behind it can be taken up without it.
    fn end(&self, piece: usize, checkpoint: &Checkpoint);
}

/// Keeps nothing.
#[derive(Debug)]
pub struct NoCheckpoints;

impl Checkpoints for NoCheckpoints {
    fn begin(&self) -> (usize, Option<Checkpoint>) {
        (0, None)
    }
    fn due(&self) -> bool {
        false
    }
    fn keep(&self, _piece: usize, _checkpoint: &Checkpoint) {}
    fn stopping(&self) -> bool {
        false
    }
    fn end(&self, _piece: usize, _checkpoint: &Checkpoint) {}
}
