//! Constants and shape arithmetic, computed once instead of at every run.

use std::collections::{BTreeMap, BTreeSet};

use sinter_exec::{Runner, blank_inputs};
use sinter_model::{Dim, Inputs, IntegerKernel, IoShapes, Mode, Model, Node, Role, Weight};
use tch::Tensor;

use crate::error::OnnxError;
use crate::follows::Follows;

/// Folds nodes that read only constants, then arithmetic on shapes: what comes out the same for two batch sizes is stored, and a
/// Reshape whose target depends on the batch alone gets -1 there.
pub fn fold(model: &mut Model) -> Result<(), OnnxError> {
    forward_identities(model);
    part_statistics(model);
    fold_constants(model, &tied(model))?;
    fold_shapes(model)?;
    tie(model)?;
    fold_constants(model, &BTreeMap::new())?;
    drop_dead(model);
    Ok(())
}

/// A product of matrices and the vector that is added to it are one Gemm: the bias then belongs to its layer, and integer kernels add it.
pub(crate) fn join_biases(model: &mut Model) -> Result<(), OnnxError> {
    let consumers = model.graph.consumers();
    let vector = |name: &String, columns: i64| {
        let value = model.weights.get(name).filter(|w| w.role != Role::Statistic && w.latent().kind() == tch::Kind::Float);
        consumers.get(name.as_str()).is_some_and(|r| r.len() == 1)
            && value.is_some_and(|w| matches!(w.size()[..], [n] | [1, n] if n == columns))
    };
    let mut pairs = Vec::new();
    for (i, node) in model.graph.nodes.iter().enumerate().filter(|(_, n)| n.op.with_bias().is_some()) {
        let Some(weight) = node.inputs.get(1).and_then(|name| model.weights.get(name)) else { continue };
        let (output, size) = (&node.outputs[0], weight.size());
        let ([_, columns], Some([at])) = (&size[..], consumers.get(output.as_str()).map(Vec::as_slice)) else { continue };
        let add = &model.graph.nodes[*at];
        let bias = add.inputs.iter().find(|n| *n != output);
        if let Some(bias) = bias.filter(|b| {
            add.op.integer_kernel() == Some(IntegerKernel::Sum) && vector(b, *columns) && !model.graph.is_output(output)
        }) {
            pairs.push((i, *at, bias.clone()));
        }
    }
    if pairs.is_empty() {
        return Ok(());
    }
    let shapes = sinter_exec::shapes(model)?;
    let mut gone = BTreeSet::new();
    for (product, add, bias) in pairs {
        let node = &model.graph.nodes[product];
        if shapes.get(&node.inputs[0]).is_none_or(|s| s.len() != 2) {
            continue;
        }
        let flat = model.weights.get(&bias).map(|w| w.latent().f_reshape([-1])).transpose();
        let fail = |source: sinter_model::OpError| OnnxError::Weight { weight: bias.clone(), source };
        if let Some(flat) = flat.map_err(|e| fail(e.into()))? {
            model.weights.insert(bias.clone(), Weight::new(Role::Parameter, flat));
        }
        let inputs = vec![node.inputs[0].clone(), node.inputs[1].clone(), bias.clone()];
        let outputs = model.graph.nodes[add].outputs.clone();
        let Some(kind) = node.op.with_bias() else { continue };
        let joined = Node::new(&node.name, kind, node.attributes.clone(), inputs, outputs).map_err(fail)?;
        model.graph.nodes[product] = joined;
        gone.insert(add);
    }
    let mut at = 0..;
    model.graph.nodes.retain(|_| at.next().is_none_or(|i| !gone.contains(&i)));
    Ok(())
}

/// What reads a parameter under another name reads it under its own: two names would become two parameters.
fn forward_identities(model: &mut Model) {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for node in &model.graph.nodes {
        let (Some(from), Some(to)) = (node.inputs.first(), node.outputs.first()) else { continue };
        let source = names.get(from).unwrap_or(from);
        if node.op.is_view()
            && node.op.is_homogeneous()
            && !node.op.is_random()
            && model.weights.contains_key(source)
            && !model.graph.is_output(to)
        {
            let source = source.clone();
            names.insert(to.clone(), source);
        }
    }
    for input in model.graph.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
        if let Some(source) = names.get(input) {
            input.clone_from(source);
        }
    }
}

/// Gives each batch normalisation statistics of its own: exporters merge tensors of equal values, and a scale must not follow a running variance.
fn part_statistics(model: &mut Model) {
    for i in 0..model.graph.nodes.len() {
        if model.graph.nodes[i].op.batch_norm().is_none() {
            continue;
        }
        for slot in [3, 4] {
            let Some(name) = model.graph.nodes[i].inputs.get(slot).cloned() else { continue };
            let others = |(at, node): (usize, &Node)| {
                node.inputs.iter().enumerate().filter(|(s, input)| **input == name && (at, *s) != (i, slot)).count()
            };
            let shared = model.graph.nodes.iter().enumerate().map(others).sum::<usize>() > 0;
            let Some(value) = model.weights.get_mut(&name).filter(|_| shared) else { continue };
            let own = Weight::new(Role::Statistic, value.latent().copy());
            // What is left reads it as what it was before it was taken for a statistic.
            value.role = Role::Parameter;
            let new = model.free_name(&format!("{name}.statistic"));
            model.weights.insert(new.clone(), own);
            model.graph.nodes[i].inputs[slot] = new;
        }
    }
}

/// Transposed matrices of parameters that something else reads as they are, by name, and the parameters: to fold them would make two parameters of
/// one.
fn tied(model: &Model) -> BTreeMap<String, String> {
    let consumers = model.graph.consumers();
    let parameter = |name: &String| model.weights.get(name).is_some_and(|w| w.role == Role::Parameter && w.size().len() == 2);
    let read = |name: &str| consumers.get(name).map_or(0, Vec::len);
    let each = model.graph.nodes.iter().filter_map(|node| {
        let (from, to) = (node.inputs.first()?, node.outputs.first()?);
        let order = node.attributes.opt_ints("perm").ok()?;
        let turns = node.kind() == "Transpose" && order.is_none_or(|order| order == [1, 0]);
        // Products alone can take the turn upon themselves.
        let products = consumers.get(to.as_str())?.iter().all(|&i| {
            let reader = &model.graph.nodes[i];
            let product = matches!(reader.op.integer_kernel(), Some(IntegerKernel::Product { convolution: false, .. }));
            product && reader.inputs.get(1) == Some(to) && reader.inputs.iter().filter(|n| *n == to).count() == 1
        });
        let shared = turns && parameter(from) && read(from) > 1 && products && !model.graph.is_output(to);
        shared.then(|| (to.clone(), from.clone()))
    });
    each.collect()
}

/// Lets products read tied parameters as they are stored.
fn tie(model: &mut Model) -> Result<(), OnnxError> {
    let tied = tied(model);
    if tied.is_empty() {
        return Ok(());
    }
    let shapes = sinter_exec::shapes(model)?;
    for node in &mut model.graph.nodes {
        let Some(source) = node.inputs.get(1).and_then(|name| tied.get(name)) else { continue };
        let flat = shapes.get(&node.inputs[0]).is_some_and(|s| s.len() == 2);
        let was = node.attributes.get_int("transB", 0).unwrap_or(0);
        let mut inputs = node.inputs.clone();
        inputs[1].clone_from(source);
        let attributes = node.attributes.clone().int("transB", 1 - was);
        // On matrices ONNX has an operator for it.
        let kind = node.op.with_bias().filter(|_| flat).unwrap_or(node.op.kind());
        *node = Node::new(&node.name, kind, attributes, inputs, node.outputs.clone())
            .map_err(|source| OnnxError::Weight { weight: node.inputs[1].clone(), source })?;
    }
    drop_dead(model);
    Ok(())
}

fn fold_constants(model: &mut Model, tied: &BTreeMap<String, String>) -> Result<(), OnnxError> {
    let mut kept = Vec::new();
    for node in std::mem::take(&mut model.graph.nodes) {
        // Quantization must stay visible, and what is random is no constant.
        let constant = node.op.boundary().is_none()
            && !node.op.is_random()
            && !node.outputs.iter().any(|o| tied.contains_key(o))
            && node.present_inputs().all(|name| model.weights.contains_key(name))
            && !node.outputs.iter().any(|o| model.graph.outputs.iter().any(|g| &g.name == o));
        if !constant {
            kept.push(node);
            continue;
        }
        let inputs: Vec<Option<Tensor>> =
            node.inputs.iter().map(|n| model.weights.get(n).map(|w| w.latent().shallow_clone())).collect();
        let trained = node.inputs.iter().filter_map(|n| model.weights.get(n)).any(|w| w.role == Role::Parameter);
        let outputs = tch::no_grad(|| node.compute(&Inputs(&inputs), Mode::Predict)).map_err(|source| {
            let (node, kind) = (node.name.clone(), node.kind().to_string());
            sinter_exec::ExecError::Node { node, kind, source }
        })?;
        for (name, value) in node.outputs.iter().zip(outputs) {
            // A transposed or reshaped parameter is still one.
            let role = if trained && value.is_floating_point() { Role::Parameter } else { Role::Constant };
            model.weights.insert(name.clone(), Weight::new(role, value.contiguous().copy()));
        }
    }
    model.graph.nodes = kept;
    // A Constant node that feeds a layer as its weight is a parameter.
    let weights: BTreeSet<String> = model
        .graph
        .nodes
        .iter()
        .filter(|n| {
            let shapes = n.inputs.iter().map(|name| model.weights.get(name).map(Weight::size)).collect();
            let product = n.op.is_product();
            product || !n.op.weights(&IoShapes { inputs: shapes, outputs: vec![] }).is_empty()
        })
        .flat_map(|n| n.inputs.iter().skip(1).cloned())
        .collect();
    for (name, weight) in &mut model.weights {
        if weights.contains(name) && weight.latent().kind() == tch::Kind::Float && weight.role == Role::Constant {
            weight.role = Role::Parameter;
        }
    }
    Ok(())
}

fn fold_shapes(model: &mut Model) -> Result<(), OnnxError> {
    let follows = Follows::of(model, &|name| model.weights.contains_key(name));
    let mut derived: BTreeSet<String> = BTreeSet::new();
    for node in &model.graph.nodes {
        let of_shapes = node.op.reads_shape() || node.present_inputs().any(|n| derived.contains(n));
        if of_shapes && node.outputs.iter().all(|o| o.is_empty() || follows.derived.contains(o)) {
            derived.extend(node.outputs.iter().cloned());
        }
    }
    if derived.is_empty() {
        return Ok(());
    }
    let batched = model.graph.inputs.iter().flat_map(|i| &i.shape).any(|d| matches!(d, Dim::Free(_)));
    let observe = |batch: i64| -> Result<BTreeMap<String, Tensor>, OnnxError> {
        let mut seen = BTreeMap::new();
        tch::no_grad(|| {
            let runner = Runner::new(model)?;
            runner.run_tapped(&blank_inputs(model, batch), Mode::Predict, &mut |name, value| {
                if derived.contains(name) {
                    seen.insert(name.to_string(), value.copy());
                }
                Ok(())
            })
        })?;
        Ok(seen)
    };
    let (two, three) = (observe(2)?, observe(if batched { 3 } else { 2 })?);
    let mut stored = BTreeMap::new();
    let mut reshaped = BTreeMap::new();
    for (name, a) in &two {
        let Some(b) = three.get(name) else { continue };
        if a.size() == b.size() && a.equal(b) {
            stored.insert(name.clone(), a.copy());
        } else if let (Ok(a), Ok(b)) = (sinter_model::to_i64s(a), sinter_model::to_i64s(b)) {
            let differ: Vec<usize> = (0..a.len().min(b.len())).filter(|&i| a[i] != b[i]).collect();
            if a.len() == b.len() && differ.len() == 1 && !a.contains(&-1) {
                let mut target = a;
                target[differ[0]] = -1;
                reshaped.insert(name.clone(), target);
            }
        }
    }
    for (name, value) in stored {
        if !model.graph.is_output(&name) {
            model.weights.insert(name, Weight::new(Role::Constant, value));
        }
    }
    for i in 0..model.graph.nodes.len() {
        let Some(slot) = model.graph.nodes[i].op.target_shape() else { continue };
        if let Some(target) = model.graph.nodes[i].inputs.get(slot).and_then(|n| reshaped.get(n)).cloned() {
            let hint = format!("{}.shape", model.graph.nodes[i].name);
            let name = model.add_constant(&hint, Tensor::from_slice(&target));
            model.graph.nodes[i].inputs[slot] = name;
        }
    }
    let Model { graph, weights, .. } = model;
    graph.nodes.retain(|n| !n.outputs.iter().all(|o| weights.contains_key(o)));
    Ok(())
}

/// Removes nodes and stored tensors that no output depends on.
pub fn drop_dead(model: &mut Model) {
    let mut needed: BTreeSet<String> = model.graph.outputs.iter().map(|o| o.name.clone()).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut model.graph.nodes).into_iter().rev() {
        if node.outputs.iter().any(|o| needed.contains(o)) {
            needed.extend(node.present_inputs().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    model.graph.nodes = kept;
    model.drop_unused();
}
