//! Averages over windows.

use std::sync::Arc;

use sinter_model::{Node, Window};

use super::image::{self, Image, Padding, result};
use super::mean::Mean;
use super::{Lowers, Prefers};
use crate::device::arithmetic::Rounding;
use crate::device::error::LowerError;
use crate::device::flat::{Builder, Table, slot, strides, table};
use crate::device::lowering::{Lowering, Want};
use crate::device::program::{Builtin, DeviceOperator, Io, Kernel};
use crate::device::source::Call;
use crate::device::tensor::TensorInfo;
use crate::device::window::{Geometry, Window2d};

pub(super) const C: &str = include_str!("average_pool.c");

pub(super) const LOWERS: Lowers = Lowers { kinds: &["AveragePool", "GlobalAveragePool"], prefers: Prefers::ChannelsLast, lower };

fn lower(l: &mut Lowering, node: &Node) -> Result<(), LowerError> {
    let (x, output) = (&node.inputs[0], &node.outputs[0]);
    let spatial = l.shape(x)?.get(2..).map(<[i64]>::to_vec).unwrap_or_default();
    let have = l.integers_of(x);
    let image = image::read(l, node, if have.is_some() { Want::Integer } else { Want::Float })?;
    let kernel = Window::parse(&node.attributes)?.kernel;
    let out = l.shape(output)?;
    let bare = match &kernel {
        Some(kernel) => {
            let window = Window::parse(&node.attributes)?.resolve(&spatial, kernel)?;
            window.begin.iter().chain(&window.end).all(|p| *p == 0)
        }
        None => true,
    };
    let whole = bare && kernel.as_ref().is_none_or(|k| *k == spatial) && out[2..].iter().all(|&n| n == 1);
    // Over all positions and to another scale an average is a mean.
    if let Some(wanted) = l.quantizer(output)?.filter(|q| whole && have.is_some() && have.as_ref() != Some(q)) {
        let axes = l.int32s(&[1, 2], &[2]);
        let info = result(vec![1, 1, 1, out[1]], Some(wanted));
        let tensor = l.step(Arc::new(Mean { keep: true }), vec![image.tensor, axes], info, &node.name);
        return image::define(l, output, Image { tensor, ..image }, node);
    }
    let padding = if node.attributes.get_int("count_include_pad", 0)? == 0 { Padding::PassedOver } else { Padding::Divided };
    let (tensor, window) = match &kernel {
        None => (image.tensor, everything(&spatial)),
        Some(kernel) => image::window(l, node, image.tensor, kernel, padding)?,
    };
    pooled(l, node, Image { tensor, ..image }, window, |window| Arc::new(AveragePool { window }))
}

/// A window over all positions.
pub(super) fn everything(spatial: &[i64]) -> Window2d {
    let kernel = if let [length] = *spatial { [1, length] } else { [spatial[0], spatial[1]] };
    Window2d { kernel, stride: kernel, dilation: [1, 1], begin: [0, 0], same: false }
}

/// Adds the step of a pool over an image.
pub(super) fn pooled(
    l: &mut Lowering,
    node: &Node,
    image: Image,
    window: Window2d,
    op: impl FnOnce(Window2d) -> Arc<dyn DeviceOperator>,
) -> Result<(), LowerError> {
    if window.dilation != [1, 1] {
        return Lowering::refuse(node, "TensorFlow Lite pools without dilation");
    }
    let out = l.shape(&node.outputs[0])?;
    let shape = if image.flat { vec![1, 1, out[2], out[1]] } else { vec![1, out[2], out[3], out[1]] };
    let info = TensorInfo { shape, ..l.like(image.tensor) };
    let tensor = l.step(op(window), vec![image.tensor], info, &node.name);
    image::define(l, &node.outputs[0], Image { tensor, ..image }, node)
}

/// The options of a pool.
pub(super) fn pool_options(window: &Window2d, b: &mut Builder) -> (u8, Table) {
    let options = table(b, |b| {
        strides(b, window);
        b.push_slot::<i32>(slot(3), window.kernel[1] as i32, 0);
        b.push_slot::<i32>(slot(4), window.kernel[0] as i32, 0);
    });
    (5, options)
}

#[derive(Debug)]
struct AveragePool {
    window: Window2d,
}

impl DeviceOperator for AveragePool {
    fn builtin(&self, io: &Io) -> Builtin {
        Builtin { code: 1, version: io.version(), name: "AVERAGE_POOL_2D", method: "AddAveragePool2D" }
    }

    fn options(&self, _io: &Io, b: &mut Builder) -> (u8, Table) {
        pool_options(&self.window, b)
    }

    fn kernel(&self, io: &Io) -> Result<Box<dyn Kernel>, LowerError> {
        io.params(0)?;
        io.result()?;
        Ok(Box::new(AverageKernel { geometry: io.geometry(self.window) }))
    }
}

/// Windows lie on the input alone: padding does not count.
#[derive(Debug)]
struct AverageKernel {
    geometry: Geometry,
}

impl Kernel for AverageKernel {
    fn run(&self, inputs: &[&[i8]], out: &mut [i8], _rounding: Rounding) {
        let (g, x) = (&self.geometry, inputs[0]);
        g.positions(|position, taps| {
            for c in 0..g.out_channels {
                let sum: i32 = taps.iter().map(|&(place, _)| x[(place * g.in_channels + c) as usize] as i32).sum();
                let half = taps.len() as i32 / 2;
                let nudged = if sum > 0 { sum + half } else { sum - half };
                out[(position * g.out_channels + c) as usize] = (nudged / taps.len().max(1) as i32) as i8;
            }
        });
    }

    fn call(&self, call: &mut Call) -> String {
        let (x, y, window) = (call.input(0), call.result(), call.window(&self.geometry));
        format!("sinter_average_pool(&{window}, {x}, {y});")
    }
}
