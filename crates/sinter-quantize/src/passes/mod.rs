//! Quantization as a list of passes, one file each, in the order in which they run.
//!
//! To add one: a file with a documented type that implements [`Pass`], and its place in [`PASSES`].

mod calibrate;
mod choose_bits;
mod compare;
mod correct_biases;
mod decide_rounding;
mod dynamic;
mod equalize;
mod fold;
mod integer_biases;
mod lift;
mod place;
mod round;
mod smooth;
mod tables;
mod time;
mod train;
mod tune_biases;

use std::fmt::Debug;

use sinter_calibrate::Wanted;
use sinter_train::StageError;

use crate::resolved::Resolved;
use crate::state::State;

/// What a pass asks for besides the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Ranges of values, from calibration samples.
    Ranges,
    /// Means of what layers read.
    Means,
    /// Second moments of what weights multiply, their Hessians.
    SecondMoments,
    /// Calibration samples themselves.
    Samples,
    /// Labels of samples.
    Labels,
    /// Gradients.
    Gradients,
}

impl Needs {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ranges => "ranges",
            Self::Means => "means",
            Self::SecondMoments => "second moments",
            Self::Samples => "samples",
            Self::Labels => "labels",
            Self::Gradients => "gradients",
        }
    }
}

/// One pass over a model.
pub(crate) trait Pass: Debug + Sync {
    /// Its name in plans.
    fn name(&self) -> &'static str;

    /// What it asks for under a plan. By default nothing but the model.
    fn needs(&self, _resolved: &Resolved) -> &'static [Needs] {
        &[]
    }

    /// What it does under a plan, in a few words; `None` where it is no part of it.
    fn applies(&self, resolved: &Resolved) -> Option<String>;

    /// Adds to what is gathered of the float model, in the one pass over the samples that serves all.
    fn wants(&self, _state: &State, _wanted: &mut Wanted) {}

    /// Does the work.
    fn run(&self, state: &mut State) -> Result<(), StageError>;
}

/// In the order in which they run.
pub(crate) const PASSES: &[&dyn Pass] = &[
    &fold::Fold,
    &choose_bits::ChooseBits,
    &equalize::Equalize,
    &smooth::Smooth,
    &time::Time,
    &place::Place,
    &calibrate::Calibrate,
    &round::Round,
    &tables::Tables,
    &decide_rounding::DecideRounding,
    &correct_biases::CorrectBiases,
    &tune_biases::TuneBiases,
    &train::Train,
    &dynamic::Dynamic,
    &lift::Lift,
    &integer_biases::IntegerBiases,
    &compare::Compare,
];

/// The passes of a plan, and what each does.
pub(crate) fn of(resolved: &Resolved) -> Vec<(&'static dyn Pass, String)> {
    let each = PASSES.iter().filter_map(|pass| {
        let what = pass.applies(resolved)?;
        let needs: Vec<&str> = pass.needs(resolved).iter().map(|n| n.name()).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(" (needs {})", needs.join(", ")) };
        Some((*pass, format!("{what}{needs}")))
    });
    each.collect()
}
