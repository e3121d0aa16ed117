//! The model in flight: a graph of typed operators, and weights that carry their encodings.
//!
//! Everything else in Sinter is a function of a [`Model`]. The graph speaks ONNX (opset 21 semantics), values have names,
//! and an operator is one type that answers every question about itself (see [`Operator`]). A weight is a dense latent
//! tensor seen through a chain of encodings (see [`Weight`]).

mod attributes;
mod axes;
mod batch_norm;
mod behaviour;
pub mod choices;
mod encoding;
mod error;
mod files;
mod graph;
mod guard;
mod memory;
mod model;
mod names;
mod op;
mod ops;
mod random;
mod tensor;
mod units;
mod weight;
pub mod zoo;

pub use attributes::{Attribute, Attributes, ElementType, tensor_of};
pub use axes::{Axis, AxisLinks, IoShapes, Relation, Slot};
pub use batch_norm::{fold_batch_norm, insert_batch_norm, takes_batch_norm};
pub use behaviour::{Boundary, Clamp, Computes, End, IntegerKernel, Matters, OutputRange, OutputScale, ParamsOf, Quantization};
pub use encoding::{
    Assignment, Codebook, Granularity, Half, Levels, Mask, Multiplier, NmPattern, QuantParams, Quantizer, integer_bias,
};
pub use error::{DoesNotFit, OpError, OpResult};
pub use files::{WriteError, is_gone, machine, sweep, write_whole, write_whole_with, writer, writer_of};
pub use graph::{Dim, Graph, Node, ValueInfo};
pub use guard::{guarded, panics_caught};
pub use memory::{TooLarge, elements, memory_limit, set_memory_limit};
pub use model::{Layer, Model, ModelError};
pub use names::identifier;
pub use op::{Adapted, Cost, Inputs, Mode, Operator, WeightSlot};
pub use ops::{ResolvedWindow, Window, parse as parse_operator, supported as supported_operators};
pub use random::{Random, seeded, start_from};
pub use tensor::{ints_of, kind_name, round_half, to_bytes, to_f32s, to_i64s, with_f32s, with_f32s_as_they_lie, with_u8s};
pub use units::{Bytes, Joules, Macs, Ratio, Seconds, UnitError, from_text};
pub use weight::{BrokenLink, Chain, Role, Weight};

/// The ONNX operator set whose semantics the graph follows and that exports declare.
pub const OPSET: i64 = 21;
