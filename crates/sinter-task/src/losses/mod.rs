//! What training lowers: a loss on the labels, one on a teacher's outputs, or both.

mod binary_cross_entropy;
mod cosine_distance;
mod cross_entropy;
mod ctc;
mod distillation;
mod squared_error;

pub use distillation::SoftTargets;
pub(crate) use squared_error::loss as squared_error;
pub(crate) use {
    binary_cross_entropy::of_labels as binary_cross_entropy, binary_cross_entropy::of_teacher as binary_soft_targets,
};
pub(crate) use {cosine_distance::loss as cosine_distance, cross_entropy::loss as cross_entropy, ctc::loss as ctc};

/// How labels are learned from.
#[derive(Debug, Clone, Copy, Default)]
pub struct HardTargets {
    /// Probability mass spread over all classes.
    pub label_smoothing: f64,
    /// Whether outputs are probabilities already, and no logits.
    pub probabilities: bool,
}
