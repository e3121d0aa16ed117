//! What a model is, after a stage: size, quality, operations, energy, and the same by layer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinter_estimate::Target;
use sinter_export::{Packed, pack, unpack};
use sinter_model::{Bytes, Model, Role};
use sinter_report::{CurveRow, LayerRow, SensitivityRow, StageRow};
use sinter_train::{Quality, evaluate};

use crate::plan::Plan;
use crate::run::RunError;

/// Everything that is told about one stage; kept beside its checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub row: StageRow,
    pub layers: Vec<LayerRow>,
    pub quality: Quality,
    pub curves: Vec<CurveRow>,
    pub sensitivity: Vec<SensitivityRow>,
    /// What calibration saw: value, least, greatest.
    #[serde(default)]
    pub seen: Vec<(String, f64, f64)>,
    pub notes: Vec<String>,
}

/// Packs a model, reads the bytes back, and errors unless every effective weight came back bit for bit.
pub(crate) fn pack_checked(model: &Model) -> Result<Packed, RunError> {
    let packed = pack(model)?;
    let back = unpack(&packed.bytes)?;
    for (name, weight) in &model.weights {
        let same = match back.weights.get(name) {
            Some(other) => same_bits(&weight.effective()?, &other.effective()?)?,
            None => false,
        };
        if !same {
            return Err(RunError::PackMismatch(name.clone()));
        }
    }
    Ok(packed)
}

fn same_bits(a: &tch::Tensor, b: &tch::Tensor) -> Result<bool, RunError> {
    let (a, b) = (a.f_detach()?, b.f_detach()?);
    Ok(a.kind() == b.kind() && a.size() == b.size() && (a.f_eq_tensor(&b)?.f_all()?.f_int64_value(&[])? != 0))
}

/// Measures a model on the test split. `reference` is the float model.
pub(crate) fn measure(plan: &Plan, model: &Model, index: usize, reference: Option<&Model>) -> Result<Measured, RunError> {
    let packed = pack_checked(model)?;
    let float_bytes = sinter_onnx::export(model)?.len() as u64;
    let quality = evaluate(model, &plan.data.test, plan.data.task, reference)?;
    let footprint = sinter_estimate::footprint(model)?;
    let mut nonzero = 0;
    for weight in model.weights.values().filter(|w| w.role == Role::Parameter) {
        nonzero += ((1.0 - weight.sparsity()?) * weight.numel() as f64).round() as u64;
    }
    let stage = plan.stage_name(index);
    let row = StageRow {
        index,
        stage: stage.clone(),
        what: what(plan, index),
        packed_bytes: packed.bytes.len() as u64,
        onnx_float_bytes: float_bytes,
        parameters: model.parameters() as u64,
        nonzero,
        macs: footprint.macs().0,
        value: quality.value,
        top5: quality.top5,
        ..StageRow::default()
    };
    let row = estimated(row, model, &plan.target)?;
    let macs: BTreeMap<&str, u64> = footprint.layers.iter().map(|l| (l.node.as_str(), l.macs)).collect();
    let mut layers = Vec::new();
    for layer in model.layers() {
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
    Ok(Measured { row, layers, quality, curves: vec![], sensitivity: vec![], seen: vec![], notes: vec![] })
}

/// The row with what is estimated for the target.
pub(crate) fn estimated(row: StageRow, model: &Model, target: &Target) -> Result<StageRow, RunError> {
    let costs = sinter_estimate::costs(&sinter_estimate::footprint(model)?, target);
    let memory = sinter_estimate::memory(model)?;
    Ok(StageRow {
        energy_floor: costs.floor,
        energy_low: costs.energy.map(|e| e.low),
        energy_middle: costs.energy.map(|e| e.middle),
        energy_high: costs.energy.map(|e| e.high),
        latency_low: costs.latency.map(|l| l.low),
        latency_middle: costs.latency.map(|l| l.middle),
        latency_high: costs.latency.map(|l| l.high),
        ram: memory.ram,
        flash: memory.flash,
        ..row
    })
}

/// A stage's request in a few words: its keys that are not nested.
fn what(plan: &Plan, index: usize) -> String {
    let Some(stage) = plan.config.stages.get(index.wrapping_sub(1)) else {
        return match (&plan.config.model.zoo, &plan.config.model.onnx) {
            (Some(zoo), _) => format!("{}, untrained", zoo.name()),
            (None, onnx) => onnx.iter().map(|p| p.display().to_string()).collect(),
        };
    };
    let value = serde_json::to_value(stage).unwrap_or_default();
    let inner = value.as_object().and_then(|o| o.values().next()).cloned().unwrap_or_default();
    let name = stage.stage().name();
    let get = |path: &[&str]| path.iter().try_fold(&inner, |v, k| v.get(k)).filter(|v| !v.is_null()).cloned();
    let text = |v: serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
    let percent = |v: serde_json::Value| format!("{:.0} %", v.as_f64().unwrap_or(0.0) * 100.0);
    // With that scope the share is not one of what is removed.
    let counted = |scope: &[&str], what: &'static str| if get(scope).is_some_and(|s| s == "macs") { "MACs" } else { what };
    let mut parts = vec![name.to_string()];
    parts.extend(
        get(&["structured", "ratio"]).map(|r| format!("{} of the {}", percent(r), counted(&["structured", "scope"], "channels"))),
    );
    parts.extend(
        get(&["unstructured", "sparsity"])
            .map(|r| format!("{} of the {}", percent(r), counted(&["unstructured", "scope"], "weights"))),
    );
    parts.extend(get(&["pattern"]).map(|p| format!("to {}", text(p))));
    parts.extend(get(&["blocks"]).map(|b| format!("{} residual blocks", text(b))));
    parts.extend(get(&["centroids"]).map(|c| format!("to {} values", text(c))));
    parts.extend(get(&["vector"]).filter(|v| *v != 1).map(|v| format!("for {} weights each", text(v))));
    parts.extend(get(&["budget"]).map(|b| format!("to {}", b.as_u64().map_or(text(b), |b| Bytes(b).to_string()))));
    parts.extend(get(&["entropy"]).filter(|e| e.as_f64() != Some(0.0)).map(|e| format!("at {} a bit", text(e))));
    parts.extend(get(&["teacher"]).map(|t| format!("from {}", text(t))));
    parts.extend(get(&["weights"]).map(|w| format!("to {}", text(w))));
    parts.extend(get(&["mode"]).map(|m| text(m).to_uppercase()));
    let epochs = get(&["finetune", "epochs"]).or_else(|| get(&["epochs"]));
    parts.extend(epochs.map(|e| format!("({} epochs)", text(e))));
    parts.join(" ")
}
