//! From what the user wrote to what will be done.

use serde_json::json;
use sinter_model::{Layer, Model, fold_batch_norm};
use sinter_train::{DistillFrom, FitConfig, Forecast, LayerPlan, Setting, Stage, StageError, Step, StepPlan, TeacherRef};

use crate::config::{Mode, QuantizeConfig};
use crate::formats::{Activations, Number};
use crate::kernels::Kernels;
use crate::passes;
use crate::placement::{in_integers, place};
use crate::resolved::Resolved;
use crate::sketch::sketch;
use crate::step::Quantize;

impl Stage for QuantizeConfig {
    fn name(&self) -> &'static str {
        "quantize"
    }

    fn teachers(&self) -> Vec<TeacherRef> {
        if self.mode == Mode::Qat { self.fit_config().teachers() } else { vec![] }
    }

    fn resolve(&self, forecast: &mut Forecast, setting: &Setting) -> Result<Box<dyn Step>, StageError> {
        let kernels = Kernels::of(setting.target)?;
        // What a target says of energy counts only where bits are chosen by it.
        let floor = self
            .mixed
            .as_ref()
            .is_some_and(|m| m.energy.is_some())
            .then(|| (setting.target.floor.clone(), setting.target.sparse.clone()));
        let settings = json!({ "config": self, "kernels": kernels, "energy": floor });
        let mut plan = StepPlan::new("quantize", self.what(setting), &settings);
        let unfolded = Resolved::new(self, kernels.clone(), forecast);
        self.check(&unfolded, forecast, setting.data)?;
        fold_batch_norm(&mut forecast.model)?;
        let resolved = Resolved::new(self, kernels, forecast);
        for (pass, what) in passes::of(&resolved) {
            plan = plan.pass(pass.name(), what);
        }
        plan.layers = forecast.model.layers_and_tables().iter().map(|l| describe(&resolved, &forecast.model, l)).collect();
        outline(&resolved, forecast)?;
        Ok(Box::new(Quantize { resolved, plan }))
    }
}

impl QuantizeConfig {
    /// Training for `mode: qat`: one tenth of the usual rate, from the float model, unless the user says otherwise.
    pub(crate) fn fit_config(&self) -> FitConfig {
        let default = || FitConfig { lr: 1e-4, distill: Some(DistillFrom::default()), ..FitConfig::epochs(2) };
        self.finetune.clone().unwrap_or_else(default)
    }

    /// What is asked, in a few words.
    fn what(&self, setting: &Setting) -> String {
        let asked = self.weights.map(|w| w.to_string());
        let asked = asked.or_else(|| Some(setting.target.quantization.as_ref()?.weights.clone()));
        let weights = asked.unwrap_or_else(|| crate::formats::int8_channel().to_string());
        match self.mode {
            Mode::Ptq => format!("quantize to {weights} PTQ"),
            Mode::Qat => format!("quantize to {weights} QAT ({})", self.fit_config().epochs_text()),
        }
    }
}

/// What becomes of one layer, and the kernel that it will meet.
fn describe(resolved: &Resolved, model: &Model, layer: &Layer) -> LayerPlan {
    let node = &model.graph.nodes[layer.node];
    let kind = node.kind().to_string();
    let entry =
        |action: String, reason: Option<String>| LayerPlan { layer: layer.name.clone(), kind: kind.clone(), action, reason };
    let Some(formats) = resolved.layers.get(&layer.weight) else {
        return match resolved.tables.get(&layer.weight) {
            Some(format) => entry(format!("{format}, rounded by nearest; rows are picked as integers"), None),
            None => entry(String::new(), Some("it is left as it is by `embeddings` or `layers`".into())),
        };
    };
    let Some(format) = formats.weight else {
        let reason = match (&resolved.kernels, formats.named) {
            (Some(kernels), false) => format!("the kernels of {} compute {kind} in float", kernels.target),
            _ => "`layers` says none".to_string(),
        };
        return entry(String::new(), Some(reason));
    };
    let bits = match &resolved.config.mixed {
        Some(mixed) if !formats.named => format!("{:?} bits, chosen by a scan", mixed.widths),
        _ => format!("{format}, rounded by {}", resolved.rounding(formats.facts, Some(format)).name()),
    };
    let product = node.op.integer_kernel().is_some();
    let reads = match (formats.input, formats.dynamic) {
        (Some(input), _) if resolved.runs(&kind) && matches!(format.number, Number::Integer { .. }) => {
            format!("reads {input}, integer kernel")
        }
        (_, true) if product => "reads 8 bits by each batch's range, integer kernel".into(),
        _ => "reads float, weights widened".into(),
    };
    entry(format!("{bits}; {reads}"), None)
}

/// Puts quantizers of made-up ranges on the forecast's model, so that later stages and exports see what there will be.
fn outline(resolved: &Resolved, forecast: &mut Forecast) -> Result<(), StageError> {
    let placement = match resolved.activations {
        Activations::Static(_) => place(&forecast.model, resolved, &in_integers(&forecast.model, resolved)),
        _ => Default::default(),
    };
    sketch(&mut forecast.model, resolved, &placement, &|layer| resolved.weight(layer))?;
    let layers = forecast.model.layers();
    layers.iter().filter(|l| resolved.weight(l).is_some()).for_each(|l| forecast.set(l, |e| e.quantized = true));
    Ok(())
}
