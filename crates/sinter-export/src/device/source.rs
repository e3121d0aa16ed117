//! C source under construction: constants, numbers of kernels, and the calls that use them.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use sinter_model::Multiplier;

use super::arithmetic::{Broadcast, Product};
use super::tensor::{Element, TensorInfo};
use super::window::Geometry;

/// Writes numbers as a C array's content.
pub(crate) fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    let mut width = 0;
    for value in values {
        let item = format!("{value},");
        if width + item.len() > 118 {
            text.push('\n');
            width = 0;
        }
        width += item.len();
        text.push_str(&item);
    }
    text
}

/// The parts of `model.c` that kernels add to.
pub(crate) struct CSource<'a> {
    tensors: &'a [TensorInfo],
    /// Where each computed tensor lies in memory.
    offsets: &'a [Option<usize>],
    /// Constants that are declared already.
    known: BTreeSet<usize>,
    /// Declarations of constants.
    pub constants: String,
    /// Declarations of what kernels need to know.
    pub numbers: String,
}

impl<'a> CSource<'a> {
    /// Nothing yet.
    pub fn new(tensors: &'a [TensorInfo], offsets: &'a [Option<usize>]) -> Self {
        Self { tensors, offsets, known: BTreeSet::new(), constants: String::new(), numbers: String::new() }
    }

    /// Where a tensor lies, as an expression; a constant is declared at its first use.
    pub fn place(&mut self, tensor: usize) -> String {
        if let Some(at) = self.offsets[tensor] {
            return format!("memory + {at}");
        }
        let info = &self.tensors[tensor];
        let data = info.data.as_deref().unwrap_or_default();
        if self.known.insert(tensor) {
            let (kind, values) = match info.element {
                Element::Int32 => {
                    let integers = data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                    ("int32_t", list(integers))
                }
                _ => ("int8_t", list(data.iter().map(|&b| b as i8))),
            };
            let _ = writeln!(self.constants, "static const {kind} constant_{tensor}[] = {{\n{values}}};");
        }
        format!("constant_{tensor}")
    }
}

/// One call under construction.
pub(crate) struct Call<'a, 'b> {
    /// The file that it goes into.
    pub source: &'a mut CSource<'b>,
    /// Which step it is: the end of the names of its numbers.
    pub index: usize,
    /// The tensors that the step reads.
    pub inputs: &'a [usize],
    /// The tensor that it gives.
    pub output: usize,
}

impl Call<'_, '_> {
    /// The place of an input.
    pub fn input(&mut self, i: usize) -> String {
        self.source.place(self.inputs[i])
    }

    /// The place of the result.
    pub fn result(&mut self) -> String {
        self.source.place(self.output)
    }

    /// The number of elements of the result.
    pub fn result_len(&self) -> usize {
        self.source.tensors[self.output].len()
    }

    /// Declares `NAME_INDEX` of a type (with `[n]` after the name for arrays); returns its name.
    pub fn number(&mut self, kind: &str, name: &str, dims: &str, value: &str) -> String {
        let name = format!("{name}_{}", self.index);
        let _ = writeln!(self.source.numbers, "static const {kind} {name}{dims} = {value};");
        name
    }

    /// Declares a window; returns its name.
    pub fn window(&mut self, g: &Geometry) -> String {
        let w = &g.window;
        let numbers = [
            g.input[0],
            g.input[1],
            g.in_channels,
            g.output[0],
            g.output[1],
            g.out_channels,
            w.kernel[0],
            w.kernel[1],
            w.stride[0],
            w.stride[1],
            w.dilation[0],
            w.dilation[1],
            w.begin[0],
            w.begin[1],
        ];
        self.number("sinter_window", "window", "", &format!("{{{}}}", list(numbers)))
    }

    /// Declares a sum of products and how it is rescaled; returns its name.
    pub fn product(&mut self, p: &Product) -> String {
        let (weight, bias) = (self.source.place(p.weight), self.source.place(p.bias));
        let factors = format!("{{\n{}}}", list(p.multipliers.iter().map(rescale)));
        let rescales = self.number("sinter_rescale", "rescales", "[]", &factors);
        let step = i32::from(p.multipliers.len() > 1);
        let fields = format!("{{{weight}, {bias}, {rescales}, {step}, {}, {}, {}, {}}}", p.in_zero, p.out_zero, p.low, p.high);
        self.number("sinter_product", "product", "", &fields)
    }
}

/// A factor as an initializer.
pub(crate) fn rescale(by: &Multiplier) -> String {
    format!("{{{}, {}}}", by.multiplier, by.shift)
}

/// How two inputs meet, as an initializer.
pub(crate) fn meeting(b: &Broadcast) -> String {
    format!("{{{{{}}}, {{{{{}}}, {{{}}}}}}}", list(b.shape), list(b.steps[0]), list(b.steps[1]))
}
