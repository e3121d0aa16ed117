//! A metric of the user's own: a command that is told what came out.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use npyz::WriterBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use sinter_model::{to_f32s, to_i64s};
use tch::Tensor;

use super::{Beside, Measure, Seen, Tally};
use crate::error::{CommandError, TaskError};
use crate::metric::{Better, Loss, Metric, Unit};

/// A command that is given the path of an .npz archive as its last argument, with `output_0`, `output_1`, ... (what came out, `[n, ...]`), `reference_0`, ...
/// (what the float model gives) and `labels`, and prints one line of JSON: `{"value": 0.91}`, with `"low"` and `"high"` of a 95 % interval where it
/// knows one. Runs in the folder of the pipeline file. For what Sinter has no metric or decoder for; it is asked wherever quality is measured, so it
/// should be quick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments.
    pub run: Vec<String>,
    /// In tables. Default: own metric.
    #[serde(default = "own")]
    pub name: String,
    /// Which way is better. Default: higher.
    #[serde(default)]
    pub better: Direction,
    /// `percent` for shares between 0 and 1, `plain` for other numbers. Default: plain.
    #[serde(default = "plain")]
    pub unit: Unit,
    /// Where it runs: that of the pipeline file.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The larger the better.
    #[default]
    Higher,
    /// The smaller the better.
    Lower,
}

fn own() -> String {
    "own metric".into()
}

fn plain() -> Unit {
    Unit::Plain
}

impl Default for Command {
    fn default() -> Self {
        Self { run: vec![], name: own(), better: Direction::Higher, unit: Unit::Plain, folder: PathBuf::new() }
    }
}

impl Command {
    /// The arguments that are files, where it runs.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.run.iter().map(|part| self.folder.join(part)).filter(|path| path.is_file()).collect()
    }
}

impl Measure for Command {
    fn metric(&self) -> Metric {
        let better = if self.better == Direction::Higher { Better::Higher } else { Better::Lower };
        let (loss, range) = match self.unit {
            Unit::Percent => (Loss::Absolute, (Some(0.0), Some(1.0))),
            Unit::Plain => (Loss::Relative, (None, None)),
        };
        Metric { name: self.name.clone().into(), unit: self.unit, better, loss, range }
    }

    /// Never of itself: a command runs where it is named.
    fn fits(&self, _task: Task, _labelled: bool) -> bool {
        !self.run.is_empty()
    }

    fn wants_reference(&self) -> bool {
        true
    }

    fn is_distance(&self) -> bool {
        false
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Gathered { command: self.clone(), arrays: vec![], value: f64::NAN, interval: None })
    }
}

/// Everything that came out.
struct Gathered {
    command: Command,
    arrays: Vec<(String, Array)>,
    value: f64,
    interval: Option<(f64, f64)>,
}

/// One array, samples along the first axis.
struct Array {
    shape: Vec<i64>,
    elements: Elements,
}

enum Elements {
    Real(Vec<f32>),
    Whole(Vec<i64>),
}

/// What a command printed.
struct Printed {
    value: f64,
    interval: Option<(f64, f64)>,
}

impl Gathered {
    fn put(&mut self, name: String, value: &Tensor) -> Result<(), TaskError> {
        let at = match self.arrays.iter().position(|(n, _)| *n == name) {
            Some(at) => at,
            None => {
                let mut shape = value.size();
                shape.iter_mut().take(1).for_each(|n| *n = 0);
                let elements = if value.is_floating_point() { Elements::Real(vec![]) } else { Elements::Whole(vec![]) };
                self.arrays.push((name, Array { shape, elements }));
                self.arrays.len() - 1
            }
        };
        let array = &mut self.arrays[at].1;
        if array.shape.get(1..) != value.size().get(1..) {
            let (first, now) = (array.shape.clone(), value.size());
            return Err(TaskError::Runtime(format!("an output has other shapes from batch to batch: {first:?}, then {now:?}")));
        }
        match &mut array.elements {
            Elements::Real(all) => all.extend(to_f32s(value)?),
            Elements::Whole(all) => all.extend(to_i64s(value)?),
        }
        array.shape.iter_mut().take(1).for_each(|n| *n += value.size()[0]);
        Ok(())
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut archive = npyz::npz::NpzWriter::create(path)?;
        for (name, Array { shape, elements }) in &self.arrays {
            let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
            macro_rules! put {
                ($all:expr) => {{
                    let array = archive.array(name, Default::default())?;
                    let mut array = array.default_dtype().shape(&shape).begin_nd()?;
                    array.extend($all.iter().copied())?;
                    array.finish()?;
                }};
            }
            match elements {
                Elements::Real(all) => put!(all),
                Elements::Whole(all) => put!(all),
            }
        }
        Ok(())
    }

    fn ask(&self, arrays: &Path) -> Result<Printed, CommandError> {
        let command = self.command.run.join(" ");
        let [program, arguments @ ..] = &self.command.run[..] else { return Err(CommandError::Empty) };
        let folder = if self.command.folder.as_os_str().is_empty() { Path::new(".") } else { &self.command.folder };
        let started =
            std::process::Command::new(program).args(arguments).arg(arrays).current_dir(folder).stdin(Stdio::null()).output();
        let done = started.map_err(|source| CommandError::Start { command: command.clone(), source })?;
        if !done.status.success() {
            let text = String::from_utf8_lossy(&done.stderr);
            let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
            let end = lines[lines.len().saturating_sub(3)..].join("\n  ");
            let said = if end.is_empty() { String::new() } else { format!(":\n  {end}") };
            return Err(CommandError::Failed { command, status: done.status.to_string(), said });
        }
        let text = String::from_utf8_lossy(&done.stdout);
        let line = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("").to_string();
        let fail = |reason: String| CommandError::Printed {
            command: command.clone(),
            printed: line.chars().take(200).collect(),
            reason,
        };
        let json: serde_json::Value = serde_json::from_str(&line).map_err(|e| fail(e.to_string()))?;
        let number = |key: &str| json.get(key).and_then(serde_json::Value::as_f64).filter(|v| v.is_finite());
        let value = number("value").ok_or_else(|| fail("it has no finite number under `value`".into()))?;
        Ok(Printed { value, interval: number("low").zip(number("high")) })
    }
}

impl Tally for Gathered {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        // A last state has its samples elsewhere.
        let of_samples = |t: &Tensor| t.size().first() == Some(&seen.count());
        for (at, output) in seen.outputs.iter().enumerate().filter(|(_, t)| of_samples(t)) {
            self.put(format!("output_{at}"), output)?;
        }
        for (at, reference) in seen.references.unwrap_or(seen.outputs).iter().enumerate().filter(|(_, t)| of_samples(t)) {
            self.put(format!("reference_{at}"), reference)?;
        }
        if let Some(labels) = seen.labels {
            self.put("labels".into(), labels)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), TaskError> {
        let folder = tempfile::tempdir().map_err(CommandError::from)?;
        let path = folder.path().join("answers.npz");
        self.write(&path).map_err(CommandError::from)?;
        let Printed { value, interval } = self.ask(&path)?;
        (self.value, self.interval) = (value, interval);
        self.arrays.clear();
        Ok(())
    }

    fn value(&self, _times: &[u32]) -> f64 {
        self.value
    }

    fn can_resample(&self) -> bool {
        false
    }

    fn beside(&self) -> Beside {
        Beside { interval: self.interval, ..Beside::default() }
    }
}
