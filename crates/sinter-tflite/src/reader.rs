//! A model as it is put together: every value of integers becomes a real one with a quantizer.

use std::collections::{BTreeMap, BTreeSet};

use sinter_model::{
    Attributes, Dim, ElementType, Granularity, Levels, Model, Node, QuantParams, Quantizer, Role, ValueInfo, Weight, elements,
};
use tch::{Kind, Tensor};

use crate::error::TfliteError;
use crate::schema;

/// A tensor of the file.
pub(crate) struct Info<'a> {
    pub name: String,
    pub shape: Vec<i64>,
    kind: Kind,
    params: Option<QuantParams>,
    data: Option<&'a [u8]>,
}

impl Info<'_> {
    /// Whether it holds whole numbers that stand for themselves.
    pub(crate) fn is_index(&self) -> bool {
        self.params.is_none() && matches!(self.kind, Kind::Int | Kind::Int64)
    }
}

/// A model as it is put together.
pub(crate) struct Reader<'a> {
    pub tensors: Vec<Info<'a>>,
    pub codes: Vec<(i32, Option<&'a str>)>,
    pub graph: schema::Subgraph<'a>,
    pub model: Model,
    /// Values with their channels in the second place, by tensor.
    channels_first: BTreeMap<usize, String>,
    /// Tensors that something gave.
    pub given: BTreeSet<usize>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, TfliteError> {
        let file = schema::model(bytes).map_err(TfliteError::Decode)?;
        if file.version() != Some(3) {
            return Err(TfliteError::Unsupported(format!("schema version {} is not read, only 3", file.version().unwrap_or(0))));
        }
        let graphs = file.subgraphs().ok_or_else(|| TfliteError::Decode("it has no graph".into()))?;
        if graphs.len() != 1 {
            return Err(TfliteError::Unsupported(format!("it has {} graphs: control flow is not read", graphs.len())));
        }
        let codes = file.codes().into_iter().flatten();
        let codes = codes.map(|c| (c.number().unwrap_or(0).max(i32::from(c.byte().unwrap_or(0))), c.custom())).collect();
        let buffers: Vec<schema::Buffer> = file.buffers().into_iter().flatten().collect();
        if buffers.iter().any(|b| b.offset().unwrap_or(0) > 1) {
            return Err(TfliteError::Unsupported("constants behind the end of the flatbuffer are not read".into()));
        }
        let mut names = BTreeSet::new();
        let graph = graphs.get(0);
        let tensors = graph.tensors().into_iter().flatten().enumerate().map(|(at, t)| {
            let given = t.name().unwrap_or_default();
            let name = match given.is_empty() || !names.insert(given.to_string()) {
                true => format!("{given}#{at}"),
                false => given.to_string(),
            };
            info(name, &t, &buffers)
        });
        let tensors = tensors.collect::<Result<_, _>>()?;
        let mut model = Model { name: "model".into(), ..Model::default() };
        for entry in file.metadata().into_iter().flatten() {
            // Blobs, such as those of TensorFlow's own tools, are left.
            let data = buffers.get(entry.buffer().unwrap_or(0) as usize).and_then(|b| b.data());
            if let (Some(name), Some(Ok(text))) = (entry.name(), data.map(|d| std::str::from_utf8(d.bytes()))) {
                model.graph.metadata.insert(name.into(), text.into());
            }
        }
        Ok(Self { tensors, codes, graph, model, channels_first: BTreeMap::new(), given: BTreeSet::new() })
    }

    /// An input or output of the graph.
    pub(crate) fn end(&self, at: usize) -> Result<ValueInfo, TfliteError> {
        let info = &self.tensors[at];
        let element = match (&info.params, info.kind) {
            (Some(_), _) | (None, Kind::Float) => ElementType::Float,
            (None, Kind::Int) => ElementType::Int32,
            (None, Kind::Int64) => ElementType::Int64,
            (None, Kind::Bool) => ElementType::Bool,
            (None, other) => {
                let reason = format!("an input or output of {other:?} without a scale is not read");
                return Err(TfliteError::Tensor { name: info.name.clone(), reason });
            }
        };
        let fixed = |(axis, &n): (usize, &i64)| if axis == 0 && n == 1 { Dim::Free("batch".into()) } else { Dim::Fixed(n) };
        Ok(ValueInfo { name: info.name.clone(), element, shape: info.shape.iter().enumerate().map(fixed).collect() })
    }

    /// A tensor's place. Errors on one that is not there.
    pub(crate) fn index(&self, tensor: i32) -> Result<usize, TfliteError> {
        let at = usize::try_from(tensor).ok().filter(|&at| at < self.tensors.len());
        at.ok_or_else(|| TfliteError::Decode(format!("tensor {tensor} is named, and there are {}", self.tensors.len())))
    }

    /// A value or a stored tensor as it lies.
    pub(crate) fn operand(&mut self, at: usize) -> Result<String, TfliteError> {
        if self.tensors[at].data.is_some() { self.stored(at, &[]) } else { self.value(at) }
    }

    /// A value that something gave.
    fn value(&mut self, at: usize) -> Result<String, TfliteError> {
        let info = &self.tensors[at];
        if !self.given.contains(&at) {
            return Err(TfliteError::Tensor {
                name: info.name.clone(),
                reason: "it is read, and nothing that is read here gives it".into(),
            });
        }
        // What an input is rounded to holds from its first use on.
        if let Some(params) = &info.params {
            self.model.activations.insert(info.name.clone(), Quantizer::new(params)?);
        }
        Ok(info.name.clone())
    }

    /// A value with its channels in the second place.
    pub(crate) fn channels_first(&mut self, at: usize) -> Result<String, TfliteError> {
        if let Some(known) = self.channels_first.get(&at) {
            return Ok(known.clone());
        }
        let value = self.value(at)?;
        let turned = self.model.free_name(&format!("{value}.nchw"));
        self.node("Transpose", Attributes::new().ints("perm", &[0, 3, 1, 2]), vec![value], &turned)?;
        self.rounds(at, &turned)?;
        self.channels_first.insert(at, turned.clone());
        Ok(turned)
    }

    /// A stored tensor, its axes in another order where one is given.
    pub(crate) fn stored(&mut self, at: usize, order: &[i64]) -> Result<String, TfliteError> {
        let info = &self.tensors[at];
        let name = if order.is_empty() { info.name.clone() } else { format!("{}.{order:?}", info.name) };
        if self.model.weights.contains_key(&name) {
            return Ok(name);
        }
        let wrong = |reason: String| TfliteError::Tensor { name: info.name.clone(), reason };
        let data = info.data.ok_or_else(|| wrong("it is computed, and only stored ones are read here".into()))?;
        let size = info.kind.elt_size_in_bytes();
        let count = elements(&info.shape, size as u64).map_err(|e| wrong(e.to_string()))?;
        if data.len() != count * size {
            return Err(wrong(format!("it holds {} bytes, its shape {:?} wants {}", data.len(), info.shape, count * size)));
        }
        let mut value = Tensor::f_from_data_size(data, &info.shape, info.kind)?;
        if !order.is_empty() {
            value = value.f_permute(order)?.f_contiguous()?;
        }
        let weight = match &info.params {
            Some(params) => {
                let quantizer = Quantizer::new(&along(params, order)?)?;
                let mut weight = Weight::new(Role::Parameter, quantizer.dequantize(&value.f_to_kind(Kind::Int64)?)?);
                weight.quantize(quantizer)?;
                weight
            }
            None if value.kind() == Kind::Half => Weight::new(Role::Parameter, value.f_to_kind(Kind::Float)?),
            None if value.kind() == Kind::Float => Weight::new(Role::Parameter, value),
            None => Weight::new(Role::Constant, value),
        };
        self.model.weights.insert(name.clone(), weight);
        Ok(name)
    }

    /// Whole numbers of a stored tensor.
    pub(crate) fn numbers(&self, at: usize) -> Result<Vec<i64>, TfliteError> {
        let info = &self.tensors[at];
        let wrong = |reason: &str| TfliteError::Tensor { name: info.name.clone(), reason: reason.into() };
        let data = info.data.ok_or_else(|| wrong("it is computed, and only stored numbers are read here"))?;
        let values = match info.kind {
            Kind::Int => data.chunks_exact(4).map(|b| i64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect(),
            Kind::Int64 => data.chunks_exact(8).filter_map(|b| b.try_into().ok()).map(i64::from_le_bytes).collect(),
            _ => return Err(wrong("it holds no whole numbers")),
        };
        Ok(values)
    }

    /// The real value of a stored number of integers, such as the filling of a pad.
    pub(crate) fn number(&mut self, at: usize) -> Result<f32, TfliteError> {
        let name = self.stored(at, &[])?;
        let value = self.model.weights.get(&name).map(Weight::effective).transpose()?;
        Ok(value.map(|v| v.f_max()?.f_double_value(&[])).transpose()?.unwrap_or(0.0) as f32)
    }

    /// Adds a constant.
    pub(crate) fn constant(&mut self, hint: &str, value: Tensor) -> String {
        self.model.add_constant(hint, value)
    }

    /// Adds a node with one result.
    pub(crate) fn node(
        &mut self,
        kind: &str,
        attributes: Attributes,
        inputs: Vec<String>,
        output: &str,
    ) -> Result<(), TfliteError> {
        self.model.graph.nodes.push(Node::new(output, kind, attributes, inputs, vec![output.to_string()])?);
        Ok(())
    }

    /// The value of a tensor is rounded as the tensor is.
    pub(crate) fn rounds(&mut self, at: usize, value: &str) -> Result<(), TfliteError> {
        if let Some(params) = &self.tensors[at].params {
            self.model.activations.insert(value.to_string(), Quantizer::new(params)?);
        }
        Ok(())
    }

    /// An operator with what it gives, and the activation that runs with it.
    pub(crate) fn result(
        &mut self,
        at: usize,
        activation: i8,
        turned: bool,
        (kind, attributes, inputs): (&str, Attributes, Vec<String>),
    ) -> Result<(), TfliteError> {
        let name = self.tensors[at].name.clone();
        let target = if turned { self.model.free_name(&format!("{name}.nchw")) } else { name.clone() };
        let sum = if activation == 0 { target.clone() } else { self.model.free_name(&format!("{target}.sum")) };
        self.model.graph.nodes.push(Node::new(&name, kind, attributes, inputs, vec![sum.clone()])?);
        if activation != 0 {
            self.activation(activation, sum, &target)?;
        }
        self.rounds(at, &target)?;
        if turned {
            self.node("Transpose", Attributes::new().ints("perm", &[0, 2, 3, 1]), vec![target.clone()], &name)?;
            self.rounds(at, &name)?;
            self.channels_first.insert(at, target);
        }
        self.given.insert(at);
        Ok(())
    }

    fn activation(&mut self, activation: i8, from: String, to: &str) -> Result<(), TfliteError> {
        let mut clip = |low: f32, high: f32| -> Result<(), TfliteError> {
            let ends = [low, high].map(|end| self.constant(&format!("{to}.end"), Tensor::from(end)));
            let [low, high] = ends;
            self.node("Clip", Attributes::new(), vec![from.clone(), low, high], to)
        };
        match activation {
            1 => self.node("Relu", Attributes::new(), vec![from], to),
            2 => clip(-1.0, 1.0),
            3 => clip(0.0, 6.0),
            4 => self.node("Tanh", Attributes::new(), vec![from], to),
            other => Err(TfliteError::Unsupported(format!("activation {other} is not read"))),
        }
    }
}

/// Parameters of a tensor whose axes come in another order.
fn along(params: &QuantParams, order: &[i64]) -> Result<QuantParams, TfliteError> {
    let Granularity::Channel(axis) = params.granularity() else { return Ok(params.clone()) };
    let axis = order.iter().position(|&a| a == axis as i64).unwrap_or(axis);
    let (scales, zeros) = (params.scales().to_vec(), params.zero_points().to_vec());
    Ok(QuantParams::new(params.bits(), params.levels(), Granularity::Channel(axis), scales, zeros)?)
}

fn info<'a>(name: String, tensor: &schema::Tensor<'a>, buffers: &[schema::Buffer<'a>]) -> Result<Info<'a>, TfliteError> {
    let wrong = |reason: String| TfliteError::Tensor { name: name.clone(), reason };
    let kind = match tensor.element().unwrap_or(0) {
        0 => Kind::Float,
        1 => Kind::Half,
        2 => Kind::Int,
        3 => Kind::Uint8,
        4 => Kind::Int64,
        6 => Kind::Bool,
        7 => Kind::Int16,
        9 => Kind::Int8,
        other => return Err(wrong(format!("elements of type {other} are not read"))),
    };
    if tensor.variable().unwrap_or(false) {
        return Err(wrong("it keeps its value from one inference to the next: state is not read".into()));
    }
    let shape: Vec<i64> = tensor.shape().into_iter().flatten().map(i64::from).collect();
    elements(&shape, 4).map_err(|e| wrong(e.to_string()))?;
    let at = tensor.buffer().unwrap_or(0) as usize;
    let buffer = buffers.get(at).ok_or_else(|| wrong(format!("buffer {at} is named, and there are {}", buffers.len())))?;
    let data = buffer.data().map(|d| d.bytes()).filter(|d| !d.is_empty());
    let quantization = tensor.quantization();
    let scales: Vec<f32> = quantization.and_then(|q| q.scales()).into_iter().flatten().collect();
    let params = match kind {
        Kind::Int8 | Kind::Uint8 | Kind::Int16 | Kind::Int if !scales.is_empty() => {
            let mut zeros: Vec<i64> = quantization.and_then(|q| q.zero_points()).into_iter().flatten().collect();
            zeros.resize(scales.len(), 0);
            let axis = quantization.and_then(|q| q.axis()).unwrap_or(0).max(0) as usize;
            let granularity = if scales.len() == 1 { Granularity::Tensor } else { Granularity::Channel(axis) };
            let (bits, levels) = match kind {
                Kind::Int8 => (8, Levels::Signed),
                Kind::Uint8 => (8, Levels::Unsigned),
                Kind::Int16 => (16, Levels::Signed),
                _ => (32, Levels::Symmetric),
            };
            if scales.len() > 1 && shape.get(axis) != Some(&(scales.len() as i64)) {
                return Err(wrong(format!("it has {} scales along axis {axis} of {shape:?}", scales.len())));
            }
            Some(QuantParams::new(bits, levels, granularity, scales, zeros).map_err(|e| wrong(e.to_string()))?)
        }
        _ => None,
    };
    Ok(Info { name, shape, kind, params, data })
}
