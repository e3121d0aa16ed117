//! Maxima over windows.

use std::sync::Arc;

use sinter_model::{Node, Window};

use super::average_pool::{everything, pool_options, pooled};
use super::image::{self, Image, Padding};
use super::{Lowers, Prefers};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table};
use crate::device::lowering::{Lowering, Want};
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::Call;
use crate::device::window::{Geometry, Window2d};

pub(super) const C: &str = include_str!("max_pool.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["GlobalMaxPool", "MaxPool"], prefers: Prefers::ChannelsLast, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    if node.outputs.len() > 1 && !node.outputs[1].is_empty() {
        return Lowering::refuse(node, "TensorFlow Lite gives no indices of maxima");
    }
    let x = &node.inputs[0];
    let spatial = l.shape(x)?.get(2..).map(<[i64]>::to_vec).unwrap_or_default();
    let integers = l.integers_of(x).is_some();
    let image = image::read(l, node, if integers { Want::Integer } else { Want::Float })?;
    let (tensor, window) = match Window::parse(&node.attributes)?.kernel {
        None => (image.tensor, everything(&spatial)),
        Some(kernel) => {
            let lowest = if integers { -1e30 } else { f32::MIN as f64 };
            image::window(l, node, image.tensor, &kernel, Padding::Filled(Some(lowest)))?
        }
    };
    pooled(l, node, Image { tensor, ..image }, window, |window| Arc::new(MaxPool { window }))
}

#[derive(Debug)]
struct MaxPool {
    window: Window2d,
}

impl DeviceOperator for MaxPool {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 17, version: io.version(), name: "MAX_POOL_2D", method: "AddMaxPool2D" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        pool_options(&self.window, b)
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        io.params(0)?;
        io.result()?;
        Ok(Box::new(MaxKernel { geometry: io.geometry(self.window) }))
    }
}

#[derive(Debug)]
struct MaxKernel {
    geometry: Geometry,
}

impl Kernel for MaxKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        let (g, x) = (&self.geometry, inputs[0]);
        g.positions(|position, taps| {
            for c in 0..g.out_channels {
                let most = taps.iter().map(|&(place, _)| x[(place * g.in_channels + c) as usize]).max();
                out[(position * g.out_channels + c) as usize] = most.unwrap_or(i8::MIN);
            }
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y, window) = (call.input(0), call.result(), call.window(&self.geometry));
        format!("sinter_max_pool(&{window}, {x}, {y});")
    }
}
