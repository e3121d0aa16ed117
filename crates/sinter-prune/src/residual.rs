//! Removing whole residual blocks: those whose output differs least from their input (Men et al., ShortGPT, 2024).

use std::collections::{BTreeMap, BTreeSet};

use sinter_data::Order;
use sinter_exec::{Runner, shapes};
use sinter_model::{IntegerKernel, Mode, Model};
use sinter_train::{Context, StageError};
use tch::{Kind, Tensor};

/// Training samples that blocks are judged by.
const SAMPLES: usize = 512;

/// `output = input + branch(input)`, with a branch that owns a layer and that nothing else reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// The addition.
    node: usize,
    input: String,
    output: String,
    /// The layers of the branch, by name.
    pub layers: Vec<String>,
}

/// Removes `count` blocks, one at a time, each the one of least influence in what is left.
pub(crate) fn prune(model: &mut Model, count: usize, context: &Context) -> Result<(), StageError> {
    for _ in 0..count {
        let blocks = blocks(model)?;
        if blocks.is_empty() {
            return Err(StageError::config("blocks", "the model has no (more) residual block that can be removed"));
        }
        let influence = influences(model, &blocks, context)?;
        let order = |a: &usize, b: &usize| influence[*a].total_cmp(&influence[*b]);
        let Some(least) = (0..blocks.len()).min_by(order) else { break };
        let block = &blocks[least];
        context.note(format!(
            "residual block {} removed: its output's cosine to its input is {:.3}",
            block.layers.join(" + "),
            1.0 - influence[least]
        ));
        remove(model, block);
    }
    Ok(())
}

/// Every block of the model, in graph order.
pub(crate) fn blocks(model: &Model) -> Result<Vec<Block>, StageError> {
    let graph = &model.graph;
    let shapes = shapes(model)?;
    let layers = model.layers();
    let producer: BTreeMap<&str, usize> =
        graph.nodes.iter().enumerate().flat_map(|(i, n)| n.outputs.iter().map(move |o| (o.as_str(), i))).collect();
    let readers = graph.consumers();
    let mut found = Vec::new();
    for (index, add) in graph.nodes.iter().enumerate().filter(|(_, n)| n.op.integer_kernel() == Some(IntegerKernel::Sum)) {
        for (input, branch) in [(0, 1), (1, 0)] {
            let (input, end) = (&add.inputs[input], &add.inputs[branch]);
            // Everything behind the branch's end, as far as the block's input.
            let mut inside = BTreeSet::new();
            let mut open = vec![end.as_str()];
            let mut reached = false;
            let mut closed = true;
            while let Some(name) = open.pop() {
                if name == input {
                    reached = true;
                    continue;
                }
                match producer.get(name) {
                    Some(&node) if inside.insert(node) => open.extend(graph.nodes[node].present_inputs().map(String::as_str)),
                    Some(_) => {}
                    None => closed &= model.weights.contains_key(name),
                }
            }
            let private = |node: &usize| {
                graph.nodes[*node].outputs.iter().all(|o| {
                    let outside = |r: &usize| *r != index && !inside.contains(r);
                    !graph.is_output(o) && !readers.get(o.as_str()).is_some_and(|r| r.iter().any(outside))
                })
            };
            let same_shape = shapes.get(input) == shapes.get(&add.outputs[0]) && shapes.contains_key(input);
            let owned: Vec<String> = layers.iter().filter(|l| inside.contains(&l.node)).map(|l| l.name.clone()).collect();
            if reached && closed && same_shape && !owned.is_empty() && inside.iter().all(private) {
                found.push(Block { node: index, input: input.clone(), output: add.outputs[0].clone(), layers: owned });
                break;
            }
        }
    }
    Ok(found)
}

/// One minus the mean cosine between each block's input and output.
fn influences(model: &Model, blocks: &[Block], context: &Context) -> Result<Vec<f64>, StageError> {
    let mut sums = vec![0.0; blocks.len()];
    let mut count = 0.0;
    let runner = tch::no_grad(|| Runner::new(model))?;
    for batch in context.data.train.sample(SAMPLES, context.seed).batches(64, Order::Stored) {
        let batch = batch?;
        let mut values = BTreeMap::new();
        let wanted: BTreeSet<&str> = blocks.iter().flat_map(|b| [b.input.as_str(), b.output.as_str()]).collect();
        tch::no_grad(|| {
            runner.run_tapped(&batch.inputs, Mode::Predict, &mut |name, value| {
                if wanted.contains(name) {
                    values.insert(name.to_string(), value.shallow_clone());
                }
                Ok(())
            })
        })?;
        let n = batch.count();
        for (sum, block) in sums.iter_mut().zip(blocks) {
            if let (Some(a), Some(b)) = (values.get(&block.input), values.get(&block.output)) {
                let cosine = Tensor::f_cosine_similarity(&a.f_reshape([n, -1])?, &b.f_reshape([n, -1])?, 1, 1e-8)?;
                *sum += cosine.f_sum(Kind::Double)?.f_double_value(&[])?;
            }
        }
        count += n as f64;
    }
    Ok(sums.into_iter().map(|s| 1.0 - s / f64::max(count, 1.0)).collect())
}

/// Takes a block out: what read its output reads its input.
fn remove(model: &mut Model, block: &Block) {
    let is_output = model.graph.is_output(&block.output);
    for node in &mut model.graph.nodes {
        node.inputs.iter_mut().filter(|i| **i == block.output).for_each(|i| *i = block.input.clone());
    }
    if is_output {
        model.graph.outputs.iter_mut().filter(|o| o.name == block.output).for_each(|o| o.name = block.input.clone());
    }
    model.graph.nodes.remove(block.node);
    // The branch, from its end: nodes that nothing reads any more.
    loop {
        let read: BTreeSet<String> = model.graph.nodes.iter().flat_map(|n| n.present_inputs().cloned()).collect();
        let outputs: BTreeSet<String> = model.graph.outputs.iter().map(|o| o.name.clone()).collect();
        let before = model.graph.nodes.len();
        model.graph.nodes.retain(|n| n.outputs.iter().any(|o| read.contains(o) || outputs.contains(o)));
        if model.graph.nodes.len() == before {
            break;
        }
    }
    model.drop_unused();
    let kept: BTreeSet<String> = model.graph.nodes.iter().flat_map(|n| n.outputs.clone()).collect();
    let inputs: BTreeSet<String> = model.graph.inputs.iter().map(|i| i.name.clone()).collect();
    model.activations.retain(|name, _| kept.contains(name) || inputs.contains(name));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinter_model::zoo::ZooModel;

    #[test]
    fn resnet8_has_one_identity_block_and_runs_without_it() {
        let mut model = ZooModel::Resnet8.build(&[3, 32, 32], 10, 1).unwrap();
        let found = blocks(&model).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        let (layers, macs) = (model.layers().len(), sinter_exec::macs(&model).unwrap());
        remove(&mut model, &found[0]);
        assert_eq!(model.layers().len(), layers - 2);
        assert!(sinter_exec::macs(&model).unwrap() < macs);
        assert!(blocks(&model).unwrap().is_empty());
    }
}
