//! What a model is asked to do, and which labels that takes. How well it does it is told in `sinter-task`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The label of what counts for nothing.
pub const NO_LABEL: i64 = -100;

/// What stands beside a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// One number, that of a class (or a mark).
    Class,
    /// Whole numbers of any shape.
    Whole,
    /// Numbers from 0 to 1 of any shape: whether something holds, or how surely.
    Marks,
    /// Numbers of any shape.
    Real,
}

/// What a task says of its labels.
pub trait Asks: std::fmt::Debug {
    /// What stands beside a sample.
    fn labels(&self) -> Labels;

    /// The label that means none.
    fn ignore(&self) -> Option<i64> {
        None
    }
}

macro_rules! plain {
    ($($(#[doc = $doc:literal])+ $Name:ident: $labels:ident;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $Name {}

        impl Asks for $Name {
            fn labels(&self) -> Labels {
                Labels::$labels
            }
        }
    )+};
}

plain! {
    /// The label is a class; the output has a score for each class.
    Classify: Class;
    /// Labels are 0 or 1, one for each output: several may hold at once, or none (tags of a text, voice in each frame, a click).
    MultiLabel: Marks;
    /// Labels are numbers, as many as outputs.
    Regress: Real;
    /// The output should be the input; a label of 1 marks an anomaly (an autoencoder).
    Reconstruct: Class;
    /// The output is a vector that lies near those of samples with the same label (faces, sentences, products).
    Embed: Class;
}

/// Every position of a sample has a class: pixels of an image, tokens of a text, frames of a recording. Labels are those of the positions,
/// `[height, width]` or `[steps]`; the output has the classes on one axis more, behind the samples or at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The label of positions that count for nothing, such as 255 or that of padding. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<i64>,
}

impl Asks for Segment {
    fn labels(&self) -> Labels {
        Labels::Whole
    }

    fn ignore(&self) -> Option<i64> {
        self.ignore
    }
}

/// Labels are the numbers of characters or words in their order, padded with -1; the output has a score for each of them and for none, at every step,
/// `[steps, classes]` (CTC: Graves et al., 2006).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transcribe {
    /// The class that means none. Default: 0.
    #[serde(default)]
    pub blank: i64,
}

impl Asks for Transcribe {
    fn labels(&self) -> Labels {
        Labels::Whole
    }

    fn ignore(&self) -> Option<i64> {
        Some(-1)
    }
}

/// Every token of a text is predicted from those before it; the output has a score for each token of the vocabulary, `[tokens, vocabulary]`. Labels are the
/// tokens that follow, which the text itself gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Language {}

impl Asks for Language {
    fn labels(&self) -> Labels {
        Labels::Whole
    }

    fn ignore(&self) -> Option<i64> {
        Some(NO_LABEL)
    }
}

sinter_model::choices! {
    /// What the model is asked to do.
    pub enum Task: dyn Asks {
        "classify" => Classify(Classify),
        "multi-label" => MultiLabel(MultiLabel),
        "segment" => Segment(Segment),
        "transcribe" => Transcribe(Transcribe),
        "language" => Language(Language),
        "regress" => Regress(Regress),
        "reconstruct" => Reconstruct(Reconstruct),
        "embed" => Embed(Embed),
    }
    default Classify
}

impl Copy for Task {}
