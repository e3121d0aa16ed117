//! The scale of the batch normalisation behind the channel.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::{Model, to_f32s};
use sinter_train::{Context, StageError};

use super::{Criterion, joined, norms, of_outputs};
use crate::channels::{Channel, Group};

/// The magnitude of the batch normalisation's scale (Network Slimming; Liu et al., 2017); the Euclidean norm where a channel has none. For
/// models that were trained to have small ones. Costs nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BnScale {}

impl Criterion for BnScale {
    fn score(&self, model: &Model, groups: &[Group], _context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
        let norms = joined(groups, &of_outputs(model, |_, value, axis| norms(value, axis))?);
        let mut scales: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for name in model.graph.nodes.iter().filter(|n| n.op.batch_norm().is_some()).filter_map(|n| n.inputs.get(1)) {
            let value = to_f32s(&model.weight(name)?.effective()?.f_abs()?)?;
            scales.insert(name, value.into_iter().map(f64::from).collect());
        }
        let scale =
            |channel: &Channel| channel.units.iter().filter_map(|u| scales.get(u.name.as_str()).map(|s| s[u.index])).sum::<f64>();
        let of = |group: &Group, norms: &[f64]| {
            let each = group.channels.iter().zip(norms).map(|(channel, norm)| match scale(channel) {
                found if found > 0.0 => found,
                _ => *norm,
            });
            each.collect()
        };
        Ok(groups.iter().zip(&norms).map(|(group, norms)| of(group, norms)).collect())
    }
}
