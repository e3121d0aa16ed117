//! What a model is, after a stage: size, quality, operations, energy, and the same by layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinter_estimate::{Footprint, Target};
use sinter_model::{Model, ModelError, OpError, Role};
use sinter_onnx::OnnxError;
use sinter_report::{CurveRow, LayerRow, SensitivityRow, StageRow};
use sinter_task::{Examined, Measurement, TaskError, examine_model};
use sinter_train::{Event, Events};

use crate::resolve::Plan;
use crate::snapshot::{Snapshot, SnapshotError};

/// Why a stage's result could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// It could not be looked at.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Its quality could not be told.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// It has no ONNX file to be compared with.
    #[error("as float32 ONNX: {0}")]
    Onnx(#[from] OnnxError),
    /// It lacks something that its graph names.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A weight could not be described.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// Everything that is measured of one stage, and what it said on the way; kept beside its model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub row: StageRow,
    pub layers: Vec<LayerRow>,
    pub quality: Measurement,
    /// By the metrics beside the leading one.
    #[serde(default)]
    pub others: Vec<Measurement>,
    /// What costs are estimated from, whatever the target.
    pub footprint: Footprint,
    pub said: Said,
}

/// What a stage said while it ran.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Said {
    pub curves: Vec<CurveRow>,
    pub sensitivity: Vec<SensitivityRow>,
    /// What calibration saw: value, least, greatest.
    pub seen: Vec<(String, f64, f64)>,
    pub notes: Vec<String>,
}

/// Measures what stage `index` left on the test split. `reference` is the float model.
pub(crate) fn measure(
    plan: &Plan,
    snapshot: &Snapshot,
    index: usize,
    reference: Option<&Model>,
    said: Said,
    events: Events,
) -> Result<Measured, MeasureError> {
    let model = snapshot.model;
    let packed = snapshot.packed()?;
    let footprint = snapshot.footprint()?;
    let memory = snapshot.memory()?;
    let what =
        if index == 0 { "measuring the model".to_string() } else { format!("measuring what {} left", plan.stage_name(index)) };
    let progress = |done, total| events(Event::Progress { what: what.clone(), done, total });
    let examined = examine_model(model, &plan.data.test, plan.data.task, &plan.metrics(), reference, &progress)?;
    let mut others: Vec<Measurement> = examined.iter().map(Examined::with_interval).collect();
    let quality = others.remove(0);
    let mut nonzero = 0;
    for weight in model.weights.values().filter(|w| w.role == Role::Parameter) {
        nonzero += ((1.0 - weight.sparsity()?) * weight.numel() as f64).round() as u64;
    }
    let stage = plan.stage_name(index);
    let row = StageRow {
        index,
        stage: stage.clone(),
        what: plan.what(index),
        packed_bytes: packed.bytes.len() as u64,
        onnx_float_bytes: sinter_onnx::export(model)?.len() as u64,
        parameters: model.parameters() as u64,
        nonzero,
        macs: footprint.macs().0,
        value: quality.value,
        top5: quality.top5,
        ram: memory.ram,
        flash: memory.flash,
        ..StageRow::default()
    };
    let row = estimated(row, footprint, &plan.target);
    let macs: BTreeMap<&str, u64> = footprint.layers.iter().map(|l| (l.node.as_str(), l.macs)).collect();
    let mut layers = Vec::new();
    for layer in model.layers_and_tables() {
        let weight = model.weight(&layer.weight)?;
        let bias = layer.bias.as_ref().and_then(|b| packed.tensors.get(b)).copied().unwrap_or(0.0);
        layers.push(LayerRow {
            stage_index: index,
            stage: stage.clone(),
            kind: model.graph.nodes[layer.node].kind().to_string(),
            shape: weight.size().iter().map(|n| n.to_string()).collect::<Vec<_>>().join("×"),
            parameters: weight.numel() as u64,
            sparsity: weight.sparsity()?,
            encoding: weight.describe()?,
            bits: weight.bits(),
            macs: macs.get(layer.name.as_str()).copied().unwrap_or(0),
            packed_bytes: packed.tensors.get(&layer.weight).copied().unwrap_or(0.0) + bias,
            layer: layer.name,
        });
    }
    Ok(Measured { row, layers, quality, others, footprint: footprint.clone(), said })
}

/// The row with what is estimated for the target.
pub(crate) fn estimated(row: StageRow, footprint: &Footprint, target: &Target) -> StageRow {
    let costs = sinter_estimate::costs(footprint, target);
    StageRow {
        energy_floor: costs.floor,
        energy_low: costs.energy.map(|e| e.low),
        energy_middle: costs.energy.map(|e| e.middle),
        energy_high: costs.energy.map(|e| e.high),
        latency_low: costs.latency.map(|l| l.low),
        latency_middle: costs.latency.map(|l| l.middle),
        latency_high: costs.latency.map(|l| l.high),
        ..row
    }
}
