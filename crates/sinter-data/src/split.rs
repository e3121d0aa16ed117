//! Some of the samples of a data set, read in batches.

use std::sync::Arc;

use rayon::prelude::*;
use tch::{Kind, Tensor};

use crate::augment::Augment;
use crate::error::DataError;
use crate::source::{Column, Samples};
use crate::task::{NO_LABEL, Task};

/// Some of the samples of a source, in an order of their own.
#[derive(Clone)]
pub struct Split {
    pub(crate) name: String,
    pub(crate) source: Arc<dyn Samples>,
    pub(crate) indices: Arc<Vec<usize>>,
    pub(crate) normalize: Arc<Affine>,
    pub(crate) augment: Augment,
    pub(crate) labelled: bool,
    pub(crate) task: Task,
    /// For each input of the model: which array, and of what it is made there.
    pub(crate) inputs: Arc<Vec<(usize, Kind)>>,
    /// The most samples that a model is given at once while nothing is trained.
    pub(crate) at_once: usize,
}

/// Samples as tensors.
#[derive(Debug)]
pub struct Batch {
    /// One `[n, …]` for each input of the model, in its order: at least one.
    pub inputs: Vec<Tensor>,
    /// int64 or float32 `[n]` or `[n, ...]`, as the task has its labels; `None` without. Those that count for nothing are [`NO_LABEL`].
    pub y: Option<Tensor>,
    /// Where each sample stands in the split.
    pub places: Vec<i64>,
}

impl Batch {
    /// What goes into the first input.
    pub fn x(&self) -> &Tensor {
        &self.inputs[0]
    }

    /// The number of samples.
    pub fn count(&self) -> i64 {
        self.places.len() as i64
    }
}

/// In which order, and for what, a split is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As stored, unchanged: to measure.
    Stored,
    /// Shuffled and augmented, the same for the same seed: to train.
    Shuffled(u64),
}

/// How values are scaled, by channel.
pub(crate) struct Affine {
    pub factor: Vec<f32>,
    pub shift: Vec<f32>,
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Split({}, {} samples of {:?})", self.name, self.len(), self.shape())
    }
}

impl Split {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Whether every sample has a label.
    pub fn is_labelled(&self) -> bool {
        self.labelled
    }

    /// The shape of one sample.
    pub fn shape(&self) -> Vec<i64> {
        self.source.shape().to_vec()
    }

    /// At most `count` samples, chosen by `seed`.
    pub fn sample(&self, count: usize, seed: u64) -> Split {
        let mut indices = self.indices.to_vec();
        if count < indices.len() {
            fastrand::Rng::with_seed(seed).shuffle(&mut indices);
            indices.truncate(count);
            indices.sort_unstable();
        }
        Split { indices: Arc::new(indices), ..self.clone() }
    }

    /// All samples but every `nth`, and those.
    pub fn every(&self, nth: usize) -> (Split, Split) {
        let part = |picked: bool| {
            let chosen = self.indices.iter().enumerate().filter(|(i, _)| ((i + 1) % nth.max(1) == 0) == picked);
            Split { indices: Arc::new(chosen.map(|(_, &index)| index).collect()), ..self.clone() }
        };
        (part(false), part(true))
    }

    /// The same samples, varied otherwise while a model trains on them.
    pub fn augmented(&self, augment: &Augment) -> Split {
        Split { augment: augment.clone(), ..self.clone() }
    }

    /// The samples in batches of `size` (the last one may be smaller), each decoded in parallel when it is asked for. As they are stored they are no more than
    /// the model takes at once.
    pub fn batches(&self, size: usize, order: Order) -> impl Iterator<Item = Result<Batch, DataError>> + '_ {
        self.batches_from(0, size, order)
    }

    /// The same from batch `first` on; those before it are not read.
    pub fn batches_from(&self, first: usize, size: usize, order: Order) -> impl Iterator<Item = Result<Batch, DataError>> + '_ {
        let mut places: Vec<usize> = (0..self.len()).collect();
        if let Order::Shuffled(seed) = order {
            fastrand::Rng::with_seed(seed).shuffle(&mut places);
        }
        let size = if order == Order::Stored { size.min(self.at_once) } else { size }.max(1);
        let count = places.len().div_ceil(size);
        (first..count).map(move |b| self.read(&places[b * size..((b + 1) * size).min(places.len())], order))
    }

    /// Whether training batches differ from epoch to epoch.
    pub fn is_augmented(&self) -> bool {
        !self.augment.is_none()
    }

    fn read(&self, places: &[usize], order: Order) -> Result<Batch, DataError> {
        let indices: Vec<usize> = places.iter().map(|&p| self.indices[p]).collect();
        let torch = |source| DataError::Torch { name: self.name.clone(), source };
        let inputs = match self.source.columns() {
            Some(columns) => {
                self.inputs.iter().map(|&(at, kind)| columns[at].take(&indices).and_then(|t| t.f_to_kind(kind))).collect()
            }
            None => {
                let kind = self.inputs.first().map_or(Kind::Float, |(_, kind)| *kind);
                self.only(&indices, order)?.f_to_kind(kind).map(|x| vec![x])
            }
        };
        let inputs = inputs.map_err(torch)?;
        let y = match (self.labelled, self.source.targets()) {
            (true, Some(targets)) => Some(self.targets(targets, &indices).map_err(torch)?),
            (true, None) => {
                let labels: Vec<i64> = indices.iter().filter_map(|&i| self.source.label(i)).collect();
                Some(Tensor::f_from_slice(&labels).map_err(torch)?)
            }
            (false, _) => None,
        };
        let places = places.iter().map(|&p| p as i64).collect();
        Ok(Batch { inputs, y, places })
    }

    /// The classes of all samples, in their order; empty where labels are more than a class, or absent.
    pub fn classes(&self) -> Vec<i64> {
        self.indices.iter().filter_map(|&i| self.source.label(i)).collect()
    }

    /// Labels of any shape.
    fn targets(&self, targets: &Column, indices: &[usize]) -> Result<Tensor, tch::TchError> {
        let labels = targets.take(indices)?;
        match self.task.kind().ignore() {
            Some(ignored) => labels.f_masked_fill(&labels.f_eq(ignored)?, NO_LABEL),
            None => Ok(labels),
        }
    }

    /// The shape of the labels of one sample, where they are an array.
    pub fn label_shape(&self) -> Option<Vec<i64>> {
        self.source.targets().map(|t| t.shape.clone())
    }

    /// Samples of one array: normalised, and varied where a model trains on them.
    fn only(&self, indices: &[usize], order: Order) -> Result<Tensor, DataError> {
        let shape = self.shape();
        let len = shape.iter().product::<i64>() as usize;
        let plane = len / self.normalize.factor.len().max(1);
        let mut values = vec![0f32; len * indices.len()];
        values.par_chunks_mut(len.max(1)).zip(indices).try_for_each(|(out, &index)| {
            self.source.read(index, out)?;
            for (c, part) in out.chunks_mut(plane.max(1)).enumerate() {
                let (factor, shift) = (self.normalize.factor[c], self.normalize.shift[c]);
                part.iter_mut().for_each(|v| *v = *v * factor + shift);
            }
            if let Order::Shuffled(seed) = order
                && !self.augment.is_none()
            {
                let mut rng = fastrand::Rng::with_seed(seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                self.augment.apply(out, &shape, &self.normalize.shift, &mut rng);
            }
            Ok::<(), DataError>(())
        })?;
        let dims = [&[indices.len() as i64], &shape[..]].concat();
        let torch = |source| DataError::Torch { name: self.name.clone(), source };
        Tensor::f_from_slice(&values).and_then(|t| t.f_reshape(dims)).map_err(torch)
    }
}
