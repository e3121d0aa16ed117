//! What operators say of themselves to those who quantize models and rewrite graphs, so that nobody else matches their names.

/// How an operator takes part in quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization {
    /// Where kernels compute it in integers.
    pub computes: Computes,
    /// Whose quantization parameters its result has.
    pub params: ParamsOf,
    /// The range of its results, where that is known without looking.
    pub range: Option<OutputRange>,
    /// Runs as one with what is before it: a ReLU or Clip, which only clamps.
    pub fuses: bool,
    /// Its integer kernels may give floats: a product of matrices.
    pub float_result: bool,
}

/// Where kernels compute an operator in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computes {
    /// Nowhere.
    Float,
    /// In every runtime that Sinter exports to.
    Integers,
    /// Where the TensorFlow Lite 8-bit quantization specification holds.
    IntegersUnderTflite,
}

/// Whose quantization parameters a result has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamsOf {
    /// Its own.
    Own,
    /// Those of the first input, whose elements it only moves.
    Input,
    /// Those of the first input where the TensorFlow Lite specification holds, else its own.
    InputUnderTflite,
}

/// A range of results that is known without looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputRange {
    /// 0 to 1: sigmoid, softmax.
    Unit,
    /// -1 to 1: tanh.
    Symmetric,
}

impl OutputRange {
    /// The scale of 8 bits, and the smallest value in steps of it (TensorFlow Lite 8-bit quantization specification).
    pub fn scale(self) -> (f32, i64) {
        match self {
            Self::Unit => (1.0 / 256.0, 0),
            Self::Symmetric => (1.0 / 128.0, -128),
        }
    }
}

impl Quantization {
    /// Stays in float.
    pub const FLOAT: Self =
        Self { computes: Computes::Float, params: ParamsOf::Own, range: None, fuses: false, float_result: false };
    /// Computed in integers everywhere.
    pub const INTEGERS: Self = Self { computes: Computes::Integers, ..Self::FLOAT };
    /// Moves elements, and keeps their parameters.
    pub const MOVES: Self = Self { params: ParamsOf::Input, ..Self::INTEGERS };
    /// Computed in integers by TensorFlow Lite's rules.
    pub const TFLITE: Self = Self { computes: Computes::IntegersUnderTflite, ..Self::FLOAT };

    /// The same with results of a known range.
    pub const fn within(self, range: OutputRange) -> Self {
        Self { range: Some(range), ..self }
    }
}

/// What integer kernels make of an operator's sum before it is scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntegerKernel {
    /// A sum of products with a stored weight, whose scales lie along `out_axis`.
    Product {
        /// The weight's axis of output channels.
        out_axis: usize,
        /// Whether channels are the second axis of the result, and not the last.
        convolution: bool,
    },
    /// A sum of two values.
    Sum,
}

/// The stored inputs that an operator's results scale with, channel by channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputScale {
    /// The input that holds the weight, and its axis of output channels.
    pub weight: (usize, usize),
    /// The input that holds a vector that is added, where there is one.
    pub bias: usize,
    /// Whether the results are normalised before they are scaled.
    pub normalised: bool,
}

/// A node at which values become integers or real numbers again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// By a stored scale.
    Quantize,
    /// By the range of what is there.
    DynamicQuantize,
    /// Back to real numbers.
    Dequantize,
}

/// What an operator that only clamps lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clamp {
    /// Zero and more.
    AtZero,
    /// Between two inputs, each absent for no end.
    Between {
        /// The input that holds the lower end.
        low: usize,
        /// The input that holds the upper end.
        high: usize,
    },
}

/// Which values of an input can still change a result by half a step of eight bits. Ranges leave out the others: saturating them is free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Matters {
    /// All of them.
    All,
    /// Those between two ends: beyond, the result stays what it is at the end.
    Between(End, End),
    /// Those that lie near the largest along an axis: a softmax turns the others into nothing, as masks of attention mean it to.
    NearLargest {
        /// The axis, counted from the end when negative.
        axis: i64,
    },
}

impl Matters {
    /// From this value on.
    pub(crate) fn above(low: f64) -> Self {
        Self::Between(End::At(low), End::Open)
    }

    /// As far from zero as this, either way.
    pub(crate) fn near_zero(most: f64) -> Self {
        Self::Between(End::At(-most), End::At(most))
    }
}

/// Where values cease to matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// Nowhere.
    Open,
    /// At this value.
    At(f64),
    /// At what an input holds; nowhere where that is absent or computed.
    Input(usize),
}
