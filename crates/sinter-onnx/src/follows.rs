//! What of a graph follows from stored numbers and shapes, whatever the data.

use std::collections::BTreeSet;

use sinter_model::Model;

/// Which values follow from stored numbers and shapes.
#[derive(Default)]
pub(crate) struct Follows {
    /// What is computed from stored numbers and shapes alone.
    pub derived: BTreeSet<String>,
    /// What has a shape that the data decides.
    pub shaped_by_data: BTreeSet<String>,
}

impl Follows {
    /// Goes through the nodes in their order; `fixed` says what is stored, or computed from that alone.
    pub fn of(model: &Model, fixed: &dyn Fn(&str) -> bool) -> Self {
        let mut found = Self::default();
        for node in &model.graph.nodes {
            let given = |name: &str| name.is_empty() || found.derived.contains(name) || fixed(name);
            let loose = |name: &String| found.shaped_by_data.contains(name);
            let slots = shaping(node.kind());
            let set_by_data = (0..node.inputs.len()).any(|slot| slots.contains(&slot) && !given(&node.inputs[slot]));
            if COUNTED_BY_DATA.contains(&node.kind()) || set_by_data || node.present_inputs().any(loose) {
                found.shaped_by_data.extend(node.outputs.iter().cloned());
            } else if !node.op.is_random() && (node.op.reads_shape() || node.inputs.iter().all(|input| given(input))) {
                found.derived.extend(node.outputs.iter().cloned());
            }
        }
        found
    }
}

/// Operators that give as many elements as the data makes them.
const COUNTED_BY_DATA: [&str; 3] = ["NonZero", "Compress", "NonMaxSuppression"];

/// The inputs of an operator that say what shape its results have.
fn shaping(kind: &str) -> &'static [usize] {
    match kind {
        "ConstantOfShape" => &[0],
        "Range" => &[0, 1, 2],
        "Slice" => &[1, 2, 3, 4],
        "Resize" | "Upsample" => &[1, 2, 3],
        "Pad" => &[1, 3],
        "DFT" => &[1, 2],
        "STFT" => &[1, 3],
        "AffineGrid" | "Expand" | "OneHot" | "Reshape" | "Split" | "Squeeze" | "Tile" | "TopK" | "Unsqueeze" => &[1],
        _ if kind.starts_with("Reduce") => &[1],
        _ => &[],
    }
}
