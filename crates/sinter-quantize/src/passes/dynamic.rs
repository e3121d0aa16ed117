//! Activations quantized by the range of what is there: no calibration, a little more work at every inference.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{Attributes, IntegerKernel, Layer, Node};
use sinter_train::StageError;

use super::Pass;
use crate::formats::Activations;
use crate::read_through::read_through;
use crate::resolved::Resolved;
use crate::state::State;

/// What the integers read: a value's pair of DynamicQuantizeLinear and DequantizeLinear.
const SUFFIX: &str = ".dynamic";

/// Puts a pair of DynamicQuantizeLinear and DequantizeLinear before every layer that runtimes can compute in integers then: convolutions and
/// matrix products. Recurrent layers read on in float.
#[derive(Debug)]
pub(crate) struct Dynamic;

impl Pass for Dynamic {
    fn name(&self) -> &'static str {
        "dynamic"
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        (resolved.activations == Activations::Dynamic).then(|| "layers read 8 bits by the range of each batch".to_string())
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let reads = |l: &Layer| {
            let kernel = state.model.graph.nodes[l.node].op.integer_kernel();
            let quantized = state.model.weights[&l.weight].quantizer().is_some();
            quantized && matches!(kernel, Some(IntegerKernel::Product { .. })) && state.resolved.is_dynamic(l)
        };
        // A shared weight is one layer, with several nodes.
        let uses = |l: &Layer| state.model.uses(&l.weight).into_iter().map(|(node, _)| node);
        let nodes: BTreeSet<usize> = state.model.layers().iter().filter(|l| reads(l)).flat_map(uses).collect();
        let model = &mut state.model;
        let name = |&i: &usize| (i, model.free_name(&format!("{}{SUFFIX}", model.graph.nodes[i].inputs[0])));
        let names: BTreeMap<usize, String> = nodes.iter().map(name).collect();
        read_through(model, &names, |value, real| {
            let [q, scale, zero] = ["integers", "scale", "zero_point"].map(|part| format!("{real}.{part}"));
            let outputs = vec![q.clone(), scale.clone(), zero.clone()];
            let quantize = Node::new(&q, "DynamicQuantizeLinear", Attributes::new(), vec![value.into()], outputs)?;
            let dequantize = Node::new(real, "DequantizeLinear", Attributes::new(), vec![q, scale, zero], vec![real.into()])?;
            Ok(vec![quantize, dequantize])
        })?;
        state.context.note(format!("{} layers read values quantized by the range of each batch", nodes.len()));
        Ok(())
    }
}
