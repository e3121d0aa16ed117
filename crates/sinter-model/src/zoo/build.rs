//! A small builder of graphs: one call a layer. The first error is kept and told at the end.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::attributes::{Attribute, Attributes, ElementType};
use crate::error::{OpError, OpResult};
use crate::graph::{Dim, Graph, Node, ValueInfo};
use crate::model::Model;
use crate::random::seeded;
use crate::weight::{Role, Weight};

/// Adds nodes one by one and knows the shapes so far. Each method returns the name of the value that it makes.
pub struct Builder {
    model: Model,
    /// Channels (or features) of each value so far.
    channels: BTreeMap<String, i64>,
    /// Spatial lengths of each value so far.
    spatial: BTreeMap<String, Vec<i64>>,
    count: usize,
    /// Weights still to be drawn, in order, and the deviation of each.
    drawn: Vec<(String, Vec<i64>, f64)>,
    seed: u64,
    failed: Option<OpError>,
}

impl Builder {
    /// A graph with one input named `input`, of this shape without the batch; its weights are drawn from `seed`.
    pub fn new(name: &str, input: &[i64], seed: u64) -> Self {
        let mut shape = vec![Dim::Free("batch".into())];
        shape.extend(input.iter().map(|&n| Dim::Fixed(n)));
        let info = ValueInfo { name: "input".into(), element: ElementType::Float, shape };
        let graph = Graph { inputs: vec![info], ..Graph::default() };
        Self {
            model: Model { name: name.into(), graph, ..Model::default() },
            channels: BTreeMap::from([("input".into(), input[0])]),
            spatial: BTreeMap::from([("input".into(), input[1..].to_vec())]),
            count: 0,
            drawn: vec![],
            seed,
            failed: None,
        }
    }

    /// Channels (or features) of a value.
    pub fn channels(&self, value: &str) -> i64 {
        self.channels.get(value).copied().unwrap_or(1)
    }

    fn lengths(&self, value: &str) -> Vec<i64> {
        self.spatial.get(value).cloned().unwrap_or_default()
    }

    fn node(
        &mut self,
        name: &str,
        kind: &str,
        attributes: Attributes,
        inputs: &[&str],
        channels: i64,
        spatial: Vec<i64>,
    ) -> String {
        let output = format!("{name}.out");
        let inputs = inputs.iter().map(|s| s.to_string()).collect();
        match Node::new(name, kind, attributes, inputs, vec![output.clone()]) {
            Ok(node) => self.model.graph.nodes.push(node),
            Err(e) => self.failed = self.failed.take().or(Some(e)),
        }
        self.channels.insert(output.clone(), channels);
        self.spatial.insert(output.clone(), spatial);
        output
    }

    fn unnamed(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{}{}", kind.to_lowercase(), self.count)
    }

    fn store(&mut self, name: String, role: Role, value: Result<Tensor, tch::TchError>) -> String {
        match value {
            Ok(tensor) => {
                self.model.weights.insert(name.clone(), Weight::new(role, tensor));
            }
            Err(e) => self.failed = self.failed.take().or(Some(e.into())),
        }
        name
    }

    /// A weight drawn from a normal distribution of variance 2 / fan-in (He et al., 2015).
    fn random(&mut self, name: String, shape: &[i64]) -> String {
        let fan_in: i64 = shape[1..].iter().product();
        let deviation = (2.0 / fan_in.max(1) as f64).sqrt();
        self.drawn.push((name.clone(), shape.to_vec(), deviation));
        name
    }

    fn filled(&mut self, name: String, role: Role, length: i64, value: f64) -> String {
        let tensor = Tensor::f_full([length], value, (Kind::Float, Device::Cpu));
        self.store(name, role, tensor)
    }

    #[allow(clippy::too_many_arguments)]
    /// A convolution with a bias; `pad` is VALID or SAME_UPPER.
    pub fn conv(&mut self, name: &str, x: &str, out: i64, kernel: [i64; 2], stride: i64, groups: i64, pad: &str) -> String {
        let weight = self.random(format!("{name}.weight"), &[out, self.channels(x) / groups, kernel[0], kernel[1]]);
        let bias = self.filled(format!("{name}.bias"), Role::Parameter, out, 0.0);
        self.conv_node(name, &[x, &weight, &bias], out, kernel, stride, groups, pad)
    }

    #[allow(clippy::too_many_arguments)]
    fn conv_node(
        &mut self,
        name: &str,
        inputs: &[&str],
        out: i64,
        kernel: [i64; 2],
        stride: i64,
        groups: i64,
        pad: &str,
    ) -> String {
        let attributes = Attributes::new()
            .ints("kernel_shape", &kernel)
            .ints("strides", &[stride, stride])
            .int("group", groups)
            .with("auto_pad", Attribute::String(pad.into()));
        let lengths = self.lengths(inputs[0]);
        let spatial = lengths.iter().zip(kernel);
        let spatial = spatial.map(|(&n, k)| if pad == "VALID" { (n - k) / stride + 1 } else { (n + stride - 1) / stride });
        let spatial = spatial.collect();
        self.node(name, "Conv", attributes, inputs, out, spatial)
    }

    /// A padded convolution and its batch normalisation.
    pub fn conv_bn(&mut self, name: &str, x: &str, out: i64, kernel: [i64; 2], stride: i64, groups: i64) -> String {
        let weight = self.random(format!("{name}.weight"), &[out, self.channels(x) / groups, kernel[0], kernel[1]]);
        let y = self.conv_node(name, &[x, &weight], out, kernel, stride, groups, "SAME_UPPER");
        self.batch_norm(&format!("{name}.bn"), &y)
    }

    /// The same and ReLU.
    pub fn conv_bn_relu(&mut self, name: &str, x: &str, out: i64, kernel: [i64; 2], stride: i64, groups: i64) -> String {
        let y = self.conv_bn(name, x, out, kernel, stride, groups);
        self.relu(&y)
    }

    /// Batch normalisation.
    pub fn batch_norm(&mut self, name: &str, x: &str) -> String {
        let c = self.channels(x);
        let scale = self.filled(format!("{name}.scale"), Role::Parameter, c, 1.0);
        let bias = self.filled(format!("{name}.bias"), Role::Parameter, c, 0.0);
        let mean = self.filled(format!("{name}.mean"), Role::Statistic, c, 0.0);
        let var = self.filled(format!("{name}.var"), Role::Statistic, c, 1.0);
        let spatial = self.lengths(x);
        self.node(name, "BatchNormalization", Attributes::new(), &[x, &scale, &bias, &mean, &var], c, spatial)
    }

    /// A dense layer with a bias.
    pub fn dense(&mut self, name: &str, x: &str, out: i64) -> String {
        let weight = self.random(format!("{name}.weight"), &[out, self.channels(x)]);
        let bias = self.filled(format!("{name}.bias"), Role::Parameter, out, 0.0);
        self.node(name, "Gemm", Attributes::new().int("transB", 1), &[x, &weight, &bias], out, vec![])
    }

    /// A dense layer without.
    pub fn dense_without_bias(&mut self, name: &str, x: &str, out: i64) -> String {
        let weight = self.random(format!("{name}.weight"), &[out, self.channels(x)]);
        self.node(name, "Gemm", Attributes::new().int("transB", 1), &[x, &weight], out, vec![])
    }

    /// ReLU.
    pub fn relu(&mut self, x: &str) -> String {
        let (name, channels, spatial) = (self.unnamed("Relu"), self.channels(x), self.lengths(x));
        self.node(&name, "Relu", Attributes::new(), &[x], channels, spatial)
    }

    /// The sum of two values of one shape.
    pub fn add(&mut self, name: &str, a: &str, b: &str) -> String {
        let (channels, spatial) = (self.channels(a), self.lengths(a));
        self.node(name, "Add", Attributes::new(), &[a, b], channels, spatial)
    }

    /// Max pooling over squares that do not overlap.
    pub fn max_pool(&mut self, x: &str, size: i64) -> String {
        let name = self.unnamed("MaxPool");
        let attributes = Attributes::new().ints("kernel_shape", &[size, size]).ints("strides", &[size, size]);
        let spatial = self.lengths(x).iter().map(|n| n / size).collect();
        let channels = self.channels(x);
        self.node(&name, "MaxPool", attributes, &[x], channels, spatial)
    }

    /// The mean over all positions.
    pub fn global_average(&mut self, x: &str) -> String {
        let (name, channels) = (self.unnamed("GlobalAveragePool"), self.channels(x));
        self.node(&name, "GlobalAveragePool", Attributes::new(), &[x], channels, vec![1, 1])
    }

    /// All but the batch in one axis.
    pub fn flatten(&mut self, x: &str) -> String {
        let name = self.unnamed("Flatten");
        let features = self.channels(x) * self.lengths(x).iter().product::<i64>();
        self.node(&name, "Flatten", Attributes::new().int("axis", 1), &[x], features, vec![])
    }

    /// The model, with this value as its output. Errors with the first thing that went wrong.
    pub fn finish(mut self, x: &str) -> OpResult<Model> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let drawn = &self.drawn;
        let values = seeded(self.seed, |random| {
            drawn
                .iter()
                .map(|(_, shape, deviation)| random.normal(shape)?.f_mul_scalar(*deviation))
                .collect::<Result<Vec<_>, _>>()
        })?;
        for ((name, ..), value) in self.drawn.into_iter().zip(values) {
            self.model.weights.insert(name, Weight::new(Role::Parameter, value));
        }
        let shape = vec![Dim::Free("batch".into()), Dim::Fixed(self.channels.get(x).copied().unwrap_or(1))];
        // The output gets a name that says what it is.
        if let Some(node) = self.model.graph.nodes.last_mut() {
            node.outputs[0] = "output".into();
        }
        self.model.graph.outputs = vec![ValueInfo { name: "output".into(), element: ElementType::Float, shape }];
        Ok(self.model)
    }
}
