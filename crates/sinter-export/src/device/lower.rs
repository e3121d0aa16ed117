//! From a model to a program, node by node.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Model, Node, fold_batch_norm};

use super::error::LowerError;
use super::layout::Layout;
use super::lowering::{Lowering, Stored, Want, short};
use super::operators::{BETWEEN, LOWERS, Prefers, lowers};
use super::program::Program;
use super::tensor::{Element, TensorInfo};

/// The program of a model for one sample at a time. Errors on an operator that TensorFlow Lite lacks, with its node and the reason.
pub fn lower(model: &Model) -> Result<Program, LowerError> {
    let mut model = model.copy();
    fold_batch_norm(&mut model)?;
    let shapes = sinter_exec::shapes(&model)?;
    let mut lowering = Lowering {
        readers: readers(&model),
        model: &model,
        shapes,
        program: Program { name: model.name.clone(), metadata: model.graph.metadata.clone(), ..Program::default() },
        stored: BTreeMap::new(),
        taken: BTreeSet::new(),
        between: BETWEEN,
    };
    run(&mut lowering)?;
    Ok(lowering.program)
}

/// The nodes that read each value; a graph output counts as one more that is none of them.
fn readers(model: &Model) -> BTreeMap<String, Vec<usize>> {
    let mut readers: BTreeMap<String, Vec<usize>> =
        model.graph.consumers().into_iter().map(|(name, nodes)| (name.to_string(), nodes)).collect();
    for output in &model.graph.outputs {
        readers.entry(output.name.clone()).or_default().push(usize::MAX);
    }
    readers
}

fn run(lowering: &mut Lowering) -> Result<(), LowerError> {
    let model = lowering.model;
    for input in &model.graph.inputs {
        let layout = preferred(lowering, &input.name);
        let shape = layout.shape(&lowering.shapes[&input.name]);
        let quantization = lowering.quantizer(&input.name)?;
        let element = if quantization.is_some() { Element::Int8 } else { Element::Float32 };
        let tensor = lowering.tensor(TensorInfo { name: short(&input.name, "input"), shape, element, quantization, data: None });
        lowering.program.inputs.push(tensor);
        if let Layout::Order(order) = &layout {
            lowering.program.input_orders.push(order.clone());
        }
        lowering.stored.insert(input.name.clone(), Stored { layout, tensors: vec![tensor] });
    }
    for (i, node) in model.graph.nodes.iter().enumerate() {
        if !lowering.taken.contains(&i) {
            let found = lowers(node.kind()).ok_or_else(|| unknown(node))?;
            (found.lower)(lowering, node)?;
        }
    }
    for output in &model.graph.outputs {
        let wanted = if lowering.quantizer(&output.name)?.is_some() { Want::Integer } else { Want::Float };
        let rank = lowering.shape(&output.name)?.len();
        let layout = match lowering.stored.get(&output.name).map(|s| s.layout.clone()) {
            Some(Layout::Order(order)) if rank == 4 => Layout::Order(order),
            _ => Layout::plain(rank),
        };
        let tensor = lowering.read(&output.name, wanted, &layout, &output.name)?;
        lowering.program.tensors[tensor].name = short(&output.name, "output");
        lowering.program.outputs.push(tensor);
    }
    Ok(())
}

/// The error of an operator that devices lack.
fn unknown(node: &Node) -> LowerError {
    let mut known: Vec<&str> = LOWERS.iter().flat_map(|l| l.kinds).copied().collect();
    known.sort_unstable();
    LowerError::Node {
        node: node.name.clone(),
        kind: node.kind().to_string(),
        reason: format!("TensorFlow Lite has no operator for it that Sinter writes; it writes {}", known.join(", ")),
    }
}

/// How the input of a graph is best stored: channels last where its first reader slides over it.
fn preferred(lowering: &Lowering, input: &str) -> Layout {
    let rank = lowering.shapes.get(input).map_or(0, Vec::len);
    let mut name = input;
    for _ in 0..lowering.model.graph.nodes.len() {
        let Some(node) = lowering.readers.get(name).and_then(|r| lowering.model.graph.nodes.get(*r.first()?)) else { break };
        match lowers(node.kind()).map(|l| l.prefers) {
            Some(Prefers::ChannelsLast) => return Layout::channels_last(rank),
            Some(Prefers::AsReaders) => name = &node.outputs[0],
            _ => break,
        }
    }
    Layout::plain(rank)
}
