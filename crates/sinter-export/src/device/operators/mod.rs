//! The operators of devices, one file each: how nodes of the model become it, what it is in a TFLite file, what it computes in integers, and
//! its C.
//!
//! To add one: a file with a type that implements [`DeviceOperator`](super::program::DeviceOperator) and a [`Kernel`](super::program::Kernel), a `LOWERS` that says which ONNX operators become it, its
//! C beside it, and its lines in the two lists below.

mod add;
mod average_pool;
mod batch_norm;
mod binary;
mod clip;
mod concat;
mod conv;
mod dense;
mod identity;
mod image;
mod io;
mod max_pool;
mod mean;
mod mul;
mod pad;
mod quantize;
mod reshape;
mod softmax;
mod table;
mod transpose;

use sinter_model::Node;

use super::error::LowerError;
use super::lowering::{Between, Lowering};

/// The operators that stand between two that disagree.
pub(crate) const BETWEEN: Between = Between {
    reshape: reshape::between,
    transpose: transpose::between,
    quantize: quantize::quantize,
    dequantize: quantize::dequantize,
};

/// Which ONNX operators become operators of a device, and how.
pub(crate) struct Lowers {
    /// Their types.
    pub kinds: &'static [&'static str],
    /// How they like what they read to lie.
    pub prefers: Prefers,
    /// Adds the steps of a node.
    pub lower: fn(&mut Lowering, &Node) -> Result<(), LowerError>,
}

/// How an operator likes what it reads to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prefers {
    /// Channels last.
    ChannelsLast,
    /// As its readers like it.
    AsReaders,
    /// As ONNX has it.
    Plain,
}

/// All of them.
pub(crate) const LOWERS: &[&Lowers] = &[
    &add::LOWERS,
    &average_pool::LOWERS,
    &batch_norm::LOWERS,
    &clip::LOWERS,
    &concat::LOWERS,
    &conv::LOWERS,
    &dense::LOWERS,
    &identity::LOWERS,
    &max_pool::LOWERS,
    &mean::LOWERS,
    &mul::LOWERS,
    &pad::LOWERS,
    &reshape::LOWERS,
    &softmax::LOWERS,
    &table::LOWERS,
    &transpose::LOWERS,
];

/// How a node becomes steps; `None` for an operator that devices lack.
pub(crate) fn lowers(kind: &str) -> Option<&'static Lowers> {
    LOWERS.iter().find(|l| l.kinds.contains(&kind)).copied()
}

/// Where an ONNX operator can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Support {
    /// The ONNX operator type.
    pub kind: &'static str,
    /// Whether TFLite files and C sources hold it: in C where it is computed in integers.
    pub devices: bool,
}

/// Where each operator that models may use can go, in alphabetical order.
pub fn support() -> Vec<Support> {
    sinter_model::supported_operators().into_iter().map(|kind| Support { kind, devices: lowers(kind).is_some() }).collect()
}

/// The kernels in C, in one file.
pub(crate) fn c_kernels() -> String {
    [
        include_str!("prelude.c"),
        conv::C,
        dense::C,
        average_pool::C,
        max_pool::C,
        mean::C,
        add::C,
        mul::C,
        concat::C,
        pad::C,
        transpose::C,
        softmax::C,
        table::C,
        reshape::C,
    ]
    .concat()
}

/// An axis that may count from the end.
pub(crate) fn axis_of(axis: i64, rank: usize) -> usize {
    if axis < 0 { (axis + rank as i64).max(0) as usize } else { axis as usize }
}
