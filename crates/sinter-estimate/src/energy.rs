//! Operations, bytes and joules of one inference.

use serde::{Deserialize, Serialize};
use sinter_exec::{ExecError, io_shapes};
use sinter_model::{Joules, Macs, Model, Role};

use crate::target::Target;

/// What one layer does and holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerFootprint {
    pub node: String,
    pub kind: String,
    pub macs: u64,
    /// Bits of the operands: 8 when weight and input are on grids of at most 8 bits, else 32.
    pub bits: u8,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of activations read and written.
    pub activation_bytes: u64,
}

/// What a model does in one inference on one sample.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Footprint {
    pub layers: Vec<LayerFootprint>,
}

impl Footprint {
    /// All multiply-accumulates.
    pub fn macs(&self) -> Macs {
        Macs(self.layers.iter().map(|l| l.macs).sum())
    }
}

/// An energy estimate for one inference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnergyEstimate {
    /// Arithmetic plus bytes moved once: no real device uses less.
    pub floor: f64,
    pub floor_source: String,
    /// Low and high end over published results for boards of this kind; only for all-int8 models.
    pub board: Option<(f64, f64)>,
    pub board_source: Option<String>,
    /// Seconds, low and high end over published results for boards of this kind; only for all-int8 models.
    pub latency: Option<(f64, f64)>,
}

impl EnergyEstimate {
    /// The floor with its unit.
    pub fn floor(&self) -> Joules {
        Joules(self.floor)
    }
}

/// Counts the operations and bytes of every node.
pub fn footprint(model: &Model) -> Result<Footprint, ExecError> {
    let mut layers = Vec::new();
    for (node, shapes) in model.graph.nodes.iter().zip(io_shapes(model)?) {
        let cost = node.op.cost(&shapes);
        let parameters = || node.present_inputs().filter_map(|n| model.weights.get(n)).filter(|w| w.role != Role::Constant);
        let weight_bits =
            parameters().filter(|w| w.latent().dim() > 1).map(|w| w.grid().map_or(32, |g| g.bits())).max().unwrap_or(32);
        let value_bits = |name: &str| model.activations.get(name).map_or(32, |g| g.bits());
        let input_bits = node.inputs.first().map_or(32, |n| value_bits(n));
        let len = |shape: &[i64]| shape.iter().product::<i64>().max(0) as u64;
        let values = node.inputs.iter().zip(&shapes.inputs).filter(|(n, _)| !model.weights.contains_key(*n));
        let read: u64 = values.map(|(n, s)| s.as_ref().map_or(0, |s| len(s)) * value_bits(n).div_ceil(8) as u64).sum();
        let written: u64 = node.outputs.iter().zip(&shapes.outputs).map(|(n, s)| len(s) * value_bits(n).div_ceil(8) as u64).sum();
        layers.push(LayerFootprint {
            node: node.name.clone(),
            kind: node.kind().to_string(),
            macs: cost.macs,
            bits: if weight_bits.max(input_bits) <= 8 { 8 } else { 32 },
            weight_bytes: parameters().map(|w| (w.numel() * w.grid().map_or(32, |g| g.bits()) as usize).div_ceil(8) as u64).sum(),
            activation_bytes: read + written,
        });
    }
    Ok(Footprint { layers })
}

/// Estimates the energy of one inference on a target.
pub fn energy(footprint: &Footprint, target: &Target) -> EnergyEstimate {
    let pj: f64 = footprint
        .layers
        .iter()
        .map(|l| {
            let mac = if l.bits <= 8 { target.floor.mac_int8_pj } else { target.floor.mac_float32_pj };
            l.macs as f64 * mac + (l.weight_bytes + l.activation_bytes) as f64 * target.floor.byte_pj
        })
        .sum();
    let int8 = footprint.layers.iter().filter(|l| l.macs > 0).all(|l| l.bits <= 8);
    let macs = footprint.macs().0 as f64;
    let board = target.board.as_ref().filter(|_| int8 && macs > 0.0);
    let seconds = |l: &crate::target::Latency, cycles: f64| macs * cycles / (l.clock_mhz * 1e6);
    EnergyEstimate {
        floor: pj * 1e-12,
        floor_source: target.floor.source.clone(),
        board: board.map(|b| (macs * b.low_pj_per_mac * 1e-12, macs * b.high_pj_per_mac * 1e-12)),
        board_source: board.map(|b| b.source.clone()),
        latency: target
            .latency
            .as_ref()
            .filter(|_| int8 && macs > 0.0)
            .map(|l| (seconds(l, l.low_cycles_per_mac), seconds(l, l.high_cycles_per_mac))),
    }
}
