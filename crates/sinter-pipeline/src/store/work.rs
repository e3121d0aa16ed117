//! A stage that is under way: what it keeps from time to time, so that a run that was stopped or killed goes on in the middle of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use sinter_model::{OpError, to_bytes};
use sinter_train::{Checkpoint, Checkpoints, Event, Events};
use tch::{Kind as Element, Tensor};

use super::{Kind, Store, StoreError, model};
use crate::interrupt::Interrupt;
use crate::resolve::Key;

const WORK: &str = "work.json";
const TENSORS: &str = "tensors.safetensors";
const ENDING: &str = ".model.safetensors";
/// Keeping takes at most one part in so many of the time, unless every step is to be kept.
const SHARE: u32 = 20;

/// Pieces of work that may be missing between two that are there.
const GAP: usize = 8;

/// What is kept beside tensors.
#[derive(Serialize, Deserialize)]
struct Facts {
    at: String,
    facts: String,
    /// Names of the models.
    models: Vec<String>,
    /// What the work had told: tables and charts want it all.
    told: Vec<Event>,
    /// What the stage had taken.
    seconds: f64,
}

/// Where one stage keeps its work.
pub(crate) struct StageWork<'a> {
    pub store: &'a Store,
    /// Of the stage's result.
    pub key: &'a Key,
    /// `2-prune`.
    pub stage: &'a str,
    /// Nothing is taken up.
    pub fresh: bool,
    /// How often something is kept.
    pub every: Duration,
    pub interrupt: &'a Interrupt,
    pub events: Events<'a>,
    /// All that the stage has told.
    told: RefCell<Vec<Event>>,
    /// What had been told when the piece of work that is under way began.
    mark: Cell<usize>,
    pieces: Cell<usize>,
    started: Instant,
    /// Seconds of the stage that earlier runs took.
    earlier: Cell<f64>,
    last: Cell<Instant>,
    /// What keeping took the last time.
    cost: Cell<Duration>,
}

impl<'a> StageWork<'a> {
    pub fn new(
        store: &'a Store,
        (key, stage): (&'a Key, &'a str),
        (fresh, every): (bool, Duration),
        interrupt: &'a Interrupt,
        events: Events<'a>,
    ) -> Self {
        let now = Instant::now();
        Self {
            store,
            key,
            stage,
            fresh,
            every,
            interrupt,
            events,
            told: RefCell::default(),
            mark: Cell::new(0),
            pieces: Cell::new(0),
            started: now,
            earlier: Cell::new(0.0),
            last: Cell::new(now),
            cost: Cell::new(Duration::ZERO),
        }
    }

    /// Takes one event of the stage.
    pub fn hear(&self, event: Event) {
        if !matches!(event, Event::Progress { .. }) {
            self.told.borrow_mut().push(event.clone());
        }
        (self.events)(event);
    }

    /// All that the stage has told, and the seconds that it took, those of earlier runs included.
    pub fn end(self) -> (Vec<Event>, f64) {
        let seconds = self.seconds();
        (self.told.into_inner(), seconds)
    }

    fn seconds(&self) -> f64 {
        self.earlier.get() + self.started.elapsed().as_secs_f64()
    }

    fn entry(&self, piece: usize) -> Key {
        entry(self.key, piece)
    }

    fn read(&self, piece: usize) -> Option<(Checkpoint, Facts)> {
        let key = self.entry(piece).name;
        let folder = self.store.folder(&key);
        self.store.checked(&key, |manifest| {
            let facts: Facts = serde_json::from_slice(&manifest.file(&folder, WORK)?).map_err(|e| format!("{WORK}: {e}"))?;
            let mut models = BTreeMap::new();
            for name in &facts.models {
                let bytes = manifest.file(&folder, &format!("{name}{ENDING}"))?;
                models.insert(name.clone(), model::decode(&bytes).map_err(|e| e.to_string())?);
            }
            let tensors = decode(&manifest.file(&folder, TENSORS)?)?;
            let checkpoint = Checkpoint { at: facts.at.clone(), models, tensors, facts: facts.facts.clone() };
            Ok((checkpoint, facts))
        })
    }

    fn write(&self, piece: usize, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        let facts = Facts {
            at: checkpoint.at.clone(),
            facts: checkpoint.facts.clone(),
            models: checkpoint.models.keys().cloned().collect(),
            told: self.told.borrow()[self.mark.get()..].to_vec(),
            seconds: self.seconds(),
        };
        let facts = serde_json::to_vec(&facts).map_err(|e| StoreError::io(&self.store.root)(e.into()))?;
        let mut files = vec![(WORK.to_string(), facts), (TENSORS.to_string(), encode(&checkpoint.tensors)?)];
        for (name, model) in &checkpoint.models {
            files.push((format!("{name}{ENDING}"), model::encode(model)?));
        }
        let files: Vec<(&str, Vec<u8>)> = files.iter_mut().map(|(name, bytes)| (name.as_str(), std::mem::take(bytes))).collect();
        let key = self.entry(piece);
        let _lock = self.store.lock(&key.name, || {})?;
        self.store.write((Kind::Work, &key.name, &format!("{}, {}", self.stage, checkpoint.at)), &key.depends, &files)
    }
}

fn entry(stage: &Key, piece: usize) -> Key {
    Key::of(&serde_json::json!({ "stage": stage.name, "piece": piece }))
}

impl Store {
    /// Removes what a stage kept on its way: its result is there.
    pub(crate) fn forget_work(&self, stage: &Key) {
        // A piece may be missing: it was damaged, and set aside.
        let mut missing = 0;
        for piece in 0.. {
            let key = entry(stage, piece).name;
            let folder = self.folder(&key);
            missing = if folder.exists() { 0 } else { missing + 1 };
            if missing > GAP {
                break;
            }
            // Best effort: what stays is pruned with all that nobody uses.
            let _gone =
                if missing == 0 { self.lock(&key, || {}).map(|_lock| std::fs::remove_dir_all(&folder)).ok() } else { None };
        }
    }
}

impl Checkpoints for StageWork<'_> {
    fn begin(&self) -> (usize, Option<Checkpoint>) {
        let piece = self.pieces.replace(self.pieces.get() + 1);
        self.mark.set(self.told.borrow().len());
        let kept = if self.fresh { None } else { self.read(piece) };
        let Some((checkpoint, facts)) = kept else { return (piece, None) };
        // What was done again to come here is no part of what the stage takes.
        self.earlier.set((facts.seconds - self.started.elapsed().as_secs_f64()).max(self.earlier.get()));
        (self.events)(Event::StageResumed { at: facts.at });
        facts.told.into_iter().for_each(|event| self.hear(event));
        (piece, Some(checkpoint))
    }

    fn due(&self) -> bool {
        self.every.is_zero() || self.last.get().elapsed() >= self.every.max(self.cost.get() * SHARE)
    }

    fn keep(&self, piece: usize, checkpoint: &Checkpoint) {
        let started = Instant::now();
        match self.write(piece, checkpoint) {
            Ok(()) => (self.events)(Event::StageKept { at: checkpoint.at.clone() }),
            Err(error) => {
                tracing::warn!(
                    "how far {} is could not be kept, so a run that is stopped here begins it anew: {error}",
                    self.stage
                );
            }
        }
        self.cost.set(started.elapsed());
        self.last.set(Instant::now());
    }

    fn stopping(&self) -> bool {
        self.interrupt.heed()
    }

    fn end(&self, piece: usize, checkpoint: &Checkpoint) {
        self.interrupt.rest();
        self.keep(piece, checkpoint);
    }
}

/// Tensors with shape and kind.
fn encode(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, StoreError> {
    let unfit = |reason: String| StoreError::Checkpoint(model::CheckpointError::Damaged(reason));
    let mut parts = Vec::new();
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Element::Float => Dtype::F32,
            Element::Double => Dtype::F64,
            Element::Int64 => Dtype::I64,
            other => return Err(unfit(format!("`{name}` is of kind {other:?}"))),
        };
        let shape = tensor.size().into_iter().map(|n| n as usize).collect::<Vec<_>>();
        let bytes = to_bytes(tensor).map_err(model::CheckpointError::Op)?;
        parts.push((name, dtype, shape, bytes));
    }
    let views = parts.iter().map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>().map_err(|e| unfit(e.to_string()))?;
    safetensors::serialize(views, None).map_err(|e| unfit(e.to_string()))
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("{TENSORS}: {e}"))?;
    let mut all = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Element::Float,
            Dtype::F64 => Element::Double,
            Dtype::I64 => Element::Int64,
            other => return Err(format!("{TENSORS}: `{name}` is of type {other:?}")),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|e| OpError::from(e).to_string())?;
        all.insert(name, tensor);
    }
    Ok(all)
}
