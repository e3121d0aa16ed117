//! A first pipeline for a model and its data: everything that can be found out is tried, not asked.
//!
//! Each guess (what the data is, what the model is asked to do, how values are scaled, which stages and files it has a place for) is a pipeline in a scratch folder
//! that is read as any other is; what it refuses is no guess any more.

mod guess;
mod origin;
mod recipe;
mod scale;
mod source;
mod text;

use std::path::{Path, PathBuf};

use sinter_estimate::Target;
use sinter_model::write_whole;
use sinter_model::zoo::ZooModel;
use sinter_task::{Measurement, TaskError};
use tempfile::TempDir;

use crate::files::ConfigError;
use crate::inspect::read_target;
use crate::resolve::{Changes, Plan};
use guess::Guess;
use origin::Origin;
pub use recipe::Goal;
use recipe::{Means, is_device, recipes};
use scale::{Scale, scales};
pub use source::FORMS;
use source::Found;

/// Training samples that a guess is measured on.
const SAMPLES: usize = 512;
/// The pipeline of a guess, in the scratch folder.
const TRIAL: &str = "guess.yaml";
/// Parameters up to which training for some epochs is a matter of minutes on two cores.
const FEW_PARAMETERS: usize = 3_000_000;
/// Training samples from which on a tenth is set aside to choose by.
const ENOUGH: usize = 500;

/// What is to be begun.
#[derive(Debug, Clone)]
pub struct Request {
    /// An ONNX file, a folder as Hugging Face has it, or the name of a built-in architecture.
    pub model: String,
    /// What holds the samples, or a data file.
    pub data: PathBuf,
    /// A target file.
    pub target: Option<PathBuf>,
    /// What counts most.
    pub goal: Goal,
    /// Where the pipeline goes; its data file goes beside it.
    pub output: PathBuf,
    /// Whether files that are there already are written over.
    pub over: bool,
}

/// Files that were thought out, and what was found on the way.
#[derive(Debug)]
pub struct Draft {
    /// What was found and assumed, a line each.
    pub said: Vec<String>,
    /// Files and their texts, the pipeline last.
    pub files: Vec<(PathBuf, String)>,
}

impl Draft {
    /// Writes the files.
    pub fn write(&self) -> Result<(), InitError> {
        for (path, text) in &self.files {
            write_whole(path, text.as_bytes()).map_err(|e| InitError::new(e.to_string(), "write to a folder that lets you"))?;
        }
        Ok(())
    }
}

/// Why there is no first pipeline: what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct InitError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl InitError {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    fn of(error: ConfigError) -> Self {
        Self::new(
            error.message,
            error.help.unwrap_or_else(|| "`sinter schema data` and docs/reference.md tell what can be written by hand".into()),
        )
    }
}

/// What is known from the start, for all guesses.
struct Desk<'a> {
    request: &'a Request,
    from: Origin,
    target: Option<Target>,
    /// What the data is; of the user's own data file there is nothing to find.
    found: Option<Found>,
    scratch: TempDir,
    tell: &'a dyn Fn(&str),
}

/// Thinks out a first pipeline; `tell` hears what is being tried.
pub fn draft(request: &Request, tell: &dyn Fn(&str)) -> Result<Draft, InitError> {
    let from = Origin::of(&request.model)?;
    let target = request.target.as_ref().map(|path| read_target(path)).transpose().map_err(InitError::of)?;
    let own = request.data.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if own && !request.data.is_file() {
        return Err(InitError::new(
            format!("there is no {}", request.data.display()),
            "`--data` is a data file, or what holds the samples",
        ));
    }
    let found = match own {
        true => None,
        false => Some(source::find(&request.data, &from.interface()?, from.context())?),
    };
    let scratch = tempfile::tempdir()
        .map_err(|e| InitError::new(format!("no scratch folder: {e}"), "make room in the folder for temporary files"))?;
    let desk = Desk { request, from, target, found, scratch, tell };
    desk.free()?;
    desk.draft()
}

impl Desk<'_> {
    /// Nothing that is there is written over, unless the user says so; what the pipeline is made of, never.
    fn free(&self) -> Result<(), InitError> {
        let Request { model, data, target, output, over, .. } = self.request;
        let same = |path: &Path| path.canonicalize().is_ok_and(|real| output.canonicalize().is_ok_and(|out| out == real));
        let read = [Path::new(model), data].into_iter().chain(target.as_deref()).find(|path| same(path));
        if let Some(path) = read {
            return Err(InitError::new(
                format!("{} would be written over by the pipeline", path.display()),
                "write to another file: `--output FILE`",
            ));
        }
        let data = self.found.is_some().then(|| self.data_file());
        match data.iter().chain([output]).find(|path| !over && path.exists()) {
            Some(path) => Err(InitError::new(
                format!("{} is there already", path.display()),
                "`--force` writes over it, `--output FILE` elsewhere",
            )),
            None => Ok(()),
        }
    }

    /// The data file, beside the pipeline.
    fn data_file(&self) -> PathBuf {
        let stem = self.request.output.file_stem().and_then(|s| s.to_str()).unwrap_or("pipeline");
        self.request.output.with_file_name(format!("{stem}.data.yaml"))
    }

    fn draft(&self) -> Result<Draft, InitError> {
        let (mut guess, plan) = self.task()?;
        let samples = plan.data.train.len();
        let means = Means {
            untrained: matches!(self.from, Origin::Zoo(_)),
            learns: plan.data.train.is_labelled() && plan.model.parameters() <= FEW_PARAMETERS,
            language: matches!(self.from, Origin::Folder(_)),
            device: is_device(self.target.as_ref()),
            samples,
        };
        if let Some(found) = self.found.as_ref().filter(|found| !found.is_text()) {
            self.scale(found, &plan, &mut guess)?;
            guess.validation = samples >= ENOUGH;
        }
        drop(plan);
        self.recipe(means, &mut guess)?;
        let (output, data) = (self.request.output.clone(), self.data_file());
        let folder = output.parent().unwrap_or(Path::new("")).to_path_buf();
        let mut files = Vec::new();
        if let Some(found) = &self.found {
            files.push((data.clone(), self.data_text(found, Some(&folder), &guess)));
        }
        files.push((output, self.pipeline_text(Some(&folder), &data, &guess)));
        Ok(Draft { said: self.said(&guess), files })
    }

    /// What the model is asked to do: the first task that the model's output and the labels fit, and under which it is not at a loss.
    fn task(&self) -> Result<(Guess, Plan), InitError> {
        let tasks: &[&'static str] = match (&self.found, &self.from) {
            (None, _) => &[""],
            (_, Origin::Zoo(ZooModel::Autoencoder)) => &["reconstruct"],
            (Some(found), _) => found.tasks,
        };
        (self.tell)("reading the data as the model's input");
        let mut errors: Vec<ConfigError> = Vec::new();
        let mut fallback = None;
        for &task in tasks {
            match self.best_way(Guess::of(task)) {
                Ok((guess, plan)) if task == "classify" && !self.is_classifier(&plan) => fallback = Some((guess, plan)),
                Ok(found) => return Ok(found),
                Err(error) => errors.push(error),
            }
        }
        // Labels that a task does not take tell less than what comes after them.
        let of_model = |error: &ConfigError| error.place().is_some_and(|place| place.contains(TRIAL));
        let at = errors.iter().position(of_model).unwrap_or(0);
        let none = || InitError::new("the data has no task", "write a data file and give it as `--data`");
        fallback.ok_or_else(|| errors.into_iter().nth(at).map_or_else(none, InitError::of))
    }

    /// A guess with what stands beside the model's file: of several ways that can be read, the one under which the model is best.
    fn best_way(&self, guess: Guess) -> Result<(Guess, Plan), ConfigError> {
        let ways = self.found.as_ref().map_or_else(|| vec![String::new()], |f| f.apart.ways());
        let several = ways.len() > 1;
        let mut best: Option<(f64, Guess, Plan)> = None;
        let mut first = None;
        for beside in ways {
            let guess = Guess { beside, ..guess.clone() };
            match self.read(&guess) {
                Ok(plan) => {
                    let measured = (several && plan.data.train.is_labelled()).then(|| measure(&plan).ok()).flatten();
                    let score = measured.map_or(f64::NEG_INFINITY, |m| m.score());
                    if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                        best = Some((score, guess, plan));
                    }
                }
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        let none = || first.unwrap_or_else(|| ConfigError::plain("there is no way to read the model", None));
        best.map(|(_, guess, plan)| (guess, plan)).ok_or_else(none)
    }

    /// Whether the outputs are the classes: as many as there are, or often right. Vectors of an embedding have any length.
    fn is_classifier(&self, plan: &Plan) -> bool {
        let classes = plan.data.classes.len() as i64;
        let outputs = sinter_exec::shapes(&plan.model).ok().and_then(|shapes| {
            let name = plan.model.graph.outputs.first().map(|o| o.name.clone())?;
            shapes.get(&name).and_then(|shape| shape.last().copied())
        });
        // So many that chance has no part in it.
        let often = (5.0 / classes as f64).max(0.05);
        classes == 0
            || outputs == Some(classes)
            || measure(plan).is_ok_and(|measured| measured.value >= often && measured.doubt().is_none())
    }

    /// How values are scaled: of a trained model with labels the way under which it is most often right.
    fn scale(&self, found: &Found, plan: &Plan, guess: &mut Guess) -> Result<(), InitError> {
        let split = plan.data.train.sample(SAMPLES, 0);
        let scales = scales(plan, &split, found.images).map_err(|e| InitError::new(e, "look at the samples"))?;
        if matches!(self.from, Origin::Zoo(_)) {
            // Nothing was learnt yet that a scale would have to fit.
            guess.scale = scales.into_iter().find(|s| s.is_own);
            return Ok(());
        }
        if scales.len() < 2 {
            return Ok(());
        }
        if !split.is_labelled() {
            let line = "how values are scaled can't be told without labels: it must be as it was in training";
            guess.about_scale.push(line.to_string());
            return Ok(());
        }
        let mut tried: Vec<(Measurement, Scale)> = Vec::new();
        for scale in scales {
            (self.tell)(&format!("measuring the model with values {}", scale.what));
            let plan = self.read(&Guess { scale: Some(scale.clone()), ..guess.clone() }).map_err(InitError::of)?;
            if let Ok(measured) = measure(&plan)
                && measured.score().is_finite()
            {
                tried.push((measured, scale));
            }
        }
        // The first of equals: it is the plainest.
        let best = (0..tried.len()).rev().max_by(|&a, &b| tried[a].0.score().total_cmp(&tried[b].0.score()));
        let Some(best) = best else { return Ok(()) };
        let figures: Vec<String> = tried.iter().map(|(m, scale)| format!("{} {}", m.metric.text(m.value), scale.what)).collect();
        let (measured, scale) = tried.swap_remove(best);
        let (name, count) = (&measured.metric.name, split.len());
        guess.about_scale.push(format!("{name} by how values are scaled, on {count} training samples: {}", figures.join(", ")));
        guess.about_scale.extend(measured.doubt());
        guess.scale = Some(scale);
        Ok(())
    }

    /// The richest stages, and the most files, that the model and the target have a place for.
    fn recipe(&self, means: Means, guess: &mut Guess) -> Result<(), InitError> {
        let exports: &[&'static str] = match (means.language, means.device) {
            (true, _) => &["compressed-tensors, gguf", "compressed-tensors", "packed"],
            (_, true) => &["packed, onnx, tflite, c", "packed, onnx, tflite", "packed, onnx"],
            _ => &["packed, onnx"],
        };
        (self.tell)("looking for the stages and files that the model has a place for");
        let recipes = recipes(self.request.goal, means);
        let mut refused: Option<ConfigError> = None;
        for (&export, stages) in exports.iter().flat_map(|export| recipes.iter().map(move |stages| (export, stages))) {
            let trial = Guess { stages: format!("\n{stages}"), export, ..guess.clone() };
            match self.read(&trial) {
                Ok(_) => {
                    *guess = trial;
                    guess.about_export.extend(refused.map(|error| format!("more was tried: {}", error.message)));
                    return Ok(());
                }
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        Err(refused.map_or_else(|| InitError::new("no stage fits", "write the pipeline by hand"), InitError::of))
    }

    /// Reads a guess as any pipeline is read.
    fn read(&self, guess: &Guess) -> Result<Plan, ConfigError> {
        let put = |path: &Path, text: &str| {
            std::fs::write(path, text).map_err(|e| ConfigError::plain(format!("could not write a trial: {e}"), None))
        };
        let [pipeline, data] = [TRIAL, "guess.data.yaml"].map(|name| self.scratch.path().join(name));
        if let Some(found) = &self.found {
            put(&data, &self.data_text(found, None, guess))?;
        }
        put(&pipeline, &self.pipeline_text(None, &data, guess))?;
        Plan::read(&pipeline, &Changes::default())
    }
}

/// How good the model of a guess is on some training samples: nothing is chosen on those of the test.
fn measure(plan: &Plan) -> Result<Measurement, TaskError> {
    sinter_task::evaluate(&plan.model, &plan.data.train.sample(SAMPLES, 0), plan.data.task, None, None)
}
