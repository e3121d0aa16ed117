//! What can be told to be wrong before anything runs.

use sinter_data::Dataset;
use sinter_estimate::Rules;
use sinter_model::{Layer, Levels};
use sinter_train::{Forecast, StageError, covers_one_of};

use crate::config::{Mode, QuantizeConfig, Scaling};
use crate::formats::{Activations, Choice, Format, Number, Per};
use crate::resolved::Resolved;

impl QuantizeConfig {
    /// Errors on what can't be quantized so.
    pub(crate) fn check(&self, resolved: &Resolved, forecast: &Forecast, data: &Dataset) -> Result<(), StageError> {
        let model = &forecast.model;
        let activations = resolved.activations;
        check_weights(resolved.weights, activations, "weights")?;
        activations.calibrated().map_or(Ok(()), |a| check_activations(a, "activations"))?;
        if matches!(self.embeddings, Choice::Format(_)) && model.tables().is_empty() {
            let reason = "the model has no look-up table: no Gather picks rows of a stored matrix that is the weight of no layer";
            return Err(StageError::config("embeddings", reason));
        }
        let named = model.layers_and_tables();
        for (i, own) in self.layers.iter().enumerate() {
            covers_one_of(model, &named, &own.r#match, &format!("layers.{i}.match"))?;
            // A look-up table meets no integer kernel: any format does.
            let of_layers = model.layers().iter().any(|l| own.r#match.matches(model, l));
            if let (Choice::Format(format), true) = (own.weights, of_layers) {
                check_weights(format, activations, &format!("layers.{i}.weights"))?;
            }
            match (own.activations, activations.calibrated()) {
                (Choice::Format(format), Some(_)) => check_activations(format, &format!("layers.{i}.activations"))?,
                (Choice::Format(_), None) => {
                    let reason =
                        "a layer alone can't have a format of its own where the stage has `activations: none` or `dynamic`";
                    return Err(StageError::config(&format!("layers.{i}.activations"), reason));
                }
                _ => {}
            }
        }
        if let Some(mixed) = &self.mixed {
            mixed.check()?;
            if !matches!(resolved.weights.number, Number::Integer { bits: 2.., levels: Levels::Signed }) {
                let reason = format!("`mixed` chooses the bits of integers: `weights` is {}", resolved.weights);
                return Err(StageError::config("weights", reason));
            }
        }
        if self.latency && activations.calibrated().is_none() {
            let reason =
                format!("`latency` chooses where calibrated integers are read, and the stage has `activations: {activations}`");
            return Err(StageError::config_help("latency", reason, "write a static format such as uint8, or drop `latency`"));
        }
        if self.latency && resolved.rules() == Rules::Tflite {
            let reason = "`latency` is measured in ONNX Runtime, and the target's kernels are those of TensorFlow Lite";
            return Err(StageError::config("latency", reason));
        }
        if self.samples == 0 {
            return Err(StageError::config("samples", "calibration needs at least one sample"));
        }
        if activations == Activations::None && self.scaling.as_ref().is_some_and(|s| s.contains(&Scaling::Smooth)) {
            let reason = "`smooth` makes activations easier to quantize, and the stage has `activations: none`: write awq";
            return Err(StageError::config("scaling", reason));
        }
        if self.mode == Mode::Ptq && self.finetune.is_some() {
            let help = "write `mode: qat`, or drop `finetune`";
            return Err(StageError::config_help("finetune", "`finetune` goes with `mode: qat`", help));
        }
        if self.mode == Mode::Ptq && self.batch_norm == Some(true) {
            let reason = "normalisations are of use while a model trains: write `mode: qat`, or drop `batch_norm`";
            return Err(StageError::config("batch_norm", reason));
        }
        if self.batch_norm == Some(true) && self.finetune.as_ref().is_some_and(|f| f.batch_size == 1) {
            let reason = "one sample has no variance: normalisations need batches of at least two";
            return Err(StageError::config("finetune.batch_size", reason));
        }
        if self.mode == Mode::Qat && activations == Activations::Dynamic {
            let reason = "ranges that follow each batch can't be trained: write a static format such as uint8, or none";
            return Err(StageError::config("activations", reason));
        }
        if self.mode == Mode::Qat && self.rounding.is_some() {
            let reason = "`rounding` goes with `mode: ptq`: training rounds to nearest";
            return Err(StageError::config("rounding", reason));
        }
        if model.graph.nodes.iter().any(|n| n.op.boundary().is_some()) {
            let reason = "the model is already quantized: it holds QuantizeLinear or DequantizeLinear nodes";
            return Err(StageError::config("", reason));
        }
        if model.layers().iter().any(|l| forecast.of(&l.weight).quantized) {
            return Err(StageError::config("", "the model is already quantized: remove the second `quantize` stage"));
        }
        let layers = model.layers();
        if layers.is_empty() {
            return Err(StageError::config("", "the model has no layer with weights to quantize"));
        }
        let binary = |l: &&Layer| resolved.weight(l).is_some_and(|f| f.bits() == 1);
        if let Some(layer) = layers.iter().filter(binary).find(|l| forecast.of(&l.weight).masked) {
            let reason = format!("binary weights are never zero, and layer `{}` has pruned ones: write ternary", layer.name);
            return Err(StageError::config("weights", reason));
        }
        self.check_data(resolved, data)
    }

    fn check_data(&self, resolved: &Resolved, data: &Dataset) -> Result<(), StageError> {
        let empty = data.train.is_empty() && data.validation.is_empty();
        if empty && resolved.activations.calibrated().is_some() {
            return Err(StageError::config("activations", "calibration needs training samples, and there are none"));
        }
        if empty && self.accuracy_drop.is_some() {
            return Err(StageError::config("accuracy_drop", "quality is measured on training samples, and there are none"));
        }
        if self.mode == Mode::Qat {
            self.fit_config().check("finetune", data)?;
        }
        if self.tune_biases && !data.train.is_labelled() {
            return Err(StageError::config("tune_biases", "biases are tuned on labels, and the training samples have none"));
        }
        if self.tune_biases && self.mode == Mode::Qat {
            return Err(StageError::config("tune_biases", "`mode: qat` trains biases already"));
        }
        Ok(())
    }
}

/// Integer kernels want weights with zero point 0.
fn check_weights(format: Format, activations: Activations, key: &str) -> Result<(), StageError> {
    match format.number {
        Number::Integer { levels: Levels::Unsigned, bits } if activations != Activations::None => {
            let reason = format!(
                "{format} weights have zero points, which integer kernels don't take: write int{bits}, or `activations: none`"
            );
            Err(StageError::config(key, reason))
        }
        _ => Ok(()),
    }
}

fn check_activations(format: Format, key: &str) -> Result<(), StageError> {
    if format.per != Per::Tensor {
        return Err(StageError::config(key, "activations take one scale a tensor: write uint8 or int8"));
    }
    match format.number {
        Number::Integer { levels: Levels::Signed | Levels::Unsigned, .. } => Ok(()),
        Number::Integer { levels: Levels::Symmetric, bits: 3.. } => Ok(()),
        _ => Err(StageError::config(key, format!("activations take integers: write uint8 or int8, not {format}"))),
    }
}
