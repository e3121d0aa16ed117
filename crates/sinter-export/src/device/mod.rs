//! The model as microcontrollers and phones run it: channels last, activations fused, integers from input to output where the model is
//! quantized so. TFLite files and C sources are two ways to write the same [`Program`].

mod kernel;
mod layout;
mod lower;
mod memory;
mod operators;
mod reference;

pub use kernel::{Broadcast, Geometry, Kernel, Product, Rescale, kernels};
pub use lower::{LowerError, lower};
pub use memory::{Memory, plan};
pub use reference::{Rounding, integers, run};

/// Steps over tensors, in the order in which they run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Program {
    pub name: String,
    pub tensors: Vec<TensorInfo>,
    pub steps: Vec<Step>,
    pub inputs: Vec<usize>,
    /// For each input, which of the model's axes each of its tensor's axes is.
    pub input_orders: Vec<Vec<usize>>,
    pub outputs: Vec<usize>,
}

/// What a tensor's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Float32,
    Float16,
    Int8,
    Int32,
}

impl Element {
    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Float32 | Self::Int32 => 4,
            Self::Float16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// `value = (integer - zero point) * scale`: one of each, or one for each index along an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantization {
    pub scales: Vec<f32>,
    pub zero_points: Vec<i32>,
    pub axis: usize,
}

impl Quantization {
    /// One scale for the whole tensor.
    pub fn tensor(scale: f32, zero_point: i32) -> Self {
        Self { scales: vec![scale], zero_points: vec![zero_point], axis: 0 }
    }

    /// The scale of index `i` along the axis.
    pub fn scale(&self, i: usize) -> f32 {
        self.scales[i % self.scales.len()]
    }

    /// The zero point, where there is one for all.
    pub fn zero_point(&self) -> i32 {
        self.zero_points[0]
    }
}

/// A tensor of a program, for a batch of one.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<i64>,
    pub element: Element,
    pub quantization: Option<Quantization>,
    /// Little-endian elements of a constant.
    pub data: Option<Vec<u8>>,
}

impl TensorInfo {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product::<i64>().max(0) as usize
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.element.bytes()
    }
}

/// What ends an operator's work on each of its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    #[default]
    None,
    Relu,
    /// Between -1 and 1.
    ReluN1To1,
    Relu6,
}

impl Activation {
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

/// A window that slides over height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slide {
    /// Height and width of the window.
    pub kernel: [i64; 2],
    pub stride: [i64; 2],
    pub dilation: [i64; 2],
    /// Rows above and columns to the left of the input that the window sees.
    pub begin: [i64; 2],
    /// Whether the output has one position for each stride; else the window keeps inside the input.
    pub same: bool,
}

/// An operator with its numbers. Pictures are `[batch, height, width, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Inputs x, weight `[out, height, width, in]` and bias.
    Conv {
        slide: Slide,
        activation: Activation,
    },
    /// Inputs x, weight `[1, height, width, out]` and bias; each input channel makes `multiplier` output channels.
    DepthwiseConv {
        slide: Slide,
        multiplier: i64,
        activation: Activation,
    },
    /// Inputs x `[..., in]`, weight `[out, in]` and bias.
    FullyConnected {
        activation: Activation,
    },
    AveragePool {
        slide: Slide,
    },
    MaxPool {
        slide: Slide,
    },
    /// Over the axes in the constant second input.
    Mean {
        keep: bool,
    },
    Add {
        activation: Activation,
    },
    Sub {
        activation: Activation,
    },
    Mul {
        activation: Activation,
    },
    Concat {
        axis: usize,
    },
    /// By the constant second input, `[rank, 2]`; filled with zero, or with the constant third input.
    Pad,
    /// To the shape in the constant second input.
    Reshape {
        shape: Vec<i64>,
    },
    /// By the permutation in the constant second input.
    Transpose {
        order: Vec<usize>,
    },
    Softmax,
    Sigmoid,
    Tanh,
    Relu(Activation),
    LeakyRelu {
        slope: f32,
    },
    HardSwish,
    Quantize,
    Dequantize,
}

/// One operator at work.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub op: Op,
    pub inputs: Vec<usize>,
    pub output: usize,
    /// The node of the model that it stands for.
    pub node: String,
}
