//! Weights and values get their quantizers.

use std::collections::BTreeSet;

use sinter_calibrate::Wanted;
use sinter_model::{Layer, OpResult, Quantizer};
use sinter_train::StageError;
use tch::{Kind, Tensor};

use super::{Needs, Pass};
use crate::formats::{Activations, Number, Per};
use crate::resolved::{LayerFormats, Resolved};
use crate::state::State;
use crate::weights::weight_params;

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
        let second = state.layers().into_iter().filter(|l| state.rounding(l).kind().wants_columns());
        wanted.columns.extend(second.map(|l| l.weight));
    }

    fn run(&self, state: &mut State) -> Result<(), StageError> {
        let layers = state.layers();
        let (mut clustered, mut tied) = (0, 0);
        for layer in state.context.each("quantization", &layers) {
            let Some(format) = state.weight(layer) else { continue };
            let rounding = state.rounding(layer);
            let at = StageError::weight(&layer.weight);
            let hessian = state.statistics.columns.get(&layer.weight).filter(|_| rounding.kind().wants_columns());
            // Layers that read one weight either way round can't each have a scale for their own channels.
            let turned = state.resolved.activations != Activations::None
                && state.model.uses(&layer.weight).iter().any(|(_, slot)| slot.out_axis != layer.slot.out_axis);
            let weight = state.model.weight_mut(&layer.weight)?;
            let value = weight.effective().map_err(&at)?.f_detach()?;
            let shared = weight.codebook().is_some();
            tied += usize::from(turned && format.per != Per::Tensor);
            let hessian = hessian.map(|columns| &columns.product);
            let importance = hessian.map(|h| spread_diagonal(layer, h, &value)).transpose().map_err(&at)?;
            match weight_params(layer.slot, &value, format, shared || turned, importance.as_ref()).map_err(&at)? {
                None => {
                    if let Number::Half(half) = format.number {
                        weight.to_half(half);
                    }
                }
                Some(params) => {
                    clustered += usize::from(shared && format.per != Per::Tensor);
                    let quantizer = Quantizer::new(&params).map_err(&at)?;
                    if let Some(hessian) = hessian
                        && let Some(rounded) = rounding.kind().round(layer, &value, &quantizer, hessian).map_err(&at)?
                    {
                        weight.set_latent(rounded).map_err(&at)?;
                    }
                    weight.quantize(quantizer).map_err(&at)?;
                }
            }
        }
        if clustered > 0 {
            state.context.note(format!(
                "one scale a tensor for {clustered} clustered layers: a scale a channel would part their shared values"
            ));
        }
        if tied > 0 {
            state.context.note(format!("one scale a tensor for {tied} weights that layers read either way round"));
        }
        if let Some(activations) = &state.activations {
            activations.set_all(state.resolved, &mut state.model)?;
        }
        Ok(())
    }
}

/// How much each weight's squared error counts: the Hessian's diagonal, in the weight's shape.
fn spread_diagonal(layer: &Layer, hessian: &Tensor, like: &Tensor) -> OpResult<Tensor> {
    let rows = like.size()[layer.slot.out_axis];
    let columns = hessian.size()[0];
    let diagonal = hessian.f_diagonal(0, 0, 1)?.f_to_kind(Kind::Float)?.f_expand([rows, columns], false)?;
    layer.slot.from_matrix(&diagonal, &like.size())
}
