//! Removing channels.

use std::collections::{BTreeMap, BTreeSet};

use sinter_exec::{io_shapes, shapes};
use sinter_model::{IoShapes, Model, Node, Role, to_f32s, to_i64s};
use sinter_train::{Context, StageError, saliency};
use tch::{Kind, Tensor};

use crate::channels::{Channel, Group, Unit, groups};
use crate::config::{Criterion, Scope, StructuredConfig};

/// Training samples that the Taylor criterion looks at.
const TAYLOR_SAMPLES: usize = 2048;

/// Removes the least important channels of every group.
pub(crate) fn prune(model: &mut Model, config: &StructuredConfig, context: &Context) -> Result<(), StageError> {
    let groups = groups(model)?;
    let ratios = ratios(model, config, &groups);
    if groups.is_empty() {
        return Err(StageError::config("structured", "no layer has channels that can be removed"));
    }
    let scores = scores(model, config.criterion, &groups, context)?;
    let doomed = choose(&groups, &scores, &ratios, config.scope);
    for (group, doomed) in groups.iter().zip(&doomed) {
        let (gone, all) = (doomed.len(), group.channels.len());
        context.note(format!("{}: {} of {all} channels kept", group.layers.join(" + "), all - gone));
    }
    let removed: Vec<&Channel> =
        groups.iter().zip(&doomed).flat_map(|(g, doomed)| doomed.iter().map(|&i| &g.channels[i])).collect();
    remove_channels(model, &removed)
}

/// The share to remove from each group: the smallest that any of its layers asks for.
fn ratios(model: &Model, config: &StructuredConfig, groups: &[Group]) -> Vec<f64> {
    let layers = model.layers();
    let of = |name: &String| {
        let layer = layers.iter().find(|l| l.name == *name);
        let special = layer.and_then(|l| config.layers.iter().rev().find(|o| o.r#match.matches(model, l)));
        special.map_or(config.ratio, |o| o.ratio).get()
    };
    groups.iter().map(|g| g.layers.iter().map(of).fold(1.0, f64::min)).collect()
}

/// The indices of the channels to remove, by group. At least one channel of each group stays.
fn choose(groups: &[Group], scores: &[Vec<f64>], ratios: &[f64], scope: Scope) -> Vec<Vec<usize>> {
    let ranked = |scores: &[f64]| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        order
    };
    let count = |n: usize, ratio: f64| ((n as f64 * ratio).round() as usize).min(n.saturating_sub(1));
    match scope {
        Scope::Layer => {
            let each = groups.iter().zip(scores).zip(ratios);
            each.map(|((g, s), &r)| ranked(s)[..count(g.channels.len(), r)].to_vec()).collect()
        }
        Scope::Global => {
            // Scores are compared after dividing by their group's mean, since layers differ in scale.
            let mut all: Vec<(f64, usize, usize)> = Vec::new();
            let mut budget = 0.0;
            for (g, (s, &r)) in scores.iter().zip(ratios).enumerate() {
                let mean = s.iter().sum::<f64>() / s.len().max(1) as f64;
                budget += r * s.len() as f64;
                if r > 0.0 {
                    all.extend(s.iter().enumerate().map(|(i, v)| (v / mean.max(1e-30), g, i)));
                }
            }
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut doomed = vec![Vec::new(); groups.len()];
            let mut left = budget.round() as usize;
            for (_, g, i) in all {
                if left == 0 {
                    break;
                }
                if doomed[g].len() + 1 < groups[g].channels.len() {
                    doomed[g].push(i);
                    left -= 1;
                }
            }
            doomed
        }
    }
}

/// The importance of each channel, by group.
fn scores(model: &Model, criterion: Criterion, groups: &[Group], context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
    if criterion == Criterion::Random {
        let mut state = context.seed;
        let mut next = || {
            // SplitMix64 (Steele et al., 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (z ^ (z >> 27)) as f64
        };
        return Ok(groups.iter().map(|g| g.channels.iter().map(|_| next()).collect()).collect());
    }
    let mut elements = match criterion {
        Criterion::Taylor => saliency(model, TAYLOR_SAMPLES, context)?,
        _ => BTreeMap::new(),
    };
    // Weights count through the axis of their outputs; a normalisation's scale through its only axis.
    let outputs: BTreeMap<String, usize> = model.layers().into_iter().map(|l| (l.weight, l.slot.out_axis)).collect();
    let scales: BTreeSet<&String> =
        model.graph.nodes.iter().filter(|n| n.kind() == "BatchNormalization").filter_map(|n| n.inputs.get(1)).collect();
    let mut per_index: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
    for (name, &axis) in &outputs {
        let weight = model.weight(name)?;
        let value = match elements.remove(name) {
            Some(term) => term,
            None if criterion == Criterion::L1 => weight.effective()?.f_detach()?.f_abs()?,
            None => weight.effective()?.f_detach()?.f_square()?,
        };
        let others: Vec<i64> = (0..value.dim() as i64).filter(|&a| a != axis as i64).collect();
        let mut sums = to_f32s(&value.f_sum_dim_intlist(&others[..], false, Kind::Float)?)?;
        if !matches!(criterion, Criterion::L1 | Criterion::Taylor) {
            sums.iter_mut().for_each(|s| *s = s.sqrt());
        }
        per_index.insert((name.clone(), axis), sums.into_iter().map(f64::from).collect());
    }
    let mut scale_index: BTreeMap<&String, Vec<f64>> = BTreeMap::new();
    if criterion == Criterion::BnScale {
        for name in scales {
            let value = model.weight(name)?.effective()?.f_abs()?;
            scale_index.insert(name, to_f32s(&value)?.into_iter().map(f64::from).collect());
        }
    }
    let score = |channel: &Channel| {
        let from_scale: f64 = channel.units.iter().filter_map(|u| scale_index.get(&u.name).map(|s| s[u.index])).sum();
        if from_scale > 0.0 {
            return from_scale;
        }
        channel.units.iter().filter_map(|u| per_index.get(&(u.name.clone(), u.axis)).map(|s| s[u.index])).sum()
    };
    Ok(groups.iter().map(|g| g.channels.iter().map(score).collect()).collect())
}

/// Takes channels out of the graph: every weight that they touch shrinks, and operators that state lengths (groups, shapes, split sizes)
/// are rewritten. Errors when what comes out does not have the shapes that were foreseen.
pub fn remove_channels(model: &mut Model, channels: &[&Channel]) -> Result<(), StageError> {
    let mut gone: BTreeMap<(String, usize), BTreeSet<usize>> = BTreeMap::new();
    for Unit { name, axis, index } in channels.iter().flat_map(|c| &c.units) {
        gone.entry((name.clone(), *axis)).or_default().insert(*index);
    }
    if gone.is_empty() {
        return Ok(());
    }
    let old = io_shapes(model)?;
    let shrink = |name: &String, shape: &[i64]| -> Vec<i64> {
        let each = shape.iter().enumerate();
        each.map(|(axis, n)| n - gone.get(&(name.clone(), axis)).map_or(0, |g| g.len() as i64)).collect()
    };
    let expected: BTreeMap<String, Vec<i64>> = shapes(model)?.iter().map(|(n, s)| (n.clone(), shrink(n, s))).collect();
    for (i, before) in old.iter().enumerate() {
        let node = model.graph.nodes[i].clone();
        let after = IoShapes {
            inputs: node.inputs.iter().zip(&before.inputs).map(|(n, s)| s.as_ref().map(|s| shrink(n, s))).collect(),
            outputs: node.outputs.iter().zip(&before.outputs).map(|(n, s)| shrink(n, s)).collect(),
        };
        if after.inputs == before.inputs && after.outputs == before.outputs {
            continue;
        }
        let adapted = node.op.adapt(&node.attributes, before, &after);
        let mut inputs = node.inputs.clone();
        for (slot, mut values) in adapted.constants {
            // What was left open (-1, 0) stays open: shapes here are those of one sample.
            let old = inputs.get(slot).and_then(|n| model.weights.get(n)).map(|w| to_i64s(w.latent())).transpose()?;
            if let Some(old) = old.filter(|old| old.len() == values.len()) {
                values.iter_mut().zip(old).filter(|(_, o)| *o <= 0).for_each(|(v, o)| *v = o);
            }
            let name = model.add_constant(&format!("{}.input{slot}", node.name), Tensor::from_slice(&values));
            if inputs.len() <= slot {
                inputs.resize(slot + 1, String::new());
            }
            inputs[slot] = name;
        }
        let attributes = adapted.attributes.unwrap_or(node.attributes);
        model.graph.nodes[i] = Node::new(&node.name, node.op.kind(), attributes, inputs, node.outputs)?;
    }
    for ((name, axis), removed) in &gone {
        let Some(weight) = model.weights.get_mut(name) else { continue };
        let keep: Vec<i64> = (0..weight.size()[*axis]).filter(|i| !removed.contains(&(*i as usize))).collect();
        weight.select(*axis as i64, &Tensor::from_slice(&keep)).map_err(StageError::weight(name))?;
    }
    model.drop_unused();
    for (name, shape) in shapes(model)? {
        // Constants that were rewritten have names of their own.
        let stored = model.weights.get(&name).is_some_and(|w| w.role == Role::Constant);
        if let Some(wanted) = expected.get(&name).filter(|w| **w != shape && !stored) {
            return Err(StageError::config(
                "structured",
                format!("after removing channels `{name}` has shape {shape:?}, expected {wanted:?}; please report this model"),
            ));
        }
    }
    Ok(())
}
