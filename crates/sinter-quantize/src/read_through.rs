//! New nodes between a value and the layers that read it.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Model, Node, OpResult};

/// Lets nodes, by index, read values of these names in place of their first inputs. `make` gives the nodes that make the second name of the
/// first; they are made once and stand before the first reader.
pub(crate) fn read_through(
    model: &mut Model,
    reads: &BTreeMap<usize, String>,
    make: impl Fn(&str, &str) -> OpResult<Vec<Node>>,
) -> OpResult<()> {
    let mut made = BTreeSet::new();
    let mut nodes = Vec::with_capacity(model.graph.nodes.len() + reads.len());
    for (i, mut node) in std::mem::take(&mut model.graph.nodes).into_iter().enumerate() {
        if let Some(name) = reads.get(&i) {
            if made.insert(name) {
                nodes.extend(make(&node.inputs[0], name)?);
            }
            node.inputs[0] = name.clone();
        }
        nodes.push(node);
    }
    model.graph.nodes = nodes;
    Ok(())
}
