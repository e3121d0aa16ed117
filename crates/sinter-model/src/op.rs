//! The operator: one type that answers every question about itself.

use std::fmt::Debug;

use tch::Tensor;

use crate::attributes::Attributes;
use crate::axes::{AxisLinks, IoShapes};
use crate::behaviour::{Boundary, Clamp, IntegerKernel, Matters, OutputScale, Quantization};
use crate::error::{OpResult, invalid};
use crate::tensor::to_i64s;

/// Whether the graph runs to predict or to learn (dropout on, batch statistics in batch normalisation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As inference does.
    Predict,
    /// As training does: dropout drops, batch statistics are used and updated.
    Train,
    /// As training does, but normalisations go by their stored statistics and leave them: for steps of too few samples to tell any.
    Tune,
}

/// One node's input tensors; absent optional inputs are `None`.
#[derive(Debug)]
pub struct Inputs<'a>(pub &'a [Option<Tensor>]);

impl<'a> Inputs<'a> {
    /// A required input.
    pub fn get(&self, i: usize) -> OpResult<&'a Tensor> {
        match self.opt(i) {
            Some(t) => Ok(t),
            None => invalid!("input {i} is missing"),
        }
    }

    /// An optional input.
    pub fn opt(&self, i: usize) -> Option<&'a Tensor> {
        self.0.get(i).and_then(|t| t.as_ref())
    }

    /// An optional input's elements as integers.
    pub fn ints(&self, i: usize) -> OpResult<Option<Vec<i64>>> {
        self.opt(i).map(to_i64s).transpose()
    }

    /// The shape that all inputs broadcast to by NumPy's rules; where they do not, the larger of two lengths stands.
    pub fn broadcast(&self) -> Vec<i64> {
        let rank = self.present().map(Tensor::dim).max().unwrap_or(0);
        let mut shape = vec![1i64; rank];
        for size in self.present().map(Tensor::size) {
            let skip = rank - size.len();
            shape[skip..].iter_mut().zip(size).for_each(|(all, n)| *all = (*all).max(n));
        }
        shape
    }

    /// Every input that is present.
    pub fn present(&self) -> impl Iterator<Item = &'a Tensor> {
        self.0.iter().flatten()
    }
}

/// The arithmetic of one node for the shapes given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and matrix products.
    pub macs: u64,
    /// Other operations: additions, comparisons, activations.
    pub other: u64,
}

/// Where a layer's weight stands among its inputs, and what its axes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightSlot {
    /// Position of the weight among the node's inputs.
    pub input: usize,
    /// Position of the bias, when the operator takes one.
    pub bias: Option<usize>,
    /// The weight's axis of output channels.
    pub out_axis: usize,
    /// The weight's axis of input channels.
    pub in_axis: usize,
}

impl WeightSlot {
    /// The weight (or a tensor of its shape) as a matrix: `[output channels, the rest]`.
    pub fn matrix(&self, weight: &Tensor) -> OpResult<Tensor> {
        let rows = weight.size()[self.out_axis];
        Ok(weight.f_movedim_int(self.out_axis as i64, 0)?.f_contiguous()?.f_view([rows, -1])?)
    }

    /// The tensor of shape `like` that [`WeightSlot::matrix`] shows as `matrix`.
    pub fn from_matrix(&self, matrix: &Tensor, like: &[i64]) -> OpResult<Tensor> {
        let mut moved = like.to_vec();
        let rows = moved.remove(self.out_axis);
        moved.insert(0, rows);
        Ok(matrix.f_reshape(moved)?.f_movedim_int(0, self.out_axis as i64)?.f_contiguous()?)
    }
}

/// What a node changes in itself when the axes of its inputs and outputs shrink.
#[derive(Debug, Clone, Default)]
pub struct Adapted {
    /// New attributes, when they change.
    pub attributes: Option<Attributes>,
    /// Integer inputs (shapes, split sizes) that need new values: position and values.
    pub constants: Vec<(usize, Vec<i64>)>,
}

/// An ONNX operator with its attributes parsed.
///
/// Output shapes have no method of their own: they are those of what [`Operator::forward`] returns, so the two can't disagree.
pub trait Operator: Debug + Send + Sync {
    /// The ONNX operator type.
    fn kind(&self) -> &'static str;

    /// Computes the outputs. Differentiable wherever libtorch is.
    fn forward(&self, inputs: &Inputs, mode: Mode) -> OpResult<Vec<Tensor>>;

    /// The shape of the largest tensor that it makes, where that may be larger than what it reads: it is computed before any memory is taken.
    fn largest(&self, _inputs: &Inputs) -> OpResult<Option<Vec<i64>>> {
        Ok(None)
    }

    /// The arithmetic for one application. By default one operation per element of the first output.
    fn cost(&self, shapes: &IoShapes) -> Cost {
        Cost { macs: 0, other: shapes.output_len(0) }
    }

    /// States how the axes of inputs and outputs correspond. By default nothing may change.
    fn axes(&self, links: &mut AxisLinks) {
        links.fix_all();
    }

    /// Where the layer's weights are, for operators that prune, cluster and quantize as layers. Most have one, a recurrent layer two.
    fn weights(&self, _shapes: &IoShapes) -> Vec<WeightSlot> {
        Vec::new()
    }

    /// The position of the input whose rows it picks by index, where it does no more: a look-up table, as of embeddings.
    fn table(&self) -> Option<usize> {
        None
    }

    /// The rows that the layer's only weight multiplies, `[positions, fan-in]`, in the order of [`WeightSlot::matrix`]'s columns: each sample
    /// of a dense layer, each window of a convolution. `None` where the weight is not one matrix (groups, transposed convolutions).
    fn columns(&self, _inputs: &Inputs) -> OpResult<Option<Tensor>> {
        Ok(None)
    }

    /// What to rewrite when shapes go from `old` to `new` (same ranks, some axes shorter).
    fn adapt(&self, _attributes: &Attributes, _old: &IoShapes, _new: &IoShapes) -> Adapted {
        Adapted::default()
    }

    /// How it takes part in quantization. By default it stays in float.
    fn quantization(&self) -> Quantization {
        Quantization::FLOAT
    }

    /// How integer kernels compute it, where the simulation must round as they do.
    fn integer_kernel(&self) -> Option<IntegerKernel> {
        None
    }

    /// Whether integer kernels compute it as sums of products.
    fn is_product(&self) -> bool {
        matches!(self.integer_kernel(), Some(IntegerKernel::Product { .. }))
    }

    /// Where values become integers or real numbers again: quantization that a model brings along.
    fn boundary(&self) -> Option<Boundary> {
        None
    }

    /// What it lets through, where it only clamps.
    fn clamp(&self) -> Option<Clamp> {
        None
    }

    /// Which values of an input can still change its result by half a step of eight bits.
    fn matters(&self, _input: usize) -> Matters {
        Matters::All
    }

    /// Whether its results are real numbers, and not indices, truths, shapes or integers.
    fn gives_reals(&self) -> bool {
        true
    }

    /// Whether its result has the elements of its first input in the same order, so that both can lie in one place.
    fn is_view(&self) -> bool {
        false
    }

    /// Whether scaling a channel of its input by a positive factor scales that channel of its result alike.
    fn is_homogeneous(&self) -> bool {
        false
    }

    /// Whether its result differs from run to run while a model trains.
    fn is_random(&self) -> bool {
        false
    }

    /// Whether it goes through the steps of a sequence, with a state.
    fn is_recurrent(&self) -> bool {
        false
    }

    /// Whether its result depends on the shape of its input alone.
    fn reads_shape(&self) -> bool {
        false
    }

    /// The input that holds the shape of its result.
    fn target_shape(&self) -> Option<usize> {
        None
    }

    /// The input that holds logits, where it turns them into probabilities or their logarithms.
    fn logits(&self) -> Option<usize> {
        None
    }

    /// The input that it turns into probabilities one by one.
    fn logistic(&self) -> Option<usize> {
        None
    }

    /// Whether its results are averages of elements of its first input.
    fn averages(&self) -> bool {
        false
    }

    /// The epsilon of a batch normalisation by stored statistics; inputs are x, scale, bias, mean and variance.
    fn batch_norm(&self) -> Option<f64> {
        None
    }

    /// Whether a batch normalisation of its result could become part of its weight and bias.
    fn takes_batch_norm(&self) -> bool {
        false
    }

    /// The operator that is this one and the addition of a vector to its result.
    fn with_bias(&self) -> Option<&'static str> {
        None
    }

    /// The axis of channels of what a layer reads, for an input of this rank.
    fn channel_axis(&self, _rank: usize) -> Option<usize> {
        None
    }

    /// The weight's axis along which a layer multiplies the channels that it reads, each by its own slice. `weight` is its shape.
    fn reader_axis(&self, _weight: &[i64]) -> Option<usize> {
        None
    }

    /// The stored inputs that its results scale with, channel by channel.
    fn output_scale(&self) -> Option<OutputScale> {
        None
    }

    /// What a change of its weight adds to the mean of each output channel, float64 `[outputs]`, when `mean` (float64 `[channels]`) is the
    /// mean of what it reads. `None` where the two do not fit.
    fn mean_shift(&self, _change: &Tensor, _mean: &Tensor) -> OpResult<Option<Tensor>> {
        Ok(None)
    }
}
