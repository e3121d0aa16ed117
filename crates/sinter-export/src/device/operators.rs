//! Each ONNX operator as the steps that stand for it.

use sinter_model::{Node, Window};
use tch::Tensor;

use super::layout::Layout;
use super::lower::{LowerError, Lowering, Want};
use super::{Activation, Element, Op, Quantization, Slide, TensorInfo};

/// What [`Lowering::node`] knows.
const KNOWN: &str = "Add, AveragePool, BatchNormalization, Clip, Concat, Conv, Dropout, Flatten, Gemm, GlobalAveragePool, GlobalMaxPool, \
     HardSwish, Identity, LeakyRelu, MatMul by a stored matrix, MaxPool, Mul, Pad, ReduceMean, Relu, Reshape, Sigmoid, Softmax, Squeeze, \
     Sub, Tanh, Transpose, Unsqueeze";

/// A convolution or pool over one axis has height 1.
struct Picture {
    /// `[1, height, width, channels]`.
    tensor: usize,
    flat: bool,
}

impl Lowering<'_> {
    /// Adds the steps of one node.
    pub(super) fn node(&mut self, node: &Node) -> Result<(), LowerError> {
        match node.kind() {
            "Conv" => self.conv(node),
            "Gemm" | "MatMul" => self.dense(node),
            "Add" | "Sub" | "Mul" => self.binary(node),
            "Relu" | "Clip" => self.clip(node),
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => self.pool(node),
            "ReduceMean" => self.mean(node),
            "Softmax" | "Sigmoid" | "Tanh" | "LeakyRelu" | "HardSwish" => self.unary(node),
            "Concat" => self.concat(node),
            "Pad" => self.pad(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => self.regroup(node),
            "Transpose" => self.turn(node),
            "BatchNormalization" => self.batch_norm(node),
            "Dropout" | "Identity" => self.alias(&node.outputs[0], &node.inputs[0], self.layout(&node.inputs[0]), &node.name),
            _ => Self::refuse(node, format!("TensorFlow Lite has no operator for it that Sinter writes; it writes {KNOWN}")),
        }
    }

    /// The quantization of `output` if all of `inputs` are there in integers.
    fn integers(&self, inputs: &[&str], output: &str) -> Result<Option<Quantization>, LowerError> {
        let all = inputs.iter().all(|name| self.is_integer(name));
        if all { self.grid(output) } else { Ok(None) }
    }

    /// The type of a result of this shape.
    fn result(&self, shape: Vec<i64>, quantization: Option<Quantization>) -> TensorInfo {
        let element = if quantization.is_some() { Element::Int8 } else { Element::Float32 };
        TensorInfo { name: String::new(), shape, element, quantization, data: None }
    }

    /// Reads a value channels last, over two axes.
    fn picture(&mut self, node: &Node, want: Want) -> Result<Picture, LowerError> {
        let name = &node.inputs[0];
        let rank = self.shape(name)?.len();
        if !(3..=4).contains(&rank) {
            return Self::refuse(node, format!("its input has {rank} axes; TensorFlow Lite slides over one or two, of 3 or 4"));
        }
        let tensor = self.read(name, want, &Layout::channels_last(rank), &node.name)?;
        let flat = rank == 3;
        let tensor = match self.program.tensors[tensor].shape[..] {
            [n, length, channels] => self.reshape(tensor, vec![n, 1, length, channels], &node.name),
            _ => tensor,
        };
        Ok(Picture { tensor, flat })
    }

    /// Registers a picture as the value that it is.
    fn define_picture(&mut self, name: &str, picture: Picture, node: &Node) -> Result<(), LowerError> {
        let Picture { tensor, flat } = picture;
        let tensor = match self.program.tensors[tensor].shape[..] {
            [n, _, width, channels] if flat => self.reshape(tensor, vec![n, width, channels], &node.name),
            _ => tensor,
        };
        self.define(name, tensor, Layout::channels_last(if flat { 3 } else { 4 }), &node.name)
    }

    /// The window of a node over a picture, and the picture with the padding that the window can't say. `filler`: what padding holds, when
    /// that is not zero.
    fn slide(&mut self, node: &Node, picture: usize, kernel: &[i64], filler: Option<f64>) -> Result<(usize, Slide), LowerError> {
        let shape = self.program.tensors[picture].shape.clone();
        let spatial = if kernel.len() == 1 { &shape[2..3] } else { &shape[1..3] };
        let window = Window::parse(&node.attributes)?.resolve(spatial, kernel)?;
        let two = |values: &[i64], one: i64| if let [only] = *values { [one, only] } else { [values[0], values[1]] };
        let (kernel, stride, dilation) = (two(kernel, 1), two(&window.strides, 1), two(&window.dilations, 1));
        let (begin, out) = (two(&window.begin, 0), two(&window.out, 1));
        let end = two(&window.end, 0);
        let input = [shape[1], shape[2]];
        let reach = [0, 1].map(|a| (kernel[a] - 1) * dilation[a] + 1);
        let inside = [0, 1].map(|a| (input[a] - reach[a]).div_euclid(stride[a]) + 1);
        let total = [0, 1].map(|a| ((out[a] - 1) * stride[a] + reach[a] - input[a]).max(0));
        let slide = |begin, same| Slide { kernel, stride, dilation, begin, same };
        if begin == [0, 0] && out == inside && (end == [0, 0] || filler.is_none()) {
            return Ok((picture, slide([0, 0], false)));
        }
        if (0..2).all(|a| out[a] == (input[a] + stride[a] - 1) / stride[a] && begin[a] == total[a] / 2) {
            return Ok((picture, slide(begin, true)));
        }
        if node.kind() == "AveragePool" && node.attributes.get_int("count_include_pad", 0)? == 0 {
            return Self::refuse(node, format!("averages without padding {begin:?} to {end:?} that is neither `SAME` nor none"));
        }
        let pads = [0, 1].map(|a| (total[a] - begin[a]).max(0));
        let pads = [0, 0, begin[0], pads[0], begin[1], pads[1], 0, 0];
        let padded = self.padded(picture, &pads, filler, &node.name)?;
        Ok((padded, slide([0, 0], false)))
    }

    /// Adds a Pad: `pads` before and after each axis.
    fn padded(&mut self, tensor: usize, pads: &[i64], filler: Option<f64>, node: &str) -> Result<usize, LowerError> {
        let shape: Vec<i64> =
            self.program.tensors[tensor].shape.iter().zip(pads.chunks(2)).map(|(n, p)| n + p[0] + p[1]).collect();
        let values: Vec<i32> = pads.iter().map(|&p| p as i32).collect();
        let mut inputs = vec![tensor, self.int32s(&values, &[shape.len() as i64, 2])];
        let like = self.like(tensor);
        if let Some(filler) = filler {
            let (data, shape) = match &like.quantization {
                Some(q) => {
                    let integer = (filler / q.scale(0) as f64).round() + q.zero_point() as f64;
                    (vec![integer.clamp(-128.0, 127.0) as i8 as u8], vec![1])
                }
                None => ((filler as f32).to_le_bytes().to_vec(), vec![1]),
            };
            inputs.push(self.tensor(TensorInfo { shape, data: Some(data), ..like.clone() }));
        }
        Ok(self.step(Op::Pad, inputs, TensorInfo { shape, ..like }, node))
    }

    fn conv(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, weight) = (&node.inputs[0], &node.inputs[1]);
        let bias = node.inputs.get(2).filter(|b| !b.is_empty()).map(String::as_str);
        if !self.model.weights.contains_key(weight) || bias.is_some_and(|b| !self.model.weights.contains_key(b)) {
            return Self::refuse(node, "its weight and bias must be stored, not computed");
        }
        let (activation, output) = self.fused(node)?;
        let size = self.shape(weight)?;
        let channels = self.shape(x)?[1];
        let (groups, outputs) = (node.attributes.get_int("group", 1)?, size[0]);
        let depthwise = groups > 1 && groups == channels;
        let grid = self.kernel_grid(weight, 0)?.map(|g| g.copy());
        let quantization = self.integers(&[x], &output)?.filter(|_| grid.is_some());
        let want = if quantization.is_some() { Want::Integer } else { Want::Float };
        let Picture { tensor, flat } = self.picture(node, want)?;
        let (tensor, slide) = self.slide(node, tensor, &size[2..], None)?;
        // [out, in, height, width] to [out, height, width, in]; depthwise to [1, height, width, out].
        let order: Vec<i64> = match (depthwise, flat) {
            (false, false) => vec![0, 2, 3, 1],
            (false, true) => vec![0, 2, 1],
            (true, false) => vec![1, 2, 3, 0],
            (true, true) => vec![1, 2, 0],
        };
        let (kernel, bias) = match (&quantization, &grid) {
            (Some(_), Some(grid)) => {
                let (kernel, scales) = self.integer_weight(weight, grid, &order, None)?;
                let input = self.integers_of(x).map_or(1.0, |q| q.scale(0));
                (kernel, self.integer_bias(bias, outputs as usize, input, &scales)?)
            }
            _ => (self.float_weight(weight, &order, None)?, self.float_bias(bias, outputs as usize)?),
        };
        if flat {
            // Stored with a height of 1, and what made it float gives the same.
            let lift = |t: &mut TensorInfo| {
                t.shape.insert(1, 1);
                if let Some(q) = &mut t.quantization {
                    q.axis += usize::from(q.axis > 0);
                }
            };
            let made = self.program.steps.last().filter(|s| s.output == kernel).map(|s| s.inputs[0]);
            made.into_iter().chain([kernel]).for_each(|t| lift(&mut self.program.tensors[t]));
        }
        let mut shape = Layout::channels_last(4).shape(&[1, outputs, 0, 0]);
        let out = self.shape(&node.outputs[0])?;
        (shape[1], shape[2]) = if flat { (1, out[2]) } else { (out[2], out[3]) };
        let op = match depthwise {
            true => Op::DepthwiseConv { slide, multiplier: outputs / channels, activation },
            false => Op::Conv { slide, activation },
        };
        let info = self.result(shape, quantization);
        let tensor = self.step(op, vec![tensor, kernel, bias], info, &node.name);
        self.define_picture(&output, Picture { tensor, flat }, node)
    }

    fn dense(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, weight) = (&node.inputs[0], &node.inputs[1]);
        let Some(stored) = self.model.weights.get(weight).filter(|w| w.size().len() == 2) else {
            return Self::refuse(node, "TensorFlow Lite's fully connected operator wants a stored matrix as second input");
        };
        let size = stored.size();
        let flag = |name: &str| node.attributes.get_int(name, 0);
        let gemm = node.kind() == "Gemm";
        let transposed = gemm && flag("transB")? != 0;
        if gemm && (flag("transA")? != 0 || node.attributes.get_float("alpha", 1.0)? != 1.0) {
            return Self::refuse(node, "transA and alpha have no counterpart in TensorFlow Lite");
        }
        let bias = node.inputs.get(2).filter(|b| !b.is_empty()).map(String::as_str);
        if bias.is_some() && node.attributes.get_float("beta", 1.0)? != 1.0 {
            return Self::refuse(node, "beta has no counterpart in TensorFlow Lite");
        }
        let (out_axis, outputs) = if transposed { (0, size[0]) } else { (1, size[1]) };
        if bias
            .is_some_and(|b| self.model.weights.get(b).is_none_or(|w| !matches!(w.numel(), n if n == 1 || n == outputs as usize)))
        {
            return Self::refuse(node, "its third input must be a stored vector");
        }
        let (activation, output) = self.fused(node)?;
        let value = self.shape(x)?;
        // A flattened picture keeps its order: the weight's columns follow it.
        let layout = match self.layout(x) {
            flat @ Layout::Flat { .. } => flat,
            Layout::Order(_) => Layout::plain(value.len()),
        };
        let columns = match layout {
            Layout::Flat { channels, positions } => {
                let order = Tensor::f_arange(channels * positions, (tch::Kind::Int64, tch::Device::Cpu))?;
                Some(order.f_reshape([channels, positions])?.f_tr()?.f_reshape([-1])?)
            }
            Layout::Order(_) => None,
        };
        let grid = self.kernel_grid(weight, out_axis)?.map(|g| g.copy());
        let quantization = self.integers(&[x], &output)?.filter(|_| grid.is_some());
        let want = if quantization.is_some() { Want::Integer } else { Want::Float };
        let tensor = self.read(x, want, &layout, &node.name)?;
        let order: &[i64] = if transposed { &[0, 1] } else { &[1, 0] };
        let (kernel, bias) = match (&quantization, &grid) {
            (Some(_), Some(grid)) => {
                let (kernel, scales) = self.integer_weight(weight, grid, order, columns.as_ref())?;
                let input = self.integers_of(x).map_or(1.0, |q| q.scale(0));
                (kernel, self.integer_bias(bias, outputs as usize, input, &scales)?)
            }
            _ => (self.float_weight(weight, order, columns.as_ref())?, self.float_bias(bias, outputs as usize)?),
        };
        let shape = self.shape(&node.outputs[0])?;
        let rank = shape.len();
        let info = self.result(shape, quantization);
        let tensor = self.step(Op::FullyConnected { activation }, vec![tensor, kernel, bias], info, &node.name);
        self.define(&output, tensor, Layout::plain(rank), &node.name)
    }

    fn binary(&mut self, node: &Node) -> Result<(), LowerError> {
        let (a, b) = (node.inputs[0].clone(), node.inputs[1].clone());
        let (activation, output) = self.fused(node)?;
        let op = match node.kind() {
            "Add" => Op::Add { activation },
            "Sub" => Op::Sub { activation },
            _ => Op::Mul { activation },
        };
        let value = self.shape(&node.outputs[0])?;
        let rank = value.len();
        let computed = |name: &String| !self.model.weights.contains_key(name);
        // Both lie as the first that was computed does, when it has all the axes.
        let layout = match [&a, &b].into_iter().find(|n| computed(n)).map(|n| self.layout(n)) {
            Some(Layout::Order(order)) if order.len() == rank => Layout::Order(order),
            _ => Layout::plain(rank),
        };
        let quantization = self.integers(&[&a, &b], &output)?;
        let want = if quantization.is_some() { Want::Integer } else { Want::Float };
        let mut inputs = Vec::new();
        for name in [&a, &b] {
            let shape = self.shape(name)?;
            inputs.push(match self.model.weights.get(name) {
                Some(weight) => {
                    // Axes that broadcasting adds stand in front, then all are put in order.
                    let wide = [vec![1; rank - shape.len()], shape].concat();
                    let value = super::lower::float(weight)?.f_reshape(wide)?;
                    let Layout::Order(order) = &layout else { return Self::refuse(node, "reads a flattened picture") };
                    let order: Vec<i64> = order.iter().map(|&a| a as i64).collect();
                    self.literal(&value.f_permute(order)?.f_contiguous()?, want)?
                }
                None if shape.len() == rank => self.read(name, want, &layout, &node.name)?,
                None => {
                    let tensor = self.read(name, want, &Layout::plain(shape.len()), &node.name)?;
                    if layout != Layout::plain(rank) {
                        return Self::refuse(node, "broadcasts a computed value over a picture");
                    }
                    self.reshape(tensor, [vec![1; rank - shape.len()], shape].concat(), &node.name)
                }
            });
        }
        let info = self.result(layout.shape(&value), quantization);
        let tensor = self.step(op, inputs, info, &node.name);
        self.define(&output, tensor, layout, &node.name)
    }

    /// A ReLU or Clip that nothing before it could take along.
    fn clip(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, output) = (node.inputs[0].clone(), node.outputs[0].clone());
        let Some(activation) = self.activation(node)? else {
            return Self::refuse(node, "TensorFlow Lite clips to 0 and more, to 0..6 and to -1..1 alone");
        };
        let layout = self.layout(&x);
        if activation == Activation::None {
            return self.alias(&output, &x, layout, &node.name);
        }
        self.elementwise(node, Op::Relu(activation), layout, None)
    }

    /// One step over every element, in integers where the value and the result are; `fixed`: the quantization that the kernel gives.
    fn elementwise(&mut self, node: &Node, op: Op, layout: Layout, fixed: Option<Quantization>) -> Result<(), LowerError> {
        let (x, output) = (&node.inputs[0], &node.outputs[0]);
        let quantization = self.integers(&[x], output)?;
        let want = if quantization.is_some() { Want::Integer } else { Want::Float };
        let tensor = self.read(x, want, &layout, &node.name)?;
        let info = self.result(self.program.tensors[tensor].shape.clone(), quantization.map(|q| fixed.unwrap_or(q)));
        let tensor = self.step(op, vec![tensor], info, &node.name);
        self.define(output, tensor, layout, &node.name)
    }

    fn unary(&mut self, node: &Node) -> Result<(), LowerError> {
        let layout = self.layout(&node.inputs[0]);
        match node.kind() {
            "Softmax" => {
                let rank = self.shape(&node.inputs[0])?.len();
                let axis = axis_of(node.attributes.get_int("axis", -1)?, rank);
                let layout = match layout {
                    Layout::Order(order) if order.last() == Some(&axis) => Layout::Order(order),
                    _ if axis + 1 == rank => Layout::plain(rank),
                    _ => {
                        let mut order: Vec<usize> = (0..rank).filter(|&a| a != axis).collect();
                        order.push(axis);
                        Layout::Order(order)
                    }
                };
                self.elementwise(node, Op::Softmax, layout, Some(Quantization::tensor(1.0 / 256.0, -128)))
            }
            "Sigmoid" => self.elementwise(node, Op::Sigmoid, layout, Some(Quantization::tensor(1.0 / 256.0, -128))),
            "Tanh" => self.elementwise(node, Op::Tanh, layout, Some(Quantization::tensor(1.0 / 128.0, 0))),
            "HardSwish" => self.elementwise(node, Op::HardSwish, layout, None),
            _ => {
                let slope = node.attributes.get_float("alpha", 0.01)? as f32;
                self.elementwise(node, Op::LeakyRelu { slope }, layout, None)
            }
        }
    }

    fn pool(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, output) = (&node.inputs[0], &node.outputs[0]);
        let spatial = self.shape(x)?.get(2..).map(<[i64]>::to_vec).unwrap_or_default();
        let max = node.kind().ends_with("MaxPool");
        if node.outputs.len() > 1 && !node.outputs[1].is_empty() {
            return Self::refuse(node, "TensorFlow Lite gives no indices of maxima");
        }
        let have = self.integers_of(x);
        let want = if have.is_some() { Want::Integer } else { Want::Float };
        let Picture { tensor, flat } = self.picture(node, want)?;
        let global = node.kind().starts_with("Global");
        let kernel = if global { spatial.clone() } else { Window::parse(&node.attributes)?.kernel.unwrap_or_default() };
        let out = self.shape(output)?;
        let whole = kernel == spatial && out[2..].iter().all(|&n| n == 1);
        // Over all positions and to another scale an average is a mean.
        if let Some(wanted) = self.grid(output)?.filter(|g| !max && whole && have.is_some() && have.as_ref() != Some(g)) {
            let axes = self.int32s(&[1, 2], &[2]);
            let info = self.result(vec![1, 1, 1, out[1]], Some(wanted));
            let tensor = self.step(Op::Mean { keep: true }, vec![tensor, axes], info, &node.name);
            return self.define_picture(output, Picture { tensor, flat }, node);
        }
        let (tensor, slide) = match global {
            true => {
                let kernel = if flat { [1, spatial[0]] } else { [spatial[0], spatial[1]] };
                (tensor, Slide { kernel, stride: kernel, dilation: [1, 1], begin: [0, 0], same: false })
            }
            false => {
                let lowest = if have.is_some() { -1e30 } else { f32::MIN as f64 };
                self.slide(node, tensor, &kernel, max.then_some(lowest))?
            }
        };
        if slide.dilation != [1, 1] {
            return Self::refuse(node, "TensorFlow Lite pools without dilation");
        }
        let shape = if flat { vec![1, 1, out[2], out[1]] } else { vec![1, out[2], out[3], out[1]] };
        let info = TensorInfo { shape, ..self.like(tensor) };
        let op = if max { Op::MaxPool { slide } } else { Op::AveragePool { slide } };
        let tensor = self.step(op, vec![tensor], info, &node.name);
        self.define_picture(output, Picture { tensor, flat }, node)
    }

    fn mean(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, output) = (&node.inputs[0], &node.outputs[0]);
        let value = self.shape(x)?;
        let listed = node.attributes.opt_ints("axes")?;
        let listed = if listed.is_some() { listed } else { self.stored_ints(node, 1)? };
        let axes: Vec<usize> = match listed {
            Some(axes) => axes.iter().map(|&a| axis_of(a, value.len())).collect(),
            None => (0..value.len()).collect(),
        };
        if axes.contains(&0) {
            return Self::refuse(node, "it takes the mean over the batch");
        }
        let keep = node.attributes.get_int("keepdims", 1)? != 0;
        let layout = match self.layout(x) {
            order @ Layout::Order(_) => order,
            Layout::Flat { .. } => Layout::plain(value.len()),
        };
        let quantization = self.integers(&[x], output)?;
        let want = if quantization.is_some() { Want::Integer } else { Want::Float };
        let tensor = self.read(x, want, &layout, &node.name)?;
        let mut positions: Vec<i32> = axes.iter().map(|&a| layout.position(a) as i32).collect();
        positions.sort_unstable();
        let list = self.int32s(&positions, &[positions.len() as i64]);
        let after = if keep { Some(layout) } else { layout.without(&axes) };
        let Some(after) = after else { return Self::refuse(node, "its input is a flattened picture") };
        let info = self.result(after.shape(&self.shape(output)?), quantization);
        let tensor = self.step(Op::Mean { keep }, vec![tensor, list], info, &node.name);
        self.define(output, tensor, after, &node.name)
    }

    fn concat(&mut self, node: &Node) -> Result<(), LowerError> {
        let output = &node.outputs[0];
        let value = self.shape(output)?;
        let axis = axis_of(node.attributes.get_int("axis", 0)?, value.len());
        let layout = match self.layout(&node.inputs[0]) {
            order @ Layout::Order(_) => order,
            Layout::Flat { .. } => Layout::plain(value.len()),
        };
        let names: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
        let quantization = self.integers(&names, output)?;
        let want = if quantization.is_some() { Want::Integer } else { Want::Float };
        let mut inputs = Vec::new();
        for name in names {
            let tensor = self.read(name, want, &layout, &node.name)?;
            // All of a concatenation have the scale of the result.
            inputs.push(match &quantization {
                Some(q) if self.program.tensors[tensor].quantization.as_ref() != Some(q) => {
                    let info = TensorInfo { quantization: Some(q.clone()), ..self.like(tensor) };
                    self.step(Op::Quantize, vec![tensor], info, &node.name)
                }
                _ => tensor,
            });
        }
        let info = self.result(layout.shape(&value), quantization);
        let tensor = self.step(Op::Concat { axis: layout.position(axis) }, inputs, info, &node.name);
        self.define(output, tensor, layout, &node.name)
    }

    fn pad(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, output) = (&node.inputs[0], &node.outputs[0]);
        let rank = self.shape(x)?.len();
        let listed = node.attributes.opt_ints("pads")?;
        let listed = if listed.is_some() { listed } else { self.stored_ints(node, 1)? };
        let pads = listed.filter(|p| p.len() == 2 * rank && p.iter().all(|&n| n >= 0));
        let (Some(pads), "constant") = (pads, node.attributes.get_str("mode", "constant")?) else {
            return Self::refuse(node, "TensorFlow Lite's PAD wants stored lengths of 0 and more, and fills with a constant");
        };
        let filler = match node.inputs.get(2).and_then(|v| self.model.weights.get(v)) {
            Some(weight) => super::lower::float(weight)?.f_reshape([-1])?.f_double_value(&[0])?,
            None => node.attributes.get_float("value", 0.0)?,
        };
        let layout = match self.layout(x) {
            order @ Layout::Order(_) => order,
            Layout::Flat { .. } => Layout::plain(rank),
        };
        let Layout::Order(order) = &layout else { return Self::refuse(node, "pads a flattened picture") };
        let ordered: Vec<i64> = order.iter().flat_map(|&a| [pads[a], pads[rank + a]]).collect();
        let want = if self.is_integer(x) { Want::Integer } else { Want::Float };
        let tensor = self.read(x, want, &layout, &node.name)?;
        let padded = self.padded(tensor, &ordered, (filler != 0.0).then_some(filler), &node.name)?;
        self.define(output, padded, layout, &node.name)
    }

    /// Reshape and its kin.
    fn regroup(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, output) = (&node.inputs[0], &node.outputs[0]);
        let (from, to) = (self.shape(x)?, self.shape(output)?);
        if from.first() != Some(&1) || to.first() != Some(&1) {
            return Self::refuse(node, "it moves elements between samples");
        }
        let want = if self.is_integer(x) { Want::Integer } else { Want::Float };
        let layout = self.layout(x);
        let flattens = to.len() == 2 && from.len() > 2 && layout == Layout::channels_last(from.len());
        let (read, after) = match layout {
            layout if layout.is_plain(&from) => (layout, Layout::plain(to.len())),
            layout if flattens => (layout, Layout::Flat { channels: from[1], positions: from[2..].iter().product() }),
            _ => (Layout::plain(from.len()), Layout::plain(to.len())),
        };
        let tensor = self.read(x, want, &read, &node.name)?;
        let tensor = self.reshape(tensor, to, &node.name);
        self.define(output, tensor, after, &node.name)
    }

    /// A transposition moves nothing: it says anew which axis is which.
    fn turn(&mut self, node: &Node) -> Result<(), LowerError> {
        let (x, output) = (&node.inputs[0], &node.outputs[0]);
        let rank = self.shape(x)?.len();
        let perm: Vec<usize> = match node.attributes.opt_ints("perm")? {
            Some(perm) => perm.iter().map(|&p| axis_of(p, rank)).collect(),
            None => (0..rank).rev().collect(),
        };
        if perm.first() != Some(&0) {
            return Self::refuse(node, "it moves the batch");
        }
        match self.layout(x).transposed(&perm) {
            Some(layout) => self.alias(output, x, layout, &node.name),
            None => {
                let want = if self.is_integer(x) { Want::Integer } else { Want::Float };
                let tensor = self.read(x, want, &Layout::plain(rank), &node.name)?;
                let Some(layout) = Layout::plain(rank).transposed(&perm) else {
                    return Self::refuse(node, "its perm is no permutation");
                };
                self.define(output, tensor, layout, &node.name)
            }
        }
    }

    /// A normalisation that no layer could take in: a product and a sum.
    fn batch_norm(&mut self, node: &Node) -> Result<(), LowerError> {
        let stored = |i: usize| node.inputs.get(i).and_then(|n| self.model.weights.get(n));
        let (Some(gamma), Some(beta), Some(mean), Some(var)) = (stored(1), stored(2), stored(3), stored(4)) else {
            return Self::refuse(node, "its statistics must be stored");
        };
        let [gamma, beta, mean, var] = [gamma, beta, mean, var].map(super::lower::float);
        let epsilon = node.attributes.get_float("epsilon", 1e-5)?;
        let factor = gamma?.f_div(&var?.f_add_scalar(epsilon)?.f_sqrt()?)?;
        let offset = beta?.f_sub(&mean?.f_mul(&factor)?)?;
        let rank = self.shape(&node.inputs[0])?.len();
        let layout = Layout::channels_last(rank);
        let (activation, output) = self.fused(node)?;
        let tensor = self.read(&node.inputs[0], Want::Float, &layout, &node.name)?;
        let info = self.like(tensor);
        let factor = self.literal(&factor, Want::Float)?;
        let product = self.step(Op::Mul { activation: Activation::None }, vec![tensor, factor], info.clone(), &node.name);
        let offset = self.literal(&offset, Want::Float)?;
        let sum = self.step(Op::Add { activation }, vec![product, offset], info, &node.name);
        self.define(&output, sum, layout, &node.name)
    }
}

/// An axis that may count from the end.
fn axis_of(axis: i64, rank: usize) -> usize {
    if axis < 0 { (axis + rank as i64).max(0) as usize } else { axis as usize }
}
