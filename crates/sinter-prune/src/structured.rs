//! Removing channels.

use std::collections::{BTreeMap, BTreeSet};

use sinter_exec::{costs, io_shapes, macs, shapes};
use sinter_model::{IoShapes, Model, Node, Role, to_f32s, to_i64s};
use sinter_train::{Context, StageError, saliency};
use tch::{Kind, Tensor};

use crate::channels::{Channel, Group, Unit, groups};
use crate::config::{Criterion, Scope, StructuredConfig};
use crate::refit::refit;
use crate::scores::SAMPLES;
use crate::sensitivity;

/// By how much the share that a group loses may exceed that of all, where multiply-accumulates are what shall shrink.
const UNEVEN: f64 = 1.1;

/// Removes the least important channels. In each of `rounds` rounds the same share of what is left goes.
pub(crate) fn prune(model: &mut Model, config: &StructuredConfig, rounds: usize, context: &Context) -> Result<(), StageError> {
    let groups = groups(model)?;
    if groups.is_empty() {
        return Err(StageError::config("structured", "no layer has channels that can be removed"));
    }
    let vectors = |name: &&String| model.weights[*name].codebook().is_some_and(|c| c.dim() > 1);
    if let Some(name) = model.weights.keys().find(vectors) {
        return Err(StageError::Config {
            key: "structured".into(),
            reason: format!("weight `{name}` has centroids of several weights each, which can't lose single ones"),
            help: Some("put the structured `prune` stage before `cluster`".into()),
        });
    }
    let in_round = |r: f64| 1.0 - (1.0 - r).powf(1.0 / rounds.max(1) as f64);
    let scores = scores(model, config.criterion, &groups, context)?;
    let own = own_ratios(model, config, &groups);
    let whole = in_round(config.ratio.get());
    let ratio = |g: usize| own[g].map_or(whole, in_round);
    let doomed = match config.scope {
        Scope::Layer => (0..groups.len()).map(|g| least(&scores[g], ratio(g))).collect(),
        Scope::Sensitivity => {
            let ratios = sensitivity_ratios(model, config, &groups, &scores, whole, context)?;
            (0..groups.len()).map(|g| least(&scores[g], own[g].map_or(ratios[g], in_round))).collect()
        }
        Scope::Global | Scope::Macs => {
            // Layers with a share of their own stand apart; the others compete. Scores are compared after dividing by their group's
            // mean, since layers differ in scale, and per multiply-accumulate where those are what shall shrink.
            let apart: Vec<Vec<usize>> =
                (0..groups.len()).map(|g| own[g].map_or(vec![], |r| least(&scores[g], in_round(r)))).collect();
            let prices = if config.scope == Scope::Macs { channel_macs(model, &groups)? } else { vec![] };
            let mut order: Vec<(f64, usize, usize)> = Vec::new();
            for (g, s) in scores.iter().enumerate().filter(|(g, _)| own[*g].is_none()) {
                let mean = s.iter().sum::<f64>() / s.len().max(1) as f64;
                let price = |i: usize| prices.get(g).map_or(1.0, |p| p[i].max(1.0));
                order.extend(s.iter().enumerate().map(|(i, v)| (v / mean.max(1e-30) / price(i), g, i)));
            }
            order.sort_by(|a, b| a.0.total_cmp(&b.0));
            let first = |count: usize, most: f64| -> Vec<Vec<usize>> {
                let mut doomed = apart.clone();
                let mut left = count;
                for &(_, g, i) in &order {
                    // At least one channel of each group stays.
                    let all = groups[g].channels.len();
                    let may = ((all as f64 * most).floor() as usize).min(all.saturating_sub(1));
                    if left > 0 && doomed[g].len() < may {
                        doomed[g].push(i);
                        left -= 1;
                    }
                }
                doomed
            };
            match config.scope {
                Scope::Macs => {
                    // A score knows nothing of bottlenecks: no group loses much more than it would if all lost the same share.
                    let mut found = None;
                    for share in (1..=40).map(|s| s as f64 / 40.0) {
                        if fewest_for_macs(model, &groups, whole, order.len(), &|n| first(n, share))?.is_some() {
                            let most = (share * UNEVEN).min(1.0);
                            found = fewest_for_macs(model, &groups, whole, order.len(), &|n| first(n, most))?;
                            break;
                        }
                    }
                    found.ok_or_else(|| {
                        let reason = match own.iter().any(Option::is_some) {
                            true => "that many multiply-accumulates can't go: `layers` fixes the shares of some; choose a smaller ratio or name fewer layers",
                            false => "even one channel a layer has more multiply-accumulates than that: choose a smaller ratio",
                        };
                        StageError::config("structured.ratio", reason)
                    })?
                }
                _ => first((order.len() as f64 * whole).round() as usize, 1.0),
            }
        }
    };
    for (group, doomed) in groups.iter().zip(&doomed) {
        let (gone, all) = (doomed.len(), group.channels.len());
        context.note(format!("{}: {} of {all} channels kept", group.layers.join(" + "), all - gone));
    }
    let gone = chosen(&groups, &doomed);
    if config.refit {
        refit(model, &gone, context)?;
    }
    remove_channels(model, &gone)
}

fn chosen<'a>(groups: &'a [Group], doomed: &[Vec<usize>]) -> Vec<&'a Channel> {
    groups.iter().zip(doomed).flat_map(|(g, doomed)| doomed.iter().map(|&i| &g.channels[i])).collect()
}

/// The indices of the smallest scores, a share of them. At least one stays.
fn least(scores: &[f64], ratio: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order.truncate(((scores.len() as f64 * ratio).round() as usize).min(scores.len().saturating_sub(1)));
    order
}

/// The share that the user gave for the layers of each group: the smallest, where there are several.
fn own_ratios(model: &Model, config: &StructuredConfig, groups: &[Group]) -> Vec<Option<f64>> {
    let layers = model.layers();
    let of = |name: &String| {
        let layer = layers.iter().find(|l| l.name == *name)?;
        config.layers.iter().rev().find(|o| o.r#match.matches(model, layer)).map(|o| o.ratio.get())
    };
    groups.iter().map(|g| g.layers.iter().filter_map(of).reduce(f64::min)).collect()
}

/// The shares by a sensitivity scan, by group.
fn sensitivity_ratios(
    model: &Model,
    config: &StructuredConfig,
    groups: &[Group],
    scores: &[Vec<f64>],
    whole: f64,
    context: &Context,
) -> Result<Vec<f64>, StageError> {
    let names: Vec<(String, usize)> = groups.iter().map(|g| (g.layers.join(" + "), g.channels.len())).collect();
    let what = format!("sensitivity of channels, {:?}", config.criterion);
    let curves = sensitivity::scan(model, &what, &names, context, &|g, share| {
        let mut probe = model.copy();
        let gone: Vec<&Channel> = least(&scores[g], share).into_iter().map(|i| &groups[g].channels[i]).collect();
        remove_channels(&mut probe, &gone)?;
        Ok(probe)
    })?;
    let shares = sensitivity::allocate(&curves, whole);
    Ok(names.iter().map(|(n, _)| shares.get(n).copied().unwrap_or(whole)).collect())
}

/// The multiply-accumulates that go with each channel, to first order: its part of every layer that makes or reads it.
fn channel_macs(model: &Model, groups: &[Group]) -> Result<Vec<Vec<f64>>, StageError> {
    let costs = costs(model)?;
    let mut per_index: BTreeMap<(String, usize), f64> = BTreeMap::new();
    for layer in model.layers() {
        let size = model.weight(&layer.weight)?.size();
        for axis in [layer.slot.out_axis, layer.slot.in_axis] {
            per_index.insert((layer.weight.clone(), axis), costs[layer.node].macs as f64 / size[axis].max(1) as f64);
        }
    }
    let price = |c: &Channel| c.units.iter().filter_map(|u| per_index.get(&(u.name.clone(), u.axis))).sum();
    Ok(groups.iter().map(|g| g.channels.iter().map(price).collect()).collect())
}

/// The fewest channels, in their order, whose removal leaves at most `1 - share` of the multiply-accumulates; `None` when all of them
/// are not enough.
fn fewest_for_macs(
    model: &Model,
    groups: &[Group],
    share: f64,
    most: usize,
    first: &dyn Fn(usize) -> Vec<Vec<usize>>,
) -> Result<Option<Vec<Vec<usize>>>, StageError> {
    let allowed = macs(model)? as f64 * (1.0 - share);
    let left = |count: usize| -> Result<f64, StageError> {
        let mut probe = model.copy();
        remove_channels(&mut probe, &chosen(groups, &first(count)))?;
        Ok(macs(&probe)? as f64)
    };
    let (mut low, mut high) = (0, most);
    if left(high)? > allowed {
        return Ok(None);
    }
    while low < high {
        let middle = (low + high) / 2;
        if left(middle)? <= allowed { high = middle } else { low = middle + 1 }
    }
    Ok(Some(first(high)))
}

/// The importance of each channel, by group.
fn scores(model: &Model, criterion: Criterion, groups: &[Group], context: &Context) -> Result<Vec<Vec<f64>>, StageError> {
    if criterion == Criterion::Random {
        let mut generator = fastrand::Rng::with_seed(context.seed);
        let mut next = || generator.f64();
        return Ok(groups.iter().map(|g| g.channels.iter().map(|_| next()).collect()).collect());
    }
    let mut elements = match criterion {
        Criterion::Taylor => saliency(model, SAMPLES, context)?,
        _ => BTreeMap::new(),
    };
    // Weights count through the axis of their outputs; a normalisation's scale through its only axis.
    let outputs: BTreeMap<String, usize> = model.layers().into_iter().map(|l| (l.weight, l.slot.out_axis)).collect();
    let scales: BTreeSet<&String> =
        model.graph.nodes.iter().filter(|n| n.kind() == "BatchNormalization").filter_map(|n| n.inputs.get(1)).collect();
    let mut per_index: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
    for (name, &axis) in &outputs {
        let weight = model.weight(name)?;
        if criterion == Criterion::GeometricMedian {
            per_index.insert((name.clone(), axis), distances(&weight.effective()?.f_detach()?, axis)?);
            continue;
        }
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

/// The sum of each channel's Euclidean distances to all others.
fn distances(weight: &Tensor, axis: usize) -> Result<Vec<f64>, StageError> {
    let rows = weight.f_movedim_int(axis as i64, 0)?.f_reshape([weight.size()[axis], -1])?;
    let sums = Tensor::f_cdist(&rows, &rows, 2.0, None)?.f_sum_dim_intlist(1, false, Kind::Float)?;
    Ok(to_f32s(&sums)?.into_iter().map(f64::from).collect())
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
