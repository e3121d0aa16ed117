//! Structured pruning: which channels go.

use std::collections::BTreeMap;

use sinter_exec::{costs, macs};
use sinter_model::Model;
use sinter_train::{Context, StageError};

use crate::channels::{Channel, Group, groups};
use crate::config::{Scope, StructuredConfig};
use crate::refit::refit;
use crate::removal::remove_channels;
use crate::sensitivity;

/// By how much the share that a group loses may exceed that of all, where multiply-accumulates are what shall shrink.
const UNEVEN: f64 = 1.1;

/// Removes the least important channels. In each of `rounds` rounds the same share of what is left goes.
pub(crate) fn prune(model: &mut Model, config: &StructuredConfig, rounds: usize, context: &Context) -> Result<(), StageError> {
    let groups = groups(model)?;
    if groups.is_empty() {
        return Err(StageError::config("structured", "no layer has channels that can be removed"));
    }
    let in_round = |r: f64| 1.0 - (1.0 - r).powf(1.0 / rounds.max(1) as f64);
    let scores = config.criterion.kind().score(model, &groups, context)?;
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
    let what = format!("sensitivity of channels, {}", serde_json::to_string(&config.criterion).unwrap_or_default());
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
