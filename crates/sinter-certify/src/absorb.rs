//! Quantized files that others made: pairs of QuantizeLinear and DequantizeLinear become quantizers on values and weights.

use std::collections::BTreeMap;

use sinter_model::{
    Attributes, Boundary, ElementType, Granularity, Levels, Model, Node, ParamsOf, QuantParams, Quantizer, Role, Weight, to_f32s,
    to_i64s,
};
use tch::Kind;

use crate::error::CertifyError;

/// The model with its pairs absorbed. Errors where a file has none, or one whose scale is computed.
pub fn absorb(model: &Model) -> Result<Model, CertifyError> {
    let mut absorbing = Absorbing { model, out: model.copy(), integers: BTreeMap::new(), renamed: BTreeMap::new(), pairs: 0 };
    absorbing.inputs()?;
    let mut kept: Vec<Node> = Vec::new();
    for node in &model.graph.nodes {
        kept.extend(match node.op.boundary() {
            Some(Boundary::Dequantize) => absorbing.dequantize(node)?,
            Some(Boundary::Quantize) => absorbing.quantize(node)?,
            Some(Boundary::DynamicQuantize) => {
                let reason = format!("`{}` quantizes by the range of what is there: nothing holds for every input", node.name);
                return Err(CertifyError::Nothing(reason));
            }
            None => Some(absorbing.moved(node)?),
        });
    }
    let Absorbing { mut out, mut renamed, pairs, integers, .. } = absorbing;
    if pairs == 0 {
        let reason = "the model is not quantized: it has no QuantizeLinear and DequantizeLinear. A pipeline with `quantize` writes a quantized file, \
                      and a certificate with it";
        return Err(CertifyError::Nothing(reason.into()));
    }
    renamed
        .extend(integers.into_iter().filter(|(name, integer)| *name != integer.real).map(|(name, integer)| (name, integer.real)));
    for input in kept.iter_mut().flat_map(|n| &mut n.inputs) {
        while let Some(value) = renamed.get(input) {
            input.clone_from(value);
        }
    }
    // Outputs keep the names of the file, where what they are has no other use for its own.
    for at in 0..out.graph.outputs.len() {
        let name = out.graph.outputs[at].name.clone();
        let mut value = &name;
        while let Some(other) = renamed.get(value) {
            value = other;
        }
        if *value == name {
            continue;
        }
        let value = value.clone();
        let kept_apart = out.graph.inputs.iter().chain(&out.graph.outputs).any(|v| v.name == value);
        let known = if kept_apart { value.clone() } else { name.clone() };
        if !kept_apart {
            kept.iter_mut()
                .flat_map(|n| n.inputs.iter_mut().chain(&mut n.outputs))
                .filter(|v| **v == value)
                .for_each(|v| v.clone_from(&name));
            if let Some(quantizer) = out.activations.remove(&value) {
                out.activations.insert(name.clone(), quantizer);
            }
            renamed.values_mut().filter(|v| **v == value).for_each(|v| v.clone_from(&name));
            renamed.remove(&name);
        }
        let output = &mut out.graph.outputs[at];
        (output.name, output.element) = (known, ElementType::Float);
    }
    out.graph.nodes = kept;
    out.drop_unused();
    Ok(out)
}

/// A value of integers, and the real one that it stands for.
struct Integer {
    real: String,
    parameters: Parameters,
}

struct Absorbing<'a> {
    model: &'a Model,
    out: Model,
    integers: BTreeMap<String, Integer>,
    /// Values that are others by now.
    renamed: BTreeMap<String, String>,
    pairs: usize,
}

impl Absorbing<'_> {
    /// Inputs that come as integers are real inputs with a quantizer: that of what reads them.
    fn inputs(&mut self) -> Result<(), CertifyError> {
        let whole = |e: ElementType| matches!(e, ElementType::Int8 | ElementType::Uint8);
        for (at, input) in self.model.graph.inputs.iter().enumerate().filter(|(_, i)| whole(i.element)) {
            let Some(reader) = reader_of(self.model, &input.name) else { continue };
            let parameters = parameters(self.model, reader)?;
            self.out.activations.insert(input.name.clone(), quantizer_of(self.model, reader, None)?);
            self.out.graph.inputs[at].element = ElementType::Float;
            self.integers.insert(input.name.clone(), Integer { real: input.name.clone(), parameters });
        }
        Ok(())
    }

    fn dequantize(&mut self, node: &Node) -> Result<Option<Node>, CertifyError> {
        let (from, to) = (&node.inputs[0], &node.outputs[0]);
        if picked(self.model, from) {
            self.pairs += 1;
            return Ok(Some(node.clone()));
        }
        let quantizer = quantizer_of(self.model, node, self.model.weights.get(from))?;
        if let Some(stored) = self.model.weights.get(from) {
            let integers = stored.effective()?;
            let value = quantizer.dequantize(&integers.f_to_kind(Kind::Int64)?)?;
            let mut weight = Weight::new(Role::Parameter, value);
            weight.quantize(quantizer)?;
            self.out.weights.insert(to.clone(), weight);
            self.pairs += 1;
            return Ok(None);
        }
        let Some(integer) = self.integers.get(from) else {
            let reason =
                format!("`{from}` is dequantized, and its integers are computed: only what a quantizer gives can be certified");
            return Err(CertifyError::Nothing(reason));
        };
        if !integer.parameters.agree(&parameters(self.model, node)?) {
            let reason = format!("`{}` and what quantized `{from}` differ in their scales or zero points", node.name);
            return Err(CertifyError::Nothing(reason));
        }
        self.pairs += 1;
        // A weight that the file rounds as it runs.
        if let Some(stored) = self.model.weights.get(&integer.real) {
            let mut weight = Weight::new(Role::Parameter, stored.effective()?.f_detach()?);
            weight.quantize(quantizer_of(self.model, node, Some(stored))?)?;
            self.out.weights.insert(to.clone(), weight);
            return Ok(None);
        }
        self.renamed.insert(to.clone(), integer.real.clone());
        Ok(None)
    }

    fn quantize(&mut self, node: &Node) -> Result<Option<Node>, CertifyError> {
        let (value, to) = (self.real_name(&node.inputs[0]), &node.outputs[0]);
        let parameters = parameters(self.model, node)?;
        if self.model.weights.contains_key(&value) {
            self.integers.insert(to.clone(), Integer { real: value, parameters });
            return Ok(None);
        }
        let quantizer = quantizer_of(self.model, node, None)?;
        let known =
            self.out.activations.get(&value).map(|q| Ok::<_, CertifyError>(q.params()? == quantizer.params()?)).transpose()?;
        // Rounded once more by the same steps is the same.
        if known == Some(true) {
            self.integers.insert(to.clone(), Integer { real: value, parameters });
            return Ok(None);
        }
        if known == Some(false) || read_raw(self.model, &node.inputs[0], &parameters)? {
            // Others read the value as it is, or rounded otherwise: what is rounded here is a value of its own.
            self.out.activations.insert(to.clone(), quantizer);
            self.integers.insert(to.clone(), Integer { real: to.clone(), parameters });
            return Ok(Some(Node::new(to, "Identity", Attributes::new(), vec![value], vec![to.clone()])?));
        }
        self.out.activations.insert(value.clone(), quantizer);
        self.integers.insert(to.clone(), Integer { real: value, parameters });
        Ok(None)
    }

    /// A node as it is; what it moves of integers is of integers too.
    fn moved(&mut self, node: &Node) -> Result<Node, CertifyError> {
        let Some(parameters) = node.inputs.first().and_then(|name| self.integers.get(name)).map(|i| i.parameters.clone()) else {
            return Ok(node.clone());
        };
        if !moves_integers(node) {
            let reason =
                format!("{} `{}` computes with integers, and only those of pairs can be certified", node.kind(), node.name);
            return Err(CertifyError::Nothing(reason));
        }
        let output = &node.outputs[0];
        self.out.activations.insert(output.clone(), parameters.quantizer(None, 0)?);
        self.integers.insert(output.clone(), Integer { real: output.clone(), parameters });
        Ok(node.clone())
    }

    fn real_name(&self, name: &str) -> String {
        let mut name = name;
        while let Some(other) = self.renamed.get(name) {
            name = other;
        }
        name.to_string()
    }
}

/// Whether a value is made of stored integers that were picked by index, as of a look-up table in few bits: what comes of them is a real number of the file's own.
fn picked(model: &Model, value: &str) -> bool {
    let producers = model.graph.producers();
    let mut open = vec![value];
    while let Some(node) = open.pop().and_then(|name| producers.get(name)).map(|&i| &model.graph.nodes[i]) {
        if node.op.table().is_some_and(|t| node.inputs.get(t).is_some_and(|w| model.weights.contains_key(w))) {
            return true;
        }
        if node.op.boundary().is_some() {
            return false;
        }
        open.extend(node.inputs.first().map(String::as_str));
    }
    false
}

/// Whether a node's first result holds its first input's integers, in another place or fewer of them.
fn moves_integers(node: &Node) -> bool {
    matches!(node.kind(), "MaxPool" | "GlobalMaxPool" | "Flatten") || node.op.quantization().params == ParamsOf::Input
}

/// The first DequantizeLinear behind an input of integers and what moves it.
fn reader_of<'a>(model: &'a Model, name: &str) -> Option<&'a Node> {
    let mut of_input = vec![name];
    model.graph.nodes.iter().find(|node| {
        let reads = node.inputs.first().is_some_and(|i| of_input.contains(&i.as_str()));
        if reads && node.op.boundary().is_none() && moves_integers(node) {
            of_input.extend(node.outputs.first().map(String::as_str));
        }
        reads && node.op.boundary() == Some(Boundary::Dequantize)
    })
}

/// Whether anything reads a value before it is quantized, or quantizes it otherwise.
fn read_raw(model: &Model, value: &str, parameters_here: &Parameters) -> Result<bool, CertifyError> {
    for node in model.graph.nodes.iter().filter(|n| n.inputs.iter().any(|i| i == value)) {
        if node.op.boundary() != Some(Boundary::Quantize) || !parameters(model, node)?.agree(parameters_here) {
            return Ok(true);
        }
    }
    Ok(model.graph.outputs.iter().any(|o| o.name == value))
}

/// What a node of either kind rounds by.
#[derive(Clone)]
struct Parameters {
    scales: Vec<f32>,
    zeros: Vec<i64>,
    /// The type of its zero points, where it has some.
    kind: Option<Kind>,
    axis: i64,
}

impl Parameters {
    fn agree(&self, other: &Self) -> bool {
        let kinds = self.kind.zip(other.kind).is_none_or(|(a, b)| a == b);
        kinds && self.scales == other.scales && self.zeros == other.zeros
    }

    /// As a quantizer of a tensor of this rank, whose integers are of `stored` where they are stored.
    fn quantizer(&self, stored: Option<Kind>, rank: i64) -> Result<Quantizer, CertifyError> {
        let (bits, levels) = match stored.or(self.kind).unwrap_or(Kind::Uint8) {
            Kind::Uint8 => (8, Levels::Unsigned),
            Kind::Int8 => (8, Levels::Signed),
            Kind::Int => (32, Levels::Symmetric),
            other => return Err(CertifyError::Nothing(format!("integers of {other:?} can't be certified"))),
        };
        let granularity = match self.scales.len() {
            1 => Granularity::Tensor,
            _ => Granularity::Channel(if self.axis < 0 { self.axis + rank } else { self.axis }.max(0) as usize),
        };
        Ok(Quantizer::new(&QuantParams::new(bits, levels, granularity, self.scales.clone(), self.zeros.clone())?)?)
    }
}

/// The stored parameters of a node.
fn parameters(model: &Model, node: &Node) -> Result<Parameters, CertifyError> {
    let computed = |name: &str| CertifyError::Nothing(format!("`{}`: its {name} is computed, not stored", node.name));
    let named = |i: usize| node.inputs.get(i).filter(|n| !n.is_empty());
    let scale = named(1).and_then(|n| model.weights.get(n)).ok_or_else(|| computed("scale"))?.effective()?;
    let (mut scales, axis) = (to_f32s(&scale)?, node.attributes.get_int("axis", 1)?);
    let (mut zeros, kind) = match named(2) {
        None => (vec![0; scales.len()], None),
        Some(zero) => {
            let zero = model.weights.get(zero).ok_or_else(|| computed("zero point"))?.effective()?;
            (to_i64s(&zero)?, Some(zero.kind()))
        }
    };
    // Written out along an axis, one for all is still one for all.
    if scales.iter().all(|s| *s == scales[0]) && zeros.iter().all(|z| *z == zeros[0]) {
        scales.truncate(1);
        zeros.truncate(1);
    }
    Ok(Parameters { scales, zeros, kind, axis })
}

/// The quantizer of a node, of the stored tensor that goes in, if one does.
fn quantizer_of(model: &Model, node: &Node, stored: Option<&Weight>) -> Result<Quantizer, CertifyError> {
    let integers = stored.map(|w| w.latent().kind()).filter(|k| !matches!(k, Kind::Float | Kind::Double | Kind::Half));
    parameters(model, node)?.quantizer(integers, stored.map_or(1, |w| w.size().len() as i64))
}
