//! Operations, bytes, joules and seconds of one inference.

use serde::{Deserialize, Serialize};
use sinter_exec::{ExecError, io_shapes};
use sinter_model::{Macs, Mask, Model, NmPattern, Role, Weight};

use crate::board::{Interval, Quantity};
use crate::target::Target;

/// What one layer does and holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerFootprint {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub kind: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// The N:M pattern of its weight.
    #[serde(default)]
    pub pattern: Option<NmPattern>,
    /// Bits of the operands: 8 when weight and input are on quantizers of at most 8 bits, else 32.
    pub bits: u8,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of activations read and written.
    pub activation_bytes: u64,
}

/// What a model does in one inference on one sample.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Footprint {
    /// In graph order.
    pub layers: Vec<LayerFootprint>,
}

impl Footprint {
    /// All multiply-accumulates.
    pub fn macs(&self) -> Macs {
        Macs(self.layers.iter().map(|l| l.macs).sum())
    }

    /// Multiply-accumulates by kind of operator, the most first; operators without any are left out.
    pub fn macs_by_kind(&self) -> Vec<(String, u64)> {
        let mut kinds: Vec<(String, u64)> = Vec::new();
        for layer in self.layers.iter().filter(|l| l.macs > 0) {
            match kinds.iter_mut().find(|(kind, _)| *kind == layer.kind) {
                Some((_, macs)) => *macs += layer.macs,
                None => kinds.push((layer.kind.clone(), layer.macs)),
            }
        }
        kinds.sort_by_key(|(_, macs)| std::cmp::Reverse(*macs));
        kinds
    }

    /// Whether every product is one of integers.
    fn is_int8(&self) -> bool {
        self.layers.iter().filter(|l| l.macs > 0).all(|l| l.bits <= 8)
    }
}

/// What one inference takes of a target's energy and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Joules of arithmetic and of bytes moved once: no real device uses less.
    pub floor: f64,
    /// Joules on boards of this kind; only for models that are all in 8 bits.
    pub energy: Option<Interval>,
    /// Seconds on boards of this kind; only for models that are all in 8 bits.
    pub latency: Option<Interval>,
}

/// Counts the operations and bytes of every node.
pub fn footprint(model: &Model) -> Result<Footprint, ExecError> {
    let mut layers = Vec::new();
    for (node, shapes) in model.graph.nodes.iter().zip(io_shapes(model)?) {
        let cost = node.op.cost(&shapes);
        let parameters = || node.present_inputs().filter_map(|n| model.weights.get(n)).filter(|w| w.role != Role::Constant);
        let weight_bits =
            parameters().filter(|w| w.latent().dim() > 1).map(|w| w.quantizer().map_or(32, |g| g.bits())).max().unwrap_or(32);
        let value_bits = |name: &str| model.activations.get(name).map_or(32, |g| g.bits());
        let input_bits = model.integers_read(node).map_or(32, |g| g.bits());
        let len = |shape: &[i64]| shape.iter().product::<i64>().max(0) as u64;
        let values = node.inputs.iter().zip(&shapes.inputs).filter(|(n, _)| !model.weights.contains_key(*n));
        let read: u64 = values.map(|(n, s)| s.as_ref().map_or(0, |s| len(s)) * value_bits(n).div_ceil(8) as u64).sum();
        let written: u64 = node.outputs.iter().zip(&shapes.outputs).map(|(n, s)| len(s) * value_bits(n).div_ceil(8) as u64).sum();
        // Of a look-up table only the rows that are picked are read.
        let stored = |w: &Weight| if node.op.table().is_some() { shapes.output_len(0) as usize } else { w.numel() };
        layers.push(LayerFootprint {
            node: node.name.clone(),
            kind: node.kind().to_string(),
            macs: cost.macs,
            pattern: parameters().find_map(|w| w.mask().and_then(Mask::pattern)),
            bits: if weight_bits.max(input_bits) <= 8 { 8 } else { 32 },
            weight_bytes: parameters()
                .map(|w| (stored(w) * w.quantizer().map_or(32, |g| g.bits()) as usize).div_ceil(8) as u64)
                .sum(),
            activation_bytes: read + written,
        });
    }
    Ok(Footprint { layers })
}

/// Estimates what one inference costs on a target. Zeros that no pattern orders and shared values save no operation anywhere.
pub fn costs(footprint: &Footprint, target: &Target) -> Costs {
    let picojoules = |l: &LayerFootprint| {
        let mac = if l.bits <= 8 { target.floor.mac_int8_pj } else { target.floor.mac_float32_pj };
        let bytes = (l.weight_bytes + l.activation_bytes) as f64;
        l.macs as f64 * target.work(l.pattern) * mac + bytes * target.floor.byte_pj
    };
    let macs = footprint.layers.iter().map(|l| l.macs as f64 * target.work(l.pattern)).sum::<f64>().round() as u64;
    let board = target.board.as_ref().filter(|_| footprint.is_int8() && macs > 0);
    Costs {
        floor: footprint.layers.iter().map(picojoules).sum::<f64>() * 1e-12,
        energy: board.and_then(|b| b.estimate(Quantity::Energy, macs)),
        latency: board.and_then(|b| b.estimate(Quantity::Latency, macs)),
    }
}
