//! Data as the model of a pipeline sees it: how many of what, how values lie, and some samples to look at.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use sinter_data::{DataError, Order, Split, Task};
use sinter_exec::{ExecError, Runner};
use sinter_model::{Mode, OpError, WriteError, to_f32s, to_i64s};
use sinter_report::{ReportError, Tile, draw_tiles};
use tch::{Kind, Tensor};

use crate::resolve::Plan;

/// Samples whose values are looked at.
const SEEN: usize = 1024;
const BATCH: usize = 64;
/// Features that are told one by one.
const FEW: i64 = 32;

/// Why data could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The samples could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model did not run on them.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A value could not be looked at.
    #[error(transparent)]
    Op(#[from] OpError),
    /// The picture could not be drawn.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The picture could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<tch::TchError> for PreviewError {
    fn from(error: tch::TchError) -> Self {
        Self::Op(error.into())
    }
}

/// How many samples a split has, and of which classes.
#[derive(Debug, Clone, Serialize)]
pub struct SplitFacts {
    /// `train`, `validation` or `test`.
    pub name: &'static str,
    /// The number of samples.
    pub samples: usize,
    /// Samples of each class, in the order of their numbers; empty where labels are no classes.
    pub classes: Vec<usize>,
}

/// How the values of a channel lie, over training samples.
#[derive(Debug, Clone, Serialize)]
pub struct ChannelFacts {
    /// Counted from 0; `None` for all values together.
    pub channel: Option<usize>,
    /// The least.
    pub low: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
    /// The greatest.
    pub high: f64,
}

/// What goes into one input.
#[derive(Debug, Clone, Serialize)]
pub struct InputFacts {
    /// The model's input.
    pub input: String,
    /// Of one sample.
    pub shape: Vec<i64>,
    /// Its channels, or all together.
    pub channels: Vec<ChannelFacts>,
}

/// Data as the model sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// The name of the data set.
    pub data: String,
    /// What the model is asked to do.
    pub task: &'static str,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// What there is.
    pub splits: Vec<SplitFacts>,
    /// What goes in.
    pub inputs: Vec<InputFacts>,
    /// What may be wrong.
    pub remarks: Vec<String>,
    /// The share of the samples looked at for which a trained classifier says the label.
    pub right: Option<f64>,
}

impl Plan {
    /// Looks at the data, and draws samples of the training split (of the test split where that is empty) into a picture.
    pub fn preview(&self, picture: &Path, samples: usize) -> Result<Preview, PreviewError> {
        let data = &self.data;
        let splits = [("train", &data.train), ("validation", &data.validation), ("test", &data.test)];
        let splits = splits.into_iter().map(|(name, split)| self.split_facts(name, split)).collect::<Result<Vec<_>, _>>()?;
        let shown = if data.train.is_empty() { &data.test } else { &data.train };
        let (inputs, right) = self.values(&shown.sample(SEEN, self.config.seed))?;
        self.draw(&shown.sample(samples, self.config.seed), picture, samples)?;
        let mut remarks = remarks(&inputs);
        for split in splits.iter().filter(|s| s.samples > 0) {
            let absent = split.classes.iter().enumerate().filter(|(_, n)| **n == 0).map(|(class, _)| self.class(class as i64));
            let absent: Vec<String> = absent.collect();
            if !absent.is_empty() && absent.len() < split.classes.len() {
                remarks.push(format!("the {} split has no sample of {}", split.name, absent.join(", ")));
            }
        }
        let (task, classes) = (data.task.name(), data.classes.clone());
        Ok(Preview { data: data.name.clone(), task, classes, splits, inputs, remarks, right })
    }

    fn class(&self, label: i64) -> String {
        let name = usize::try_from(label).ok().and_then(|at| self.data.classes.get(at));
        name.cloned().unwrap_or_else(|| label.to_string())
    }

    fn split_facts(&self, name: &'static str, split: &Split) -> Result<SplitFacts, PreviewError> {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        for label in split.classes() {
            *counts.entry(label).or_default() += 1;
        }
        let of = |class: usize| counts.get(&(class as i64)).copied().unwrap_or(0);
        let classes = if counts.is_empty() { vec![] } else { (0..self.data.classes.len()).map(of).collect() };
        Ok(SplitFacts { name, samples: split.len(), classes })
    }

    /// How values lie, and how often a trained classifier is right.
    pub(crate) fn values(&self, split: &Split) -> Result<(Vec<InputFacts>, Option<f64>), PreviewError> {
        let runner = self.trained_classifier()?.filter(|_| split.is_labelled());
        let mut parts: Vec<Vec<Tensor>> = Vec::new();
        let mut hits = 0;
        for batch in split.batches(BATCH, Order::Stored) {
            let batch = batch?;
            parts.resize_with(batch.inputs.len(), Vec::new);
            for (all, value) in parts.iter_mut().zip(&batch.inputs) {
                all.push(moments(value)?);
            }
            if let (Some(runner), Some(labels)) = (&runner, &batch.y) {
                let outputs = tch::no_grad(|| runner.run(&batch.inputs, Mode::Predict))?;
                if let Some(output) = outputs.first() {
                    let equal = output.f_argmax(-1, false)?.f_reshape([-1])?.f_eq_tensor(labels)?;
                    hits += equal.f_sum(Kind::Int64)?.f_int64_value(&[])?;
                }
            }
        }
        let graph = &self.model.graph;
        let whole = parts.len() == graph.inputs.len();
        let names = graph.inputs.iter().filter(|i| whole || !graph.is_state(&i.name));
        let mut facts = Vec::new();
        for (info, parts) in names.zip(&parts) {
            let shape = self.data.shape_of(&info.name).unwrap_or_default();
            facts.push(InputFacts { input: info.name.clone(), shape, channels: channels(parts)? });
        }
        Ok((facts, runner.map(|_| hits as f64 / split.len().max(1) as f64)))
    }

    /// The model, where it is a classifier that was trained elsewhere.
    fn trained_classifier(&self) -> Result<Option<Runner<'_>>, ExecError> {
        let trained = self.config.model.onnx.is_some() && matches!(self.data.task, Task::Classify(_));
        trained.then(|| tch::no_grad(|| Runner::new(&self.model))).transpose()
    }

    fn draw(&self, split: &Split, picture: &Path, samples: usize) -> Result<(), PreviewError> {
        let runner = self.trained_classifier()?;
        let mut tiles = Vec::new();
        for batch in split.batches(1, Order::Stored).take(samples) {
            let batch = batch?;
            let value = batch.x().f_squeeze_dim(0)?;
            let mut caption = match &batch.y {
                Some(y) if y.numel() == 1 && !y.is_floating_point() => self.class(y.f_int64_value(&[0])?),
                Some(y) => numbers(y)?,
                None => String::new(),
            };
            if let Some(runner) = &runner {
                let outputs = tch::no_grad(|| runner.run(&batch.inputs, Mode::Predict))?;
                let said = outputs.first().map(|o| o.f_argmax(-1, false)?.f_reshape([-1])?.f_int64_value(&[0])).transpose()?;
                let said = said.map(|label| self.class(label)).unwrap_or_default();
                caption = if caption.is_empty() || caption == said { said } else { format!("{caption}, predicted {said}") };
            }
            tiles.push(Tile { shape: value.size(), values: to_f32s(&value.f_to_kind(Kind::Float)?)?, caption });
        }
        let png = draw_tiles(&format!("{}: samples as the model sees them", self.data.name), &tiles)?;
        Ok(sinter_model::write_whole(picture, &png)?)
    }
}

/// The first numbers of a label.
fn numbers(label: &Tensor) -> Result<String, PreviewError> {
    let flat = label.f_reshape([-1])?;
    let few = flat.f_narrow(0, 0, flat.numel().min(6) as i64)?;
    let text: Vec<String> = match few.is_floating_point() {
        // Marks of 0 and 1 are no measurements.
        true => to_f32s(&few)?.iter().map(|v| if v.fract() == 0.0 { format!("{v}") } else { format!("{v:.3}") }).collect(),
        false => to_i64s(&few)?.iter().map(i64::to_string).collect(),
    };
    Ok(text.join(" ") + if flat.numel() > 6 { " …" } else { "" })
}

/// Of each channel of a batch: the number of values, least, greatest, sum and sum of squares, and how many are no whole number, float64 `[channels, 6]`.
/// Samples of images `[channels, height, width]` have channels, rows of few features too; all else is one.
fn moments(batch: &Tensor) -> Result<Tensor, PreviewError> {
    let size = batch.size();
    let channels = match size[..] {
        [_, c, _, _] => c,
        [_, features] if features <= FEW => features,
        _ => 1,
    };
    let rows = if channels > 1 { batch.f_transpose(0, 1)?.f_reshape([channels, -1])? } else { batch.f_reshape([1, -1])? };
    let rows = rows.f_to_kind(Kind::Double)?;
    let count = rows.size()[1] as f64;
    let sum = |t: Tensor| t.f_sum_dim_intlist(1, false, Kind::Double);
    let low = rows.f_amin(1, false)?;
    let all = [
        low.f_full_like(count)?,
        low,
        rows.f_amax(1, false)?,
        sum(rows.shallow_clone())?,
        sum(rows.f_square()?)?,
        sum(rows.f_ne_tensor(&rows.f_round()?)?.f_to_kind(Kind::Double)?)?,
    ];
    Ok(Tensor::f_stack(&all, 1)?)
}

fn channels(parts: &[Tensor]) -> Result<Vec<ChannelFacts>, PreviewError> {
    let Some(first) = parts.first() else { return Ok(vec![]) };
    let count = first.size()[0] as usize;
    let mut facts = Vec::new();
    for channel in 0..count {
        let mut all = [0.0, f64::INFINITY, f64::NEG_INFINITY, 0.0, 0.0, 0.0];
        for part in parts {
            let row: Vec<f64> = Vec::try_from(part.f_select(0, channel as i64)?)?;
            all = [all[0] + row[0], all[1].min(row[1]), all[2].max(row[2]), all[3] + row[3], all[4] + row[4], all[5] + row[5]];
        }
        let [n, low, high, sum, squares, _] = all;
        let mean = sum / n;
        let std = (squares / n - mean * mean).max(0.0).sqrt();
        facts.push(ChannelFacts { channel: (count > 1).then_some(channel), low, mean, std, high });
    }
    Ok(facts)
}

/// What may be wrong with values.
fn remarks(inputs: &[InputFacts]) -> Vec<String> {
    let mut found = Vec::new();
    for input in inputs {
        let still: Vec<String> =
            input.channels.iter().filter(|c| c.low == c.high).map(|c| c.channel.unwrap_or(0).to_string()).collect();
        if !still.is_empty() {
            found.push(format!("`{}` never changes in channel {}", input.input, still.join(", ")));
        }
        let most = input.channels.iter().map(|c| c.high).fold(f64::NEG_INFINITY, f64::max);
        let least = input.channels.iter().map(|c| c.low).fold(f64::INFINITY, f64::min);
        if input.shape.len() == 3 && least >= 0.0 && most > 64.0 && most <= 255.0 {
            found.push(format!(
                "`{}` goes from {least} to {most}, as bytes do: a model that was trained on 0 to 1 wants `normalize: {{ divide: 255 }}`",
                input.input
            ));
        }
    }
    found
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.data, self.task)?;
        for split in &self.splits {
            write!(f, "  {:<10} {:>7} samples", split.name, split.samples)?;
            let named = split.classes.iter().enumerate().map(|(i, n)| format!("{} {n}", self.classes.get(i).map_or("?", |c| c)));
            let named: Vec<String> = named.take(20).collect();
            let more = if split.classes.len() > 20 { ", …" } else { "" };
            writeln!(f, "{}{}{more}", if named.is_empty() { "" } else { ": " }, named.join(", "))?;
        }
        for input in &self.inputs {
            writeln!(f, "input `{}` {:?}, as the model sees it:", input.input, input.shape)?;
            writeln!(f, "  {:<8} {:>11} {:>11} {:>11} {:>11}", "channel", "least", "mean", "std", "greatest")?;
            for c in &input.channels {
                let name = c.channel.map_or("all".into(), |c| c.to_string());
                writeln!(f, "  {name:<8} {:>11.4} {:>11.4} {:>11.4} {:>11.4}", c.low, c.mean, c.std, c.high)?;
            }
        }
        if let Some(right) = self.right {
            writeln!(f, "the model is right on {:.1} % of the samples looked at", right * 100.0)?;
        }
        self.remarks.iter().try_for_each(|remark| writeln!(f, "! {remark}"))
    }
}
