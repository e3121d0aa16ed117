//! Look-ups into tables of few bits: rows are picked as integers, their scales beside them, and only they become real numbers. A
//! DequantizeLinear of the whole table would cost all of it at every inference.

use std::collections::BTreeSet;

use sinter_model::{
    Attribute, Attributes, ElementType, Granularity, Half, Levels, Model, Node, OpError, OpResult, Quantizer, Role, Weight,
};
use tch::{Kind, Tensor};

use crate::error::QdqError;

/// The stored tensors that nodes look rows up in.
pub(crate) fn tables(model: &Model) -> BTreeSet<&str> {
    model.graph.nodes.iter().filter_map(|n| table(n)).filter(|t| model.weights.contains_key(*t)).collect()
}

fn table(node: &Node) -> Option<&str> {
    node.inputs.get(node.op.table()?).map(String::as_str)
}

/// The name of a weight's integers in a file.
pub(crate) fn stored_integers(weight: &str) -> String {
    format!("{weight}.quantized")
}

/// The name of a weight's halves in a file.
pub(crate) fn stored_half(weight: &str, half: Half) -> String {
    format!("{weight}.{}", format!("{half:?}").to_lowercase())
}

/// The nodes that stand for a look-up into an encoded table, whose integers or halves `out` holds already; what else they read is put there. `None` for any other node, and for a
/// table whose scales do not lie along its rows.
pub(crate) fn rows(node: &Node, model: &Model, out: &mut Model) -> Result<Option<Vec<Node>>, QdqError> {
    let Some((name, weight)) = table(node).and_then(|t| Some((t, model.weights.get(t)?))) else { return Ok(None) };
    let mut look_up = LookUp { node, name, weight, out, nodes: vec![] };
    let done = match (weight.quantizer(), weight.half(), weight.size().len()) {
        (Some(quantizer), _, 2) if quantizer.bits() <= 8 => {
            let alone = model.graph.nodes.iter().all(|n| table(n) == Some(name) || !n.inputs.iter().any(|i| i == name));
            look_up.integers(quantizer, alone && !model.graph.is_output(name))
        }
        (None, Some(half), 2..) => look_up.halves(half).map(|()| true),
        _ => return Ok(None),
    };
    let nodes = look_up.nodes;
    done.map(|done| done.then_some(nodes)).map_err(|source| QdqError { name: name.into(), source })
}

/// One look-up on its way into nodes.
struct LookUp<'a> {
    node: &'a Node,
    name: &'a str,
    weight: &'a Weight,
    out: &'a mut Model,
    nodes: Vec<Node>,
}

impl LookUp<'_> {
    /// Adds a node that makes the part `what` of the result.
    fn add(&mut self, kind: &str, attributes: Attributes, inputs: &[&str], what: &str) -> OpResult<String> {
        let output = format!("{}.{what}", self.node.outputs[0]);
        self.add_as(kind, attributes, inputs, output)
    }

    fn add_as(&mut self, kind: &str, attributes: Attributes, inputs: &[&str], output: String) -> OpResult<String> {
        let inputs = inputs.iter().map(|i| i.to_string()).collect();
        self.nodes.push(Node::new(&output, kind, attributes, inputs, vec![output.clone()])?);
        Ok(output)
    }

    /// Picks rows of what is stored.
    fn pick(&mut self, stored: &str, what: &str) -> OpResult<String> {
        let indices = self.node.inputs[1].clone();
        self.add("Gather", self.node.attributes.clone(), &[stored, &indices], what)
    }

    fn store(&mut self, what: &str, value: Tensor) -> String {
        let stored = format!("{}.{what}", self.name);
        self.out.weights.insert(stored.clone(), Weight::new(Role::Constant, value));
        stored
    }

    fn halves(&mut self, half: Half) -> OpResult<()> {
        let picked = self.pick(&stored_half(self.name, half), "picked")?;
        let float = Attributes::new().int("to", ElementType::Float.to_onnx() as i64);
        self.add_as("Cast", float, &[&picked], self.node.outputs[0].clone())?;
        Ok(())
    }

    /// `alone`: nothing but look-ups reads the table. Returns whether it could be done.
    fn integers(&mut self, quantizer: &Quantizer, alone: bool) -> OpResult<bool> {
        let size = self.weight.size();
        // Scales that differ from row to row are picked as the rows are; others lie along what is picked.
        let (picked_scales, attributes) = match quantizer.granularity() {
            Granularity::Tensor => (None, Attributes::new()),
            Granularity::Channel(1) => (None, Attributes::new().int("axis", -1)),
            Granularity::Channel(0) => (Some(vec![size[0], 1]), Attributes::new().int("axis", -1).int("block_size", size[1])),
            granularity @ Granularity::Group { axis: 1, size: group } => {
                (Some(granularity.blocks(&size)), Attributes::new().int("axis", -1).int("block_size", group as i64))
            }
            _ => return Ok(false),
        };
        let kind = quantizer.byte();
        let stored = stored_integers(self.name);
        let integers = match quantizer.bits() <= 4 && alone && size[1] % 2 == 0 {
            true => self.halves_of_bytes(quantizer.levels(), &stored)?,
            false => self.pick(&stored, "integers")?,
        };
        let shape = picked_scales.clone().unwrap_or_else(|| quantizer.granularity().blocks(&size));
        let scale = Tensor::f_from_slice(&quantizer.scales()?)?.f_reshape(&shape[..])?;
        let mut inputs = vec![integers, self.store("row_scale", scale)];
        if quantizer.levels() == Levels::Unsigned {
            let zero = Tensor::f_from_slice(&quantizer.zero_points()?)?.f_reshape(&shape[..])?.f_to_kind(kind)?;
            inputs.push(self.store("row_zero_point", zero));
        }
        if picked_scales.is_some() {
            for (i, what) in (1..inputs.len()).zip(["row_scale", "row_zero_point"]) {
                inputs[i] = self.pick(&inputs[i].clone(), what)?;
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.add_as("DequantizeLinear", attributes, &inputs, self.node.outputs[0].clone())?;
        Ok(true)
    }

    /// Two numbers a byte, since Gather takes nothing narrower: the first half of a row in the low four bits, the second in the high ones.
    fn halves_of_bytes(&mut self, levels: Levels, stored: &str) -> OpResult<String> {
        let Some(q) = self.out.weights.get(stored).map(|w| w.latent().shallow_clone()) else {
            return Err(OpError::Invalid("its integers are not stored".into()));
        };
        let half = q.size()[1] / 2;
        let part = |from: i64| -> OpResult<Tensor> { Ok(q.f_narrow(1, from, half)?.f_to_kind(Kind::Int)?.f_bitwise_and(15)?) };
        let bytes = part(half)?.f_mul_scalar(16)?.f_add(&part(0)?)?.f_to_kind(Kind::Uint8)?;
        let stored = self.store("pairs", bytes);
        let byte = |v: i64| -> OpResult<Tensor> { Ok(Tensor::from(v).f_to_kind(Kind::Uint8)?) };
        let (mask, shift) = (self.store("low_bits", byte(15)?), self.store("four", byte(4)?));
        let pairs = self.pick(&stored, "pairs")?;
        let low = self.add("BitwiseAnd", Attributes::new(), &[&pairs, &mask], "low_half")?;
        let high = self.add(
            "BitShift",
            Attributes::new().with("direction", Attribute::String("RIGHT".into())),
            &[&pairs, &shift],
            "high_half",
        )?;
        let whole = self.add("Concat", Attributes::new().int("axis", -1), &[&low, &high], "nibbles")?;
        if levels == Levels::Unsigned {
            return Ok(whole);
        }
        // From four bits to the signed integer that they are.
        let to = Attributes::new().int("to", ElementType::Int32.to_onnx() as i64);
        let index = self.add("Cast", to, &[&whole], "nibble")?;
        let signed: Vec<i8> = (0..16).map(|n| if n < 8 { n } else { n - 16 }).collect();
        let signed = self.store("signed", Tensor::f_from_slice(&signed)?);
        self.add("Gather", Attributes::new(), &[&signed, &index], "integers")
    }
}
