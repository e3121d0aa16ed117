//! What a layer shall lose.

use sinter_model::NmPattern;

/// What a layer shall lose.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// A share of its weights.
    Sparsity(f64),
    /// All but N of each M along an axis.
    Pattern(NmPattern),
}

impl Target {
    /// Whether anything shall go.
    pub fn is_some(self) -> bool {
        !matches!(self, Self::Sparsity(s) if s <= 0.0)
    }

    /// The pattern, where there is one.
    pub fn pattern(self) -> Option<NmPattern> {
        match self {
            Self::Sparsity(_) => None,
            Self::Pattern(p) => Some(p),
        }
    }
}
