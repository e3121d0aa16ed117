//! The scan: each layer alone at each width.

use sinter_data::{Order, Split};
use sinter_exec::Runner;
use sinter_model::{Granularity, Layer, Levels, Mode, Model, Quantizer};
use sinter_task::{Measurement, expose_logits};
use sinter_train::{Context, Probe, StageError};
use tch::{Kind, Tensor};

use super::allocate::{Curve, Trial};
use super::config::MixedConfig;
use crate::formats::{Format, Number};
use crate::resolved::Resolved;
use crate::weights::weight_params;

/// What is scanned, and on which samples.
pub(super) struct Scan<'a> {
    pub resolved: &'a Resolved,
    pub model: &'a Model,
    pub layers: &'a [Layer],
    pub split: &'a Split,
    pub context: &'a Context<'a>,
}

impl Scan<'_> {
    /// The stage's format for weights with other bits.
    pub fn with_bits(&self, bits: u8) -> Format {
        Format { number: Number::Integer { bits, levels: Levels::Signed }, ..self.resolved.weights }
    }

    /// The curve of every layer; the scan is remembered for later runs that begin with the same model.
    pub fn curves(&self, mixed: &MixedConfig) -> Result<Vec<Curve>, StageError> {
        let mut widths = mixed.widths.clone();
        widths.sort_unstable_by(|a, b| b.cmp(a));
        widths.dedup();
        let what = format!("bits-{}-{:?}", serde_json::to_string(&self.resolved.weights).unwrap_or_default(), widths);
        let memory = self.context.memory;
        let remembered = memory.recall(&what).and_then(|text| serde_json::from_str::<Vec<Curve>>(&text).ok());
        let known = |curves: &Vec<Curve>| curves.iter().map(|c| &c.weight).eq(self.layers.iter().map(|l| &l.weight));
        let curves = match remembered.filter(known) {
            Some(curves) => curves,
            None => {
                let curves = self.measure(&widths)?;
                memory.keep(&what, &serde_json::to_string(&curves).unwrap_or_default());
                curves
            }
        };
        for curve in &curves {
            for trial in &curve.trials {
                self.context.sensitivity(&curve.layer, Probe::Bits, trial.bits as f64, trial.lost);
            }
        }
        Ok(curves)
    }

    fn measure(&self, widths: &[u8]) -> Result<Vec<Curve>, StageError> {
        let float = self.probe(self.model)?;
        let mut curves = Vec::new();
        for layer in self.context.each("sensitivity", self.layers) {
            let mut trials = Vec::new();
            for &bits in widths {
                let mut trial = self.model.copy();
                let bytes = self.round_one(&mut trial, layer, bits)?;
                let probed = self.probe(&trial)?;
                let lost = float.quality.degradation(&probed.quality).lost.max(0.0);
                trials.push(Trial { bits, error: probed.error(&float)?, lost, bytes });
            }
            curves.push(Curve { layer: layer.name.clone(), weight: layer.weight.clone(), trials });
        }
        Ok(curves)
    }

    /// Rounds one layer's weight to the nearest of so many bits; the bytes that it takes then.
    pub fn round_one(&self, model: &mut Model, layer: &Layer, bits: u8) -> Result<u64, StageError> {
        let at = StageError::weight(&layer.weight);
        let weight = model.weight_mut(&layer.weight)?;
        let value = weight.effective().map_err(&at)?.f_detach()?;
        let shared = weight.codebook().is_some();
        let params = weight_params(layer.slot, &value, self.with_bits(bits), shared, None).map_err(&at)?;
        let Some(params) = params else { return Ok(0) };
        let scales = if params.granularity() == Granularity::Tensor { 1 } else { params.scales().len() };
        let bytes = (value.numel() * bits as usize).div_ceil(8) + 2 * scales;
        weight.quantize(Quantizer::new(&params).map_err(&at)?).map_err(&at)?;
        Ok(bytes as u64)
    }

    /// What a model puts out, and how good that is.
    fn probe(&self, model: &Model) -> Result<Probed, StageError> {
        let quality = self.context.evaluate(model, self.split, Some(self.model))?;
        let mut shown = model.copy();
        expose_logits(&mut shown, self.context.data.task);
        let runner = tch::no_grad(|| Runner::new(&shown))?;
        let mut outputs = Vec::new();
        for batch in self.split.batches(256, Order::Stored) {
            let inputs = batch?.inputs;
            outputs.push(tch::no_grad(|| runner.run(&inputs, Mode::Predict))?.swap_remove(0));
        }
        Ok(Probed { outputs, quality })
    }
}

/// What a model puts out for each batch, and its quality.
struct Probed {
    outputs: Vec<Tensor>,
    quality: Measurement,
}

impl Probed {
    fn error(&self, float: &Self) -> Result<f64, StageError> {
        let (mut change, mut whole) = (0.0, 0.0);
        for (ours, wanted) in self.outputs.iter().zip(&float.outputs) {
            let square = |t: &Tensor| t.f_square()?.f_sum(Kind::Double)?.f_double_value(&[]);
            change += square(&ours.f_sub(wanted)?)?;
            whole += square(wanted)?;
        }
        Ok(if change.is_finite() { change / whole.max(1e-30) } else { f64::MAX / 1e9 })
    }
}
