//! Where a float model leaves the numbers.

/// Where a value is not finite though the sample is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFinite {
    /// The value.
    pub value: String,
    /// What computes it: `Exp /attention/exp`.
    pub node: String,
    /// The first sample that shows it, counted from 0 among those looked at.
    pub sample: usize,
}

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "value `{}`, computed by {}, at sample {} of those looked at", self.value, self.node, self.sample)
    }
}
