//! A model in parts, one behind the other, so that each can be compressed on what the compressed parts before it give: the order of second-order rounding as
//! published (GPTQ; Frantar et al., 2023). No more is held than what goes from one part to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use sinter_data::{Order, Split};
use sinter_exec::{Runner, is_bare};
use sinter_model::{Dim, ElementType, Graph, Inputs, Layer, Mode, Model, Operator, ValueInfo};
use tch::{Kind, Tensor};

use crate::Progress;
use crate::error::CalibrateError;

/// Samples a batch.
const BATCH: usize = 64;
/// The most values that go from one part to the next: a residual, and what is added to it.
const LIVE: usize = 2;

/// Neighbouring nodes.
#[derive(Debug, PartialEq)]
struct Part {
    nodes: Range<usize>,
    /// What they read that is no weight.
    inputs: Vec<String>,
    /// What later ones read of all that is there then.
    live: Vec<String>,
}

/// Whether a model can be gone through in parts: it has no state, and an axis of samples.
pub fn has_parts(model: &Model, samples: &Split) -> bool {
    !model.graph.takes_sequences() && !is_bare(&model.graph, &samples.shape())
}

/// The parts of a model, each with at least one of these weights.
fn parts(model: &Model, weights: &BTreeSet<String>) -> Vec<Part> {
    let graph = &model.graph;
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        last.extend(node.present_inputs().map(|name| (name.as_str(), i)));
    }
    last.extend(graph.outputs.iter().map(|o| (o.name.as_str(), graph.nodes.len())));
    let is_value = |name: &str| !model.weights.contains_key(name);
    let mut there: Vec<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
    let (mut parts, mut start) = (Vec::new(), 0);
    let mut before: Vec<String> = there.iter().map(|n| n.to_string()).collect();
    // A cut is taken as late as the next weight allows: what reads it begins a part.
    let mut cut: Option<(usize, Vec<String>)> = None;
    let mut holds = false;
    let live_at = |there: &[&str], at: usize| -> Vec<String> {
        there.iter().filter(|n| last.get(*n).is_some_and(|&l| l >= at)).map(|n| n.to_string()).collect()
    };
    for (i, node) in graph.nodes.iter().enumerate() {
        let live = live_at(&there, i);
        let made = live.iter().filter(|n| !graph.inputs.iter().any(|input| input.name == **n)).count();
        if made <= LIVE && holds {
            cut = Some((i, live));
        }
        if node.inputs.iter().any(|name| weights.contains(name)) {
            if let Some((at, live)) = cut.take() {
                let nodes = start..at;
                parts.push(Part { inputs: std::mem::replace(&mut before, live.clone()), nodes, live });
                start = at;
            }
            holds = true;
        }
        there.extend(node.outputs.iter().map(String::as_str).filter(|n| !n.is_empty() && is_value(n)));
    }
    let live = live_at(&there, graph.nodes.len());
    parts.push(Part { nodes: start..graph.nodes.len(), inputs: before, live });
    parts
}

/// What a weight multiplies once all before it is compressed.
#[derive(Debug)]
pub struct Multiplied {
    /// `X^T X` of it, `[fan-in, fan-in]`: its Hessian, but for a factor of two.
    pub product: Tensor,
    /// `X^T F` of it and of what the weight multiplied in the model that was given, `[fan-in, fan-in]`; where it was asked for.
    pub across: Option<Tensor>,
}

/// The values that go from one part to the next, by name.
type Values = HashMap<String, Tensor>;

/// What is to be gathered part by part.
#[derive(Debug, Clone, Copy)]
pub struct Wants<'a> {
    /// Of which weights.
    pub weights: &'a BTreeSet<String>,
    /// Whether beside what the unchanged model gives, which costs a run more.
    pub across: bool,
    /// Weights whose change is known already: nothing is gathered in parts where no other is wanted.
    pub known: &'a BTreeSet<String>,
}

/// Changes the weights of one part in a model; told, by weight, what they multiply (`None` in a part where nothing was gathered).
pub type Compress<'a, E> = &'a mut dyn FnMut(&mut Model, &BTreeMap<String, Option<Multiplied>>) -> Result<(), E>;

/// Goes through a model part by part: gathers what weights multiply, has `compress` change them in the model, and goes on with what the changed part gives.
pub fn part_by_part<E: From<CalibrateError>>(
    model: &mut Model,
    &Wants { weights, across, known }: &Wants,
    samples: &Split,
    progress: Progress,
    compress: Compress<E>,
) -> Result<(), E> {
    let mut held: Vec<Values> = Vec::new();
    for batch in samples.batches(BATCH, Order::Stored) {
        let batch = batch.map_err(CalibrateError::from)?;
        held.push(model.graph.inputs.iter().map(|i| i.name.clone()).zip(batch.inputs).collect());
    }
    let all = parts(model, weights);
    // Up to the first part that is compressed both are the same.
    let mut before: Option<Vec<Values>> = None;
    for (at, part) in all.iter().enumerate() {
        let readers = readers(model, part, weights)?;
        let read: BTreeSet<String> = readers.iter().map(|r| r.reads.clone()).collect();
        let read: Vec<String> = read.into_iter().collect();
        let found = match readers.iter().all(|r| known.contains(&r.weight)) {
            true => readers.iter().map(|r| (r.weight.clone(), None)).collect(),
            false => {
                let found = with_part(model, part, &read, |probe| look(probe, &readers, &held, before.as_deref()))?;
                found.into_iter().map(|(weight, found)| (weight, Some(found))).collect()
            }
        };
        let more = at + 1 < all.len();
        if across && more {
            let unchanged = before.as_deref().unwrap_or(&held);
            before = Some(with_part(model, part, &part.live, |part| go_on(part, unchanged))?);
        }
        compress(model, &found)?;
        if more {
            held = with_part(model, part, &part.live, |part| go_on(part, &held))?;
        }
        progress("layers", at + 1, all.len());
    }
    Ok(())
}

/// A layer, and what it reads.
struct Reader {
    reads: String,
    weight: String,
    op: Arc<dyn Operator>,
    value: Tensor,
}

/// The layers of a part whose weights are wanted.
fn readers(model: &Model, part: &Part, weights: &BTreeSet<String>) -> Result<Vec<Reader>, CalibrateError> {
    let here =
        model.layers().into_iter().filter(|l| part.nodes.contains(&l.node) && weights.contains(&l.weight) && l.slot.input == 1);
    let reader = |layer: Layer| {
        let node = &model.graph.nodes[layer.node];
        let value = model.weight(&layer.weight)?.effective()?.f_detach()?;
        Ok(Reader { reads: node.inputs[0].clone(), weight: layer.weight, op: node.op.clone(), value })
    };
    here.map(reader).collect()
}

/// Shows the nodes of a part that `outputs` need as a model of their own; its weights are lent to it.
fn with_part<T>(
    model: &mut Model,
    part: &Part,
    outputs: &[String],
    work: impl FnOnce(&mut Model) -> Result<T, CalibrateError>,
) -> Result<T, CalibrateError> {
    let mut needed: BTreeSet<&str> = outputs.iter().map(String::as_str).collect();
    let mut nodes = Vec::new();
    for node in model.graph.nodes[part.nodes.clone()].iter().rev() {
        if node.outputs.iter().any(|o| needed.contains(o.as_str())) {
            needed.extend(node.present_inputs().map(String::as_str));
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    let value = |name: &String| ValueInfo { name: name.clone(), element: ElementType::Float, shape: vec![] };
    let inputs = part.inputs.iter().filter(|n| needed.contains(n.as_str())).map(value).collect();
    let graph = Graph { inputs, outputs: outputs.iter().map(value).collect(), nodes, ..Graph::default() };
    let names: Vec<String> = needed.into_iter().filter(|n| model.weights.contains_key(*n)).map(String::from).collect();
    let weights = names.into_iter().filter_map(|name| model.weights.remove_entry(&name)).collect();
    let mut lent = Model { name: model.name.clone(), graph, weights, ..Model::default() };
    let done = work(&mut lent);
    model.weights.append(&mut lent.weights);
    done
}

/// A part that is ready to run on what is held.
fn ready<'a>(part: &'a mut Model, held: &[Values]) -> Result<Runner<'a>, CalibrateError> {
    // Ranks and types are those of what is held.
    for info in &mut part.graph.inputs {
        if let Some(tensor) = held.first().and_then(|values| values.get(&info.name)) {
            info.element = ElementType::from_kind(tensor.kind()).unwrap_or(ElementType::Float);
            info.shape = (0..tensor.dim()).map(|axis| Dim::Free(format!("axis {axis}"))).collect();
        }
    }
    Ok(tch::no_grad(|| Runner::new(part))?)
}

/// What a part gives for a batch, by name.
fn given(runner: &Runner, values: &Values) -> Result<Values, CalibrateError> {
    let graph = runner.graph();
    let inputs: Vec<Tensor> = graph.inputs.iter().filter_map(|i| values.get(&i.name)).map(Tensor::shallow_clone).collect();
    let outputs = tch::no_grad(|| runner.run(&inputs, Mode::Predict))?;
    Ok(graph.outputs.iter().map(|o| o.name.clone()).zip(outputs).collect())
}

/// Gathers what layers multiply, with `before` beside what they multiplied before. Layers that multiply the same rows share what is found.
fn look(
    probe: &mut Model,
    readers: &[Reader],
    held: &[Values],
    before: Option<&[Values]>,
) -> Result<BTreeMap<String, Multiplied>, CalibrateError> {
    let runner = ready(probe, held)?;
    let mut found: BTreeMap<String, Multiplied> = BTreeMap::new();
    for (at, values) in held.iter().enumerate() {
        let now = rows(readers, &given(&runner, values)?)?;
        let then = before.map(|all| rows(readers, &given(&runner, &all[at])?)).transpose()?;
        for (place, (weights, x)) in now.iter().enumerate() {
            let float = then.as_ref().and_then(|then| then.get(place));
            let across = float.map(|(_, f)| x.f_tr()?.f_matmul(f)).transpose()?;
            let new = Multiplied { product: x.f_tr()?.f_matmul(x)?, across };
            for weight in weights {
                let sum = found.get(*weight).map_or_else(|| Ok(new.share()), |old| old.plus(&new))?;
                found.insert(weight.to_string(), sum);
            }
        }
    }
    Ok(found)
}

impl Multiplied {
    /// The same once more; nothing is copied.
    fn share(&self) -> Self {
        Self { product: self.product.shallow_clone(), across: self.across.as_ref().map(Tensor::shallow_clone) }
    }

    fn plus(&self, other: &Self) -> Result<Self, CalibrateError> {
        let across = self.across.as_ref().zip(other.across.as_ref()).map(|(a, b)| a.f_add(b)).transpose()?;
        Ok(Self { product: self.product.f_add(&other.product)?, across })
    }
}

/// The rows that weights multiply, and the weights that multiply them.
fn rows<'a>(readers: &'a [Reader], values: &Values) -> Result<Vec<(Vec<&'a str>, Tensor)>, CalibrateError> {
    let mut seen: Vec<(Vec<&str>, Tensor)> = Vec::new();
    for reader in readers {
        let Some(value) = values.get(&reader.reads) else { continue };
        let inputs = [Some(value.shallow_clone()), Some(reader.value.shallow_clone())];
        let Some(rows) = reader.op.columns(&Inputs(&inputs))? else { continue };
        let rows = rows.f_to_kind(Kind::Float)?;
        let same = |other: &Tensor| other.data_ptr() == rows.data_ptr() && other.size() == rows.size();
        match seen.iter_mut().find(|(_, other)| same(other)) {
            Some((weights, _)) => weights.push(&reader.weight),
            None => seen.push((vec![&reader.weight], rows)),
        }
    }
    Ok(seen)
}

/// What a part gives for all that is held.
fn go_on(part: &mut Model, held: &[Values]) -> Result<Vec<Values>, CalibrateError> {
    let runner = ready(part, held)?;
    held.iter().map(|values| given(&runner, values)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::zoo::ZooModel;

    /// Layers one behind the other are parts of their own; those side by side are one.
    #[test]
    fn a_part_begins_where_little_goes_through() {
        let names = |model: &Model| -> Vec<Vec<String>> {
            let weights: BTreeSet<String> = model.layers().into_iter().map(|l| l.weight).collect();
            let layers = model.layers();
            let of = |part: &Part| layers.iter().filter(|l| part.nodes.contains(&l.node)).map(|l| l.name.clone()).collect();
            let parts = parts(model, &weights);
            assert_eq!(parts.iter().map(|p| p.nodes.len()).sum::<usize>(), model.graph.nodes.len());
            assert!(parts.windows(2).all(|two| two[0].live == two[1].inputs && two[0].nodes.end == two[1].nodes.start));
            parts.iter().map(of).collect()
        };
        let lenet = ZooModel::Lenet300100.build(&[1, 28, 28], 10, 1).unwrap();
        assert_eq!(names(&lenet), [["fc1"], ["fc2"], ["fc3"]]);
        let resnet = ZooModel::Resnet8.build(&[3, 32, 32], 10, 1).unwrap();
        assert!(names(&resnet).len() >= 7, "{:?}", names(&resnet));
    }
}
