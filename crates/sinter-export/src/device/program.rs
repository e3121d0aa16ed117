//! A program for devices: steps over tensors, in the order in which they run, and what their operators answer.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::arithmetic::Rounding;
use super::error::LowerError;
use super::flat::{Builder, Table, table};
use super::source::Call;
use super::tensor::TensorInfo;

/// Steps over tensors, in the order in which they run.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// The model's name.
    pub name: String,
    /// All tensors; steps name them by their index.
    pub tensors: Vec<TensorInfo>,
    /// What is done.
    pub steps: Vec<Step>,
    /// Tensors that the caller fills.
    pub inputs: Vec<usize>,
    /// For each input, which of the model's axes each of its tensor's axes is.
    pub input_orders: Vec<Vec<usize>>,
    /// Tensors that the caller reads.
    pub outputs: Vec<usize>,
    /// What the model's file says beside the graph.
    pub metadata: BTreeMap<String, String>,
}

/// One operator at work.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it does.
    pub(crate) op: Arc<dyn DeviceOperator>,
    /// What it reads.
    pub inputs: Vec<usize>,
    /// What it gives.
    pub output: usize,
    /// The node of the model that it stands for.
    pub node: String,
}

/// An operator of a device with its numbers. Images are `[batch, height, width, channels]`.
pub(crate) trait DeviceOperator: Debug + Send + Sync {
    /// What TensorFlow Lite calls it.
    fn builtin(&self, io: &Io) -> Builtin;

    /// Its options in a TFLite file: the member of the union, and the table. By default none.
    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        (0, table(b, |_| {}))
    }

    /// Its numbers on eight-bit tensors, worked out once. Errors where it is not computed in integers.
    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError>;

    /// Whether its result has the elements of its first input in the same order.
    fn is_view(&self) -> bool {
        false
    }
}

/// A builtin operator of TensorFlow Lite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// `BuiltinOperator` of the schema.
    pub code: i32,
    /// The version of the operator that first took its types.
    pub version: i32,
    /// Its name: `CONV_2D`.
    pub name: &'static str,
    /// The method that adds it to a resolver of TensorFlow Lite Micro.
    pub method: &'static str,
}

/// One step on eight-bit tensors.
pub(crate) trait Kernel: Debug {
    /// Computes the result; every input and the result are flat.
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], rounding: Rounding);

    /// The call in C.
    fn call(&self, call: &mut Call) -> String;
}

/// A step among its tensors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Io<'a> {
    /// All of it.
    pub program: &'a Program,
    /// The step.
    pub step: &'a Step,
}

impl Program {
    /// What TensorFlow Lite calls each step.
    pub fn builtins(&self) -> Vec<Builtin> {
        self.steps.iter().map(|step| step.op.builtin(&Io { program: self, step })).collect()
    }

    /// The kernels of all steps. Errors on one that is not in integers, with its node.
    pub(crate) fn kernels(&self) -> Result<Vec<Box<dyn Kernel>>, LowerError> {
        self.steps.iter().map(|step| step.op.kernel(&Io { program: self, step })).collect()
    }

    /// Whether all of it is computed in integers, as C sources are; errors with the node that is not.
    pub fn check_integers(&self) -> Result<(), LowerError> {
        self.kernels().map(drop)
    }
}
