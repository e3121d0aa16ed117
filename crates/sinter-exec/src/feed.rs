//! Samples to a model as it takes them: in batches or one by one, and sequences step by step where it has a state.

use sinter_model::{Dim, Graph, ValueInfo};
use tch::{TchError, Tensor};

/// What was given can't be parted into steps and samples.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Sequences of several inputs differ in length.
    #[error("sequences for input `{name}` have {got} steps, those for the first input {wanted}")]
    Steps {
        /// The input.
        name: String,
        /// Of the first.
        wanted: i64,
        /// Of this.
        got: i64,
    },
    /// There is no step, or no sample.
    #[error("there is no step to run: the data gives {0:?} for the first input")]
    Nothing(Vec<i64>),
    /// libtorch threw.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// Runs a model once: from its inputs, in their order, to its outputs.
pub type Step<'a, E> = &'a mut dyn FnMut(&[Tensor]) -> Result<Vec<Tensor>, E>;

/// What a model is given: the inputs that are no state, and where its data lies.
struct Given<'a> {
    graph: &'a Graph,
    /// Of the first input that is no state: how many more axes the data has than the input.
    more: usize,
    first: &'a ValueInfo,
}

impl<'a> Given<'a> {
    fn new(graph: &'a Graph, inputs: &[Tensor]) -> Option<Self> {
        let first = graph.data_inputs().next()?;
        let (_, given) = series(graph, inputs).into_iter().next()?;
        let more = given.dim().checked_sub(first.shape.len())?;
        Some(Self { graph, more, first })
    }

    fn sequence(&self) -> bool {
        self.graph.takes_sequences() && self.more > 0
    }

    /// Axes in front that belong to no input: an axis of samples where the model has none.
    fn bare(&self) -> bool {
        self.more > usize::from(self.sequence())
    }
}

/// Whether a model takes samples of this shape one at a time: its batch is fixed at one, or it has none. With a state a sample is a sequence of steps.
pub fn one_by_one(graph: &Graph, sample: &[i64]) -> bool {
    graph.data_inputs().next().is_some_and(|first| is_single(first) || is_bare(graph, sample))
}

/// Whether a model has no axis of samples beside those of a sample of this shape.
pub fn is_bare(graph: &Graph, sample: &[i64]) -> bool {
    graph.data_inputs().next().is_some_and(|first| sample.len() == first.shape.len() + usize::from(graph.takes_sequences()))
}

/// Whether an input has a batch that is fixed at one.
fn is_single(info: &ValueInfo) -> bool {
    info.shape.first() == Some(&Dim::Fixed(1))
}

/// Gives a batch to a model that `step` runs once, for as many samples as its inputs hold. `inputs` are those of the graph in their order: each `[n, ...]`,
/// or, for a model with states, sequences `[n, steps, ...]`; initial states may be left out, all together, and are zeros then. A model whose batch is fixed
/// at one, or that has no axis of samples, gets one after the other. The outputs are those of the graph, `[n, ...]` or `[n, steps, ...]`; of a state the
/// last one.
pub fn feed<E: From<FeedError>>(graph: &Graph, inputs: &[Tensor], step: Step<E>) -> Result<Vec<Tensor>, E> {
    let Some(given) = Given::new(graph, inputs) else { return step(inputs) };
    let n = inputs.first().and_then(|t| t.size().first().copied()).unwrap_or(1);
    let bare = given.bare();
    if bare || (is_single(given.first) && n > 1) {
        let each = (0..n).map(|at| {
            let part = |t: &Tensor| if bare { t.f_select(0, at) } else { t.f_narrow(0, at, 1) };
            let sample: Result<Vec<Tensor>, TchError> = inputs.iter().map(part).collect();
            steps(&given, &sample.map_err(FeedError::from)?, step)
        });
        let each = each.collect::<Result<Vec<_>, E>>()?;
        // A result without an axis of samples gets one.
        let join = |parts: &[Tensor]| match !bare && parts.iter().all(|p| p.size().first() == Some(&1)) {
            true => Tensor::f_cat(parts, 0),
            false => Tensor::f_stack(parts, 0),
        };
        return Ok(joined(&each, join)?);
    }
    steps(&given, inputs, step)
}

/// One step for all samples, or one after the other for sequences.
fn steps<E: From<FeedError>>(given: &Given, inputs: &[Tensor], step: Step<E>) -> Result<Vec<Tensor>, E> {
    if !given.sequence() {
        return step(inputs);
    }
    let graph = given.graph;
    // A model without an axis of samples has its steps in front.
    let axis = usize::from(!given.bare());
    let mut states = initial(graph, inputs, axis).map_err(FeedError::from)?;
    let mut series = series(graph, inputs);
    let length = series.first().and_then(|(_, t)| t.size().get(axis).copied()).unwrap_or(0);
    if length == 0 {
        return Err(FeedError::Nothing(series.first().map_or_else(Vec::new, |(_, t)| t.size())).into());
    }
    for (info, sequence) in &series {
        let got = sequence.size().get(axis).copied().unwrap_or(0);
        if got != length {
            return Err(FeedError::Steps { name: info.name.clone(), wanted: length, got }.into());
        }
    }
    let mut all: Vec<Vec<Tensor>> = Vec::new();
    for at in 0..length {
        let mut now = Vec::new();
        let (mut of_series, mut of_states) = (series.iter_mut(), states.iter());
        for info in &graph.inputs {
            let value = match graph.is_state(&info.name) {
                true => of_states.next().map(|s| Ok(s.shallow_clone())),
                false => of_series.next().map(|(_, t)| t.f_select(axis as i64, at)),
            };
            now.extend(value.transpose().map_err(FeedError::from)?);
        }
        let outputs = step(&now)?;
        let next = graph.inputs.iter().filter(|i| graph.is_state(&i.name)).filter_map(|i| {
            let place = graph.outputs.iter().position(|o| Some(&o.name) == graph.state.get(&i.name))?;
            outputs.get(place).map(Tensor::shallow_clone)
        });
        states = next.collect();
        all.push(outputs);
    }
    let feeds = |at: usize| graph.outputs.get(at).is_some_and(|o| graph.state.values().any(|s| *s == o.name));
    let count = all.first().map_or(0, Vec::len);
    let mut results = Vec::new();
    for at in 0..count {
        let parts: Vec<Tensor> = all.iter().filter_map(|step| step.get(at)).map(Tensor::shallow_clone).collect();
        let value = match (feeds(at), parts.last()) {
            (true, Some(last)) => last.shallow_clone(),
            _ => Tensor::f_stack(&parts, axis as i64).map_err(FeedError::from)?,
        };
        results.push(value);
    }
    Ok(results)
}

/// The inputs that are no state, with what was given for them.
fn series<'a>(graph: &'a Graph, inputs: &[Tensor]) -> Vec<(&'a ValueInfo, Tensor)> {
    let whole = inputs.len() == graph.inputs.len();
    let taken = graph.inputs.iter().filter(|i| whole || !graph.is_state(&i.name)).zip(inputs);
    taken.filter(|(info, _)| !graph.is_state(&info.name)).map(|(info, t)| (info, t.shallow_clone())).collect()
}

/// The states at the first step: as given, or zeros.
fn initial(graph: &Graph, inputs: &[Tensor], axis: usize) -> Result<Vec<Tensor>, TchError> {
    let states = || graph.inputs.iter().enumerate().filter(|(_, info)| graph.is_state(&info.name));
    if inputs.len() == graph.inputs.len() {
        // Data has its samples in front; a state may have them elsewhere.
        let place = |(at, info): (usize, &ValueInfo)| match info.shape.iter().position(|d| matches!(d, Dim::Free(_))) {
            Some(free) if axis == 1 => inputs[at].f_movedim_int(0, free as i64),
            _ => inputs[at].f_reshape(info.concrete(1)),
        };
        return states().map(place).collect();
    }
    let n = inputs.first().filter(|_| axis == 1).and_then(|t| t.size().first().copied()).unwrap_or(1);
    states().map(|(_, info)| Tensor::f_zeros(info.concrete(n), (info.element.kind(), tch::Device::Cpu))).collect()
}

/// The results of samples that ran apart, together.
fn joined(each: &[Vec<Tensor>], join: impl Fn(&[Tensor]) -> Result<Tensor, TchError>) -> Result<Vec<Tensor>, FeedError> {
    let count = each.first().map_or(0, Vec::len);
    let of = |at: usize| each.iter().filter_map(|outputs| outputs.get(at)).map(Tensor::shallow_clone).collect::<Vec<_>>();
    Ok((0..count).map(|at| join(&of(at))).collect::<Result<_, _>>()?)
}

/// What a model takes once, of a batch: the first step of a sequence, one sample where it takes one, states with it.
pub fn first_step(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, FeedError> {
    let mut seen = None;
    let done = feed::<Stop>(graph, inputs, &mut |step| {
        seen = Some(step.iter().map(Tensor::shallow_clone).collect());
        Err(Stop::Seen)
    });
    match (done, seen) {
        (_, Some(step)) => Ok(step),
        (Err(Stop::Feed(error)), None) => Err(error),
        _ => Err(FeedError::Nothing(inputs.first().map_or_else(Vec::new, Tensor::size))),
    }
}

enum Stop {
    Seen,
    Feed(FeedError),
}

impl From<FeedError> for Stop {
    fn from(error: FeedError) -> Self {
        Self::Feed(error)
    }
}
