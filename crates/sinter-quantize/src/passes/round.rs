//! Weights and values get their quantizers.

use std::collections::{BTreeMap, BTreeSet};

use sinter_calibrate::{Wanted, Wants, has_parts, part_by_part};
use sinter_model::{Layer, Model, Node, OpResult, Quantizer};
use sinter_train::{StageError, WeightByWeight};
use tch::{Kind, Tensor};

use super::{Needs, Pass};
use crate::formats::{Activations, Format, Number, Per};
use crate::resolved::{LayerFormats, Resolved};
use crate::rounding::{Rounding, gptq};
use crate::state::State;
use crate::weights::weight_params;

/// Samples whose second moments are taken, where layers are rounded one after the other.
const MOST: usize = 256;

/// Gives every weight its scales and rounds it, column by column where the rounding asks for second moments; then gives values between layers
/// their quantizers.
#[derive(Debug)]
pub(crate) struct Round;

impl Pass for Round {
    fn name(&self) -> &'static str {
        "round"
    }

    fn needs(&self, resolved: &Resolved) -> &'static [Needs] {
        // Bits that are chosen while running may ask for them too.
        let columns = |l: &LayerFormats| l.weight.is_some() && resolved.rounding(l.facts, l.weight).kind().wants_columns();
        let any = resolved.config.mixed.is_some() || resolved.layers.values().any(columns);
        if any { &[Needs::SecondMoments] } else { &[] }
    }

    fn applies(&self, resolved: &Resolved) -> Option<String> {
        let names: BTreeSet<&str> = resolved
            .layers
            .values()
            .filter(|l| l.weight.is_some())
            .map(|l| resolved.rounding(l.facts, l.weight).name())
            .collect();
        Some(format!("weights by {}", names.into_iter().collect::<Vec<_>>().join(", ")))
    }

    fn wants(&self, state: &State, wanted: &mut Wanted) {
        let second = state.layers().into_iter().filter(|l| state.rounding(l).kind().wants_columns() && !in_parts(state, l));
        wanted.columns.extend(second.map(|l| l.weight));
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let (later, now): (Vec<Layer>, Vec<Layer>) = state.layers().into_iter().partition(|l| in_parts(state, l));
        let mut told = Told::default();
        for layer in state.context.each("quantization", &now) {
            let Some(how) = how(state, layer) else { continue };
            let hessian = state.statistics.columns.get(&layer.weight).map(|columns| &columns.product);
            told.count(&state.model, layer, &how)?;
            round(&mut state.model, layer, &how, (hessian, None))?;
        }
        if !later.is_empty() {
            let each: BTreeMap<String, (Layer, How)> =
                later.iter().filter_map(|l| Some((l.weight.clone(), (l.clone(), how(state, l)?)))).collect();
            let samples = state.samples.sample(MOST, state.context.seed);
            let weights = each.keys().cloned().collect();
            let across = each.values().any(|(_, how)| how.rounding.kind().wants_float());
            let mut work = WeightByWeight::begin(state.context, each.len());
            let wanted = Wants { weights: &weights, across, known: &work.known() };
            part_by_part(&mut state.model, &wanted, &samples, &state.context.reporter(), &mut |model, part| {
                part.iter().try_for_each(|(weight, found)| {
                    let Some((layer, how)) = each.get(weight) else { return Ok(()) };
                    told.count(model, layer, how)?;
                    if work.restore(model, weight) {
                        return Ok(());
                    }
                    let moments = found.as_ref().map_or((None, None), |f| (Some(&f.product), f.across.as_ref()));
                    round(model, layer, how, moments)?;
                    work.did(state.context, model, weight)
                })
            })?;
            work.end(state.context, &mut state.model);
            // Weights that are no matrix, or that nothing reached, have no moments.
            for (layer, how) in each.values() {
                if state.model.weight(&layer.weight)?.quantizer().is_none() {
                    told.count(&state.model, layer, how)?;
                    round(&mut state.model, layer, how, (None, None))?;
                }
            }
        }
        told.notes(state);
        if let Some(activations) = &state.activations {
            activations.set_all(state.resolved, &mut state.model)?;
        }
        Ok(())
    }
}

/// Whether a layer is rounded on what the rounded layers before it give.
pub(super) fn in_parts(state: &State, layer: &Layer) -> bool {
    let weights_only = state.resolved.activations == Activations::None;
    weights_only && state.rounding(layer).kind().is_sequential() && has_parts(&state.model, &state.samples)
}

/// How one weight is rounded.
struct How {
    format: Format,
    rounding: Rounding,
    /// Layers read it either way round, so they can't each have a scale for their own channels.
    turned: bool,
    /// No other node reads it.
    alone: bool,
}

fn how(state: &State, layer: &Layer) -> Option<How> {
    let turned = state.resolved.activations != Activations::None
        && state.model.uses(&layer.weight).iter().any(|(_, slot)| slot.out_axis != layer.slot.out_axis);
    let reads = |node: &&Node| node.inputs.contains(&layer.weight);
    let alone = state.model.graph.nodes.iter().filter(reads).count() == 1;
    Some(How { format: state.weight(layer)?, rounding: state.rounding(layer), turned, alone })
}

/// What is told once all are rounded.
#[derive(Default)]
struct Told {
    clustered: usize,
    tied: usize,
}

impl Told {
    /// Counts a weight that is about to be rounded.
    fn count(&mut self, model: &Model, layer: &Layer, how: &How) -> Result<(), StageError> {
        let each = how.format.per != Per::Tensor;
        let integers = !matches!(how.format.number, Number::Half(_));
        let clustered = model.weight(&layer.weight)?.codebook().is_some();
        self.tied += usize::from(how.turned && each);
        self.clustered += usize::from(clustered && each && integers);
        Ok(())
    }

    fn notes(&self, state: &State) {
        let Self { clustered, tied } = self;
        if *clustered > 0 {
            state.context.note(format!(
                "one scale a tensor for {clustered} clustered layers: a scale a channel would part their shared values"
            ));
        }
        if *tied > 0 {
            state.context.note(format!("one scale a tensor for {tied} weights that layers read either way round"));
        }
    }
}

/// Gives a weight its scales and rounds it; `hessian` are the second moments of what it multiplies, where the rounding asks for them, and `across` those with what
/// it multiplied in the float model.
fn round(
    model: &mut Model,
    layer: &Layer,
    how: &How,
    (hessian, across): (Option<&Tensor>, Option<&Tensor>),
) -> Result<(), StageError> {
    let at = StageError::weight(&layer.weight);
    let hessian = hessian.filter(|_| how.rounding.kind().wants_columns());
    let weight = model.weight_mut(&layer.weight)?;
    let mut value = weight.effective().map_err(&at)?.f_detach()?;
    // What others read too stays where it is.
    let across = across.filter(|_| how.alone && how.rounding.kind().wants_float());
    if let (Some(hessian), Some(across)) = (hessian, across) {
        let moved = gptq::toward(&layer.slot.matrix(&value).map_err(&at)?, hessian, across).map_err(&at)?;
        value = layer.slot.from_matrix(&moved, &value.size()).map_err(&at)?;
        weight.set_latent(value.shallow_clone()).map_err(&at)?;
    }
    let shared = weight.codebook().is_some();
    let importance = hessian.map(|h| spread_diagonal(layer, h, &value)).transpose().map_err(&at)?;
    let Some(params) = weight_params(layer.slot, &value, how.format, shared || how.turned, importance.as_ref()).map_err(&at)?
    else {
        if let Number::Half(half) = how.format.number {
            weight.to_half(half);
        }
        return Ok(());
    };
    let quantizer = Quantizer::new(&params).map_err(&at)?;
    if let Some(hessian) = hessian
        && let Some(rounded) = how.rounding.kind().round(layer, &value, &quantizer, hessian).map_err(&at)?
    {
        weight.set_latent(rounded).map_err(&at)?;
    }
    weight.quantize(quantizer).map_err(&at)
}

/// How much each weight's squared error counts: the Hessian's diagonal, in the weight's shape.
fn spread_diagonal(layer: &Layer, hessian: &Tensor, like: &Tensor) -> OpResult<Tensor> {
    let rows = like.size()[layer.slot.out_axis];
    let columns = hessian.size()[0];
    let diagonal = hessian.f_diagonal(0, 0, 1)?.f_to_kind(Kind::Float)?.f_expand([rows, columns], false)?;
    layer.slot.from_matrix(&diagonal, &like.size())
}
