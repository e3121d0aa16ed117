//! What ends an operator's work on each of its results.

/// What ends an operator's work on each of its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// Zero and more.
    Relu,
    /// Between -1 and 1.
    ReluN1To1,
    /// Between 0 and 6.
    Relu6,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Relu, Self::Relu6, Self::ReluN1To1];

    /// The smallest and the largest value that pass.
    pub fn range(self) -> (f32, f32) {
        match self {
            Self::None => (f32::NEG_INFINITY, f32::INFINITY),
            Self::Relu => (0.0, f32::INFINITY),
            Self::ReluN1To1 => (-1.0, 1.0),
            Self::Relu6 => (0.0, 6.0),
        }
    }
}
