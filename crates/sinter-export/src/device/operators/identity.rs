//! What passes its input on.

use sinter_model::Node;

use super::{Lowers, Prefers};
use crate::device::error::LowerError;
use crate::device::lowering::Lowering;

pub(super) const LOWERS: Lowers = Lowers { kinds: &["Dropout", "Identity"], prefers: Prefers::AsReaders, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let layout = l.layout(&node.inputs[0]);
    l.alias(&node.outputs[0], &node.inputs[0], layout, &node.name)
}
