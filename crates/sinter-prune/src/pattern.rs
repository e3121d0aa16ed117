//! N:M patterns: at most N of each M consecutive weights along the input channels stay.

use sinter_model::{Layer, Mask, Model, NmPattern};
use sinter_train::{Context, StageError};

use crate::config::{NmText, PruneConfig};
use crate::criteria::weight::scores;
use crate::mask::keep_nm;
use crate::select::set_masks;
use crate::target::Target;

/// What becomes of a layer.
pub(crate) enum Fate {
    /// It takes the pattern along this axis.
    Takes(usize),
    /// The user names other layers.
    NotNamed,
    /// So many input channels are no multiple of M.
    NoMultiple {
        channels: i64,
        /// Whether the user asked for this layer.
        named: bool,
    },
}

/// What becomes of each layer of a model.
pub(crate) fn fates(model: &Model, config: &PruneConfig, pattern: NmText) -> Result<Vec<(Layer, Fate)>, StageError> {
    let fate = |layer: Layer| -> Result<(Layer, Fate), StageError> {
        let named = config.layers.iter().any(|p| p.matches(model, &layer));
        let axis = layer.slot.in_axis;
        let channels = model.weight(&layer.weight)?.size()[axis];
        let fate = match channels % pattern.m as i64 {
            _ if !config.layers.is_empty() && !named => Fate::NotNamed,
            0 => Fate::Takes(axis),
            _ => Fate::NoMultiple { channels, named },
        };
        Ok((layer, fate))
    };
    model.layers().into_iter().map(fate).collect()
}

/// Layer by layer. In rounds, each run loses its weights one after the other.
pub(crate) fn prune(
    model: &mut Model,
    config: &PruneConfig,
    pattern: NmText,
    round: usize,
    rounds: usize,
    context: &Context,
) -> Result<(), StageError> {
    let n = pattern.m - ((pattern.m - pattern.n) * round).div_ceil(rounds);
    let mut chosen = Vec::new();
    for (layer, fate) in fates(model, config, pattern)? {
        match fate {
            Fate::Takes(axis) => chosen.push((layer, NmPattern { n, m: pattern.m, axis })),
            Fate::NotNamed => {}
            Fate::NoMultiple { channels, named } => {
                let reason = no_multiple(&layer.name, channels, pattern.m);
                if named {
                    return Err(StageError::config("layers", reason));
                }
                context.note(format!("{reason}, left as it is"));
            }
        }
    }
    if chosen.is_empty() {
        return Err(none_takes(pattern));
    }
    let criterion = config.criterion.clone().unwrap_or_default();
    let targets: Vec<_> = chosen.iter().map(|(l, p)| (l.clone(), Target::Pattern(*p))).collect();
    if let Some(done) = criterion.kind().prune(model, &targets, context) {
        return done;
    }
    let layers: Vec<Layer> = chosen.iter().map(|(l, _)| l.clone()).collect();
    let scores = scores(model, &layers, criterion.kind(), None, context)?;
    let masks = chosen.iter().zip(&scores).map(|((layer, p), score)| {
        let at = StageError::weight(&layer.weight);
        let keep = keep_nm(score, *p).map_err(&at)?;
        Ok((layer.weight.clone(), Mask::new(&keep, Some(*p)).map_err(&at)?))
    });
    set_masks(model, masks.collect::<Result<Vec<_>, StageError>>()?)
}

/// Why a layer can't take a pattern.
pub(crate) fn no_multiple(layer: &str, channels: i64, m: usize) -> String {
    format!("{layer}: {channels} input channels are no multiple of {m}")
}

/// No layer takes the pattern.
pub(crate) fn none_takes(pattern: NmText) -> StageError {
    StageError::config("pattern", format!("no layer's input channels are a multiple of {}", pattern.m))
}
