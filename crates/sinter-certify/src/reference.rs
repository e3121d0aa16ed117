//! What an integer model is compared with.

use std::collections::BTreeMap;

use sinter_model::{Attributes, Model, Node, Weight, fold_batch_norm};
use tch::Tensor;

use crate::bounds::run;
use crate::error::CertifyError;

/// What an integer model is compared with.
#[derive(Debug)]
pub enum Reference<'a> {
    /// The same graph and weights without rounding of values, each kept within what its quantizer holds: all that a file by others tells. Converters
    /// leave out a Relu where a quantizer begins at 0, so its ends belong to the model.
    Unrounded,
    /// A float model with the same nodes: batch normalisations may be folded since, and activations left out that a quantizer's ends stand for.
    Float {
        /// The model.
        model: &'a Model,
        /// What it is, in words.
        name: String,
    },
}

/// Both sides of a comparison, node by node the same.
pub(crate) struct Pair {
    /// The integer side.
    pub model: Model,
    /// The real side.
    pub twin: Model,
    /// Whether the real side keeps values within what quantizers hold.
    pub clips: bool,
    /// What the real side is, in words.
    pub from: String,
}

impl Pair {
    /// With the first that is of the same graph. Errors where none is, with what has no counterpart in the last.
    pub fn first(model: &Model, references: &[Reference]) -> Result<Self, CertifyError> {
        let mut failed = CertifyError::Nothing("there is nothing to compare with".into());
        for reference in references {
            match Self::new(model, reference) {
                Ok(pair) => return Ok(pair),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Errors where a float model is another graph.
    pub fn new(model: &Model, reference: &Reference) -> Result<Self, CertifyError> {
        match reference {
            Reference::Unrounded => {
                let mut twin = model.copy();
                twin.activations.clear();
                Ok(Self { model: model.copy(), twin, clips: true, from: "itself without rounding".into() })
            }
            Reference::Float { model: float, name } => matched(model, float, name).or_else(|as_it_is| {
                let mut folded = float.copy();
                fold_batch_norm(&mut folded)?;
                matched(model, &folded, name).map_err(|_| as_it_is)
            }),
        }
    }

    /// The real side as it runs: its clips are nodes.
    pub fn runnable(&self) -> Result<Model, CertifyError> {
        let mut twin = self.twin.copy();
        if !self.clips {
            return Ok(twin);
        }
        let mut clipped: BTreeMap<String, Node> = BTreeMap::new();
        for (value, quantizer) in &self.model.activations {
            let (low, high) = quantizer.params()?.ends();
            let raw = twin.free_name(&format!("{value}.raw"));
            let [low, high] = [(low, "low"), (high, "high")]
                .map(|(end, what)| twin.add_constant(&format!("{value}.{what}"), Tensor::from(end)));
            clipped.insert(
                value.clone(),
                Node::new(&raw, "Clip", Attributes::new(), vec![raw.clone(), low, high], vec![value.clone()])?,
            );
        }
        let mut nodes = Vec::new();
        for input in &mut twin.graph.inputs {
            if let Some(clip) = clipped.remove(&input.name) {
                input.name.clone_from(&clip.inputs[0]);
                nodes.push(clip);
            }
        }
        for mut node in std::mem::take(&mut twin.graph.nodes) {
            let clips: Vec<Node> = node.outputs.iter().filter_map(|output| clipped.remove(output)).collect();
            for clip in &clips {
                node.outputs.iter_mut().filter(|o| **o == clip.outputs[0]).for_each(|o| o.clone_from(&clip.inputs[0]));
            }
            nodes.push(node);
            nodes.extend(clips);
        }
        twin.graph.nodes = nodes;
        Ok(twin)
    }
}

/// The integer model beside a float one that has the same nodes. Activations that a converter left out, because a quantizer's end does their work, are
/// put back: the integer side computes the same with them. Errors where a node has no counterpart.
fn matched(model: &Model, float: &Model, name: &str) -> Result<Pair, CertifyError> {
    let shapes = |m: &Model| m.graph.inputs.iter().map(|i| i.concrete(1)).collect::<Vec<_>>();
    if shapes(model) != shapes(float) {
        let reason = format!("the float model has inputs {:?}, the quantized one {:?}", shapes(float), shapes(model));
        return Err(CertifyError::Nothing(reason));
    }
    let mut ours = model.copy();
    let copies: BTreeMap<&str, &str> = model
        .graph
        .nodes
        .iter()
        .filter(|n| n.kind() == "Identity")
        .map(|n| (n.outputs[0].as_str(), n.inputs[0].as_str()))
        .collect();
    let mut real: BTreeMap<String, Weight> = BTreeMap::new();
    let inputs = float.graph.inputs.iter().zip(&model.graph.inputs);
    // Names of the float model's values, on the integer side.
    let mut named: BTreeMap<String, String> = inputs.map(|(f, q)| (f.name.clone(), q.name.clone())).collect();
    let mut open: Vec<usize> = (0..ours.graph.nodes.len()).collect();
    for node in &float.graph.nodes {
        if node.kind() == "Identity" || node.kind() == "Dropout" {
            let value = named.get(&node.inputs[0]).cloned().unwrap_or_default();
            named.insert(node.outputs[0].clone(), value);
            continue;
        }
        let reads: Vec<Option<String>> = node.inputs.iter().map(|i| named.get(i).cloned()).collect();
        let fits = |&&at: &&usize| {
            let other = &ours.graph.nodes[at];
            let same = |(read, input): (&Option<String>, &String)| match read {
                Some(value) => before_copies(&copies, input) == value,
                None => input.is_empty() || ours.weights.contains_key(input),
            };
            other.kind() == node.kind() && other.inputs.len() == reads.len() && reads.iter().zip(&other.inputs).all(same)
        };
        let mut fitting: Vec<usize> = open.iter().filter(fits).copied().collect();
        // Branches that read the same value are told apart by the names of what they give.
        fitting.sort_by_key(|&at| ours.graph.nodes[at].outputs[0] != node.outputs[0]);
        let Some(&at) = fitting.first() else {
            let value = put_back(&mut ours, float, node, &reads)?;
            open = open.into_iter().map(|at| if at > value.0 { at + 1 } else { at }).collect();
            named.insert(node.outputs[0].clone(), value.1);
            continue;
        };
        open.retain(|&other| other != at);
        for (theirs, input) in node.inputs.iter().zip(&ours.graph.nodes[at].inputs) {
            let Some(weight) = float.weights.get(theirs) else { continue };
            let same = ours.weights.get(input).is_some_and(|w| w.size() == weight.size());
            if !same || real.insert(input.clone(), weight.copy()).is_some_and(|old| !old.latent().equal(weight.latent())) {
                let reason = format!("`{theirs}` of the float model is not what `{input}` of the quantized one was made of");
                return Err(CertifyError::Nothing(reason));
            }
        }
        for (theirs, output) in node.outputs.iter().zip(&ours.graph.nodes[at].outputs) {
            named.insert(theirs.clone(), output.clone());
        }
    }
    let mut twin = ours.copy();
    twin.activations.clear();
    twin.weights.values_mut().for_each(|w| w.drop_quantizer());
    twin.weights.extend(real);
    Ok(Pair { model: ours, twin, clips: false, from: name.into() })
}

/// What a value is a copy of, rounded by other steps.
fn before_copies<'a>(copies: &BTreeMap<&str, &'a str>, mut name: &'a str) -> &'a str {
    while let Some(source) = copies.get(name) {
        name = source;
    }
    name
}

/// Puts an activation back whose work the quantizer of what it reads does. Gives its place and its value. Errors where the quantizer holds more.
fn put_back(model: &mut Model, float: &Model, node: &Node, reads: &[Option<String>]) -> Result<(usize, String), CertifyError> {
    let missing = || {
        let reason = format!(
            "{} `{}` of the float model has no counterpart in the quantized one: both must be the same graph, with the same batch \
             normalisations folded",
            node.kind(),
            node.name
        );
        CertifyError::Nothing(reason)
    };
    let value = reads.first().cloned().flatten().ok_or_else(missing)?;
    let (low, high) = model.activations.get(&value).ok_or_else(missing)?.params()?.ends();
    let ends = Tensor::from_slice(&[f64::from(low), f64::from(high)]);
    if !matches!(node.kind(), "Relu" | "Clip") || !run(node, float, &ends)?.equal(&ends) {
        return Err(missing());
    }
    let at = model.graph.nodes.iter().position(|n| n.outputs.contains(&value)).ok_or_else(missing)?;
    let raw = model.free_name(&format!("{value}.raw"));
    model.graph.nodes[at].outputs.iter_mut().filter(|o| **o == value).for_each(|o| o.clone_from(&raw));
    let mut back = node.clone();
    back.inputs[0] = raw;
    for stored in back.inputs.iter_mut().skip(1) {
        if let Some(weight) = float.weights.get(stored) {
            *stored = model.add_constant(stored, weight.latent().copy());
        }
    }
    back.outputs = vec![value.clone()];
    model.graph.nodes.insert(at + 1, back);
    Ok((at, value))
}
