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
use sinter_onnx::Interface;
use sinter_task::Measurement;

use crate::files::ConfigError;
use crate::inspect::read_target;
use crate::resolve::{Changes, Plan};
use guess::Guess;
use origin::Origin;
pub use recipe::Goal;
use recipe::{Means, is_device, recipes};
use scale::{Scale, scales};
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
    /// Writes the files; those that are there already stay unless `over`.
    pub fn write(&self, over: bool) -> Result<(), InitError> {
        if let Some((path, _)) = self.files.iter().find(|(path, _)| !over && path.exists()) {
            return Err(InitError::new(
                format!("{} is there already", path.display()),
                "`--force` writes over it, `--output FILE` elsewhere",
            ));
        }
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

struct Desk<'a> {
    request: &'a Request,
    from: Origin,
    target: Option<Target>,
    interface: Interface,
    /// Of the user's own data file there is nothing to find.
    own: bool,
    name: String,
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
    let same = |path: &Path| path.canonicalize().is_ok_and(|real| request.output.canonicalize().is_ok_and(|out| out == real));
    if let Some(path) = [Path::new(&request.model), &request.data].into_iter().chain(request.target.as_deref()).find(|p| same(p))
    {
        return Err(InitError::new(
            format!("{} would be written over by the pipeline", path.display()),
            "write to another file: `--output FILE`",
        ));
    }
    let stem = request.output.file_stem().and_then(|s| s.to_str()).unwrap_or("pipeline");
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let interface = from.interface()?;
    let desk = Desk { request, from, target, interface, own, name };
    let scratch = tempfile::tempdir()
        .map_err(|e| InitError::new(format!("no scratch folder: {e}"), "make room in the folder for temporary files"))?;
    desk.draft(scratch.path(), tell)
}

impl Desk<'_> {
    fn draft(&self, scratch: &Path, tell: &dyn Fn(&str)) -> Result<Draft, InitError> {
        let mut said = Vec::new();
        let found = match self.own {
            true => None,
            false => Some(source::find(&self.request.data, None, (&self.interface, self.from.context()))?),
        };
        if let Some(found) = &found {
            said.push(format!("data: {}", found.what));
        }
        let untrained = matches!(self.from, Origin::Zoo(_));
        let mut guess = self.task(scratch, found.as_ref(), &mut said, tell)?;
        let plan = self.read(scratch, found.as_ref(), &guess).map_err(InitError::of)?;
        let learns = plan.data.train.is_labelled() && plan.model.parameters() <= FEW_PARAMETERS;
        let samples = plan.data.train.len();
        let language = matches!(self.from, Origin::Folder(_));
        if found.as_ref().is_some_and(|f| !f.is_text()) {
            self.scale(scratch, found.as_ref(), &plan, &mut guess, &mut said, tell)?;
            guess.validation = samples >= ENOUGH;
        }
        drop(plan);
        let means = Means { untrained, learns, language, device: is_device(self.target.as_ref()), samples };
        self.recipe(scratch, found.as_ref(), means, &mut guess, &mut said, tell)?;
        self.texts(found.is_some(), &guess, said)
    }

    /// What the model is asked to do: the first task that the model's output and the labels fit, and under which it is not at a loss.
    fn task(
        &self,
        scratch: &Path,
        found: Option<&Found>,
        said: &mut Vec<String>,
        tell: &dyn Fn(&str),
    ) -> Result<Guess, InitError> {
        let tasks: &[&'static str] = match (found, &self.from) {
            (None, _) => &[""],
            (_, Origin::Zoo(ZooModel::Autoencoder)) => &["reconstruct"],
            (Some(found), _) => found.tasks,
        };
        tell("reading the data as the model's input");
        let mut errors: Vec<ConfigError> = Vec::new();
        let mut fallback: Option<Guess> = None;
        for &task in tasks {
            let guess = Guess {
                task,
                scale: None,
                validation: false,
                beside: String::new(),
                stages: " []\n".into(),
                export: "packed, onnx",
                about_scale: vec![],
                about_export: vec![],
            };
            match self.best_way(scratch, found, guess) {
                Ok((guess, plan)) if task == "classify" && !self.is_classifier(&plan) => fallback = Some(guess),
                Ok((guess, _)) => {
                    if !task.is_empty() {
                        said.push(format!("task: {task}"));
                    }
                    if !guess.beside.is_empty() {
                        said.push(format!("of the model's inputs, not from the data: {}", guess.beside.trim_start_matches(", ")));
                    }
                    return Ok(guess);
                }
                Err(error) => errors.push(error),
            }
        }
        if let Some(guess) = fallback {
            said.push("task: classify".into());
            return Ok(guess);
        }
        // Labels that a task does not take tell less than what comes after them.
        let of_model = |error: &ConfigError| error.place().is_some_and(|place| place.contains(TRIAL));
        let at = errors.iter().position(of_model).unwrap_or(0);
        let none = || InitError::new("the data has no task", "write a data file and give it as `--data`");
        Err(errors.into_iter().nth(at).map_or_else(none, InitError::of))
    }

    /// A guess with what stands beside the model's file: of several ways that can be read, the one under which the model is best.
    fn best_way(&self, scratch: &Path, found: Option<&Found>, guess: Guess) -> Result<(Guess, Plan), ConfigError> {
        let ways = found.map_or_else(|| vec![String::new()], |f| f.apart.ways());
        let mut best: Option<(f64, Guess, Plan)> = None;
        let mut first = None;
        for beside in ways {
            let guess = Guess { beside, ..guess.clone() };
            match self.read(scratch, found, &guess) {
                Ok(plan) => {
                    let split = plan.data.train.sample(SAMPLES, 0);
                    let measured = || sinter_task::evaluate(&plan.model, &split, plan.data.task, None, None).ok();
                    let score = if guess.beside.is_empty() || !split.is_labelled() { None } else { measured() };
                    let score = score.map_or(f64::NEG_INFINITY, |m| m.score());
                    if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                        best = Some((score, guess, plan));
                    }
                }
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        match (best, first) {
            (Some((_, guess, plan)), _) => Ok((guess, plan)),
            (None, Some(error)) => Err(error),
            (None, None) => Err(ConfigError::plain("there is no way to read the model", None)),
        }
    }

    /// Whether the outputs are the classes: as many as there are, or often right. Vectors of an embedding have any length.
    fn is_classifier(&self, plan: &Plan) -> bool {
        let classes = plan.data.classes.len() as i64;
        let outputs = sinter_exec::shapes(&plan.model).ok().and_then(|shapes| {
            let name = plan.model.graph.outputs.first().map(|o| o.name.clone())?;
            shapes.get(&name).and_then(|shape| shape.last().copied())
        });
        if classes == 0 || outputs == Some(classes) {
            return true;
        }
        let split = plan.data.train.sample(SAMPLES, 0);
        // So many that chance has no part in it.
        let often = (5.0 / classes as f64).max(0.05);
        sinter_task::evaluate(&plan.model, &split, plan.data.task, None, None)
            .is_ok_and(|m| m.value >= often && m.doubt().is_none())
    }

    /// How values are scaled: of a trained model with labels the way under which it is most often right.
    fn scale(
        &self,
        scratch: &Path,
        found: Option<&Found>,
        plan: &Plan,
        guess: &mut Guess,
        said: &mut Vec<String>,
        tell: &dyn Fn(&str),
    ) -> Result<(), InitError> {
        let split = plan.data.train.sample(SAMPLES, 0);
        let scales =
            scales(plan, &split, found.is_some_and(|f| f.images)).map_err(|e| InitError::new(e, "look at the samples"))?;
        if matches!(self.from, Origin::Zoo(_)) {
            // Nothing was learnt yet that a scale would have to fit.
            guess.scale = scales.into_iter().find(|s| s.is_own);
            return Ok(());
        }
        if !split.is_labelled() || scales.len() < 2 {
            if scales.len() > 1 {
                let line = "how values are scaled can't be told without labels: it must be as it was in training".to_string();
                guess.about_scale.push(line.clone());
                said.push(line);
            }
            return Ok(());
        }
        let mut tried: Vec<(Measurement, Scale)> = Vec::new();
        for scale in scales {
            tell(&format!("measuring the model with values {}", scale.what));
            let trial = Guess { scale: Some(scale.clone()), ..guess.clone() };
            let plan = self.read(scratch, found, &trial).map_err(InitError::of)?;
            let split = plan.data.train.sample(SAMPLES, 0);
            match sinter_task::evaluate(&plan.model, &split, plan.data.task, plan.config.metric.as_ref(), None) {
                Ok(measured) if measured.score().is_finite() => tried.push((measured, scale)),
                _ => {}
            }
        }
        // The first of equals: it is the plainest.
        let best = (0..tried.len()).rev().max_by(|&a, &b| tried[a].0.score().total_cmp(&tried[b].0.score()));
        let Some(best) = best else { return Ok(()) };
        let figures: Vec<String> = tried.iter().map(|(m, scale)| format!("{} {}", m.metric.text(m.value), scale.what)).collect();
        let name = &tried[best].0.metric.name;
        let line = format!("{name} by how values are scaled, on {} training samples: {}", split.len(), figures.join(", "));
        guess.about_scale.push(line.clone());
        said.push(line);
        if let Some(doubt) = tried[best].0.doubt() {
            guess.about_scale.push(doubt.clone());
            said.push(doubt);
        }
        guess.scale = Some(tried.swap_remove(best).1);
        Ok(())
    }

    /// The richest stages, and the most files, that the model and the target have a place for.
    fn recipe(
        &self,
        scratch: &Path,
        found: Option<&Found>,
        means: Means,
        guess: &mut Guess,
        said: &mut Vec<String>,
        tell: &dyn Fn(&str),
    ) -> Result<(), InitError> {
        let exports: &[&'static str] = match (means.language, means.device) {
            (true, _) => &["compressed-tensors, gguf", "compressed-tensors", "packed"],
            (_, true) => &["packed, onnx, tflite, c", "packed, onnx, tflite", "packed, onnx"],
            _ => &["packed, onnx"],
        };
        tell("looking for the stages and files that the model has a place for");
        let mut refused: Option<ConfigError> = None;
        for &export in exports {
            for stages in recipes(self.request.goal, means) {
                let trial = Guess { stages: format!("\n{stages}"), export, ..guess.clone() };
                match self.read(scratch, found, &trial) {
                    Ok(_) => {
                        *guess = trial;
                        if let Some(error) = refused {
                            let line = format!("more was tried: {}", error.message);
                            guess.about_export.push(line.clone());
                            said.push(line);
                        }
                        return Ok(());
                    }
                    Err(error) => drop(refused.get_or_insert(error)),
                }
            }
        }
        Err(refused.map_or_else(|| InitError::new("no stage fits", "write the pipeline by hand"), InitError::of))
    }

    /// Reads a guess as any pipeline is read.
    fn read(&self, scratch: &Path, found: Option<&Found>, guess: &Guess) -> Result<Plan, ConfigError> {
        let put = |name: &str, text: &str| {
            std::fs::write(scratch.join(name), text)
                .map_err(|e| ConfigError::plain(format!("could not write a trial: {e}"), None))
        };
        if let Some(found) = found {
            put("guess.data.yaml", &self.data_text(found, guess))?;
        }
        put(TRIAL, &self.pipeline_text(None, found.is_some().then_some("guess.data.yaml"), guess))?;
        Plan::read(&scratch.join(TRIAL), &Changes::default())
    }

    fn texts(&self, is_new: bool, guess: &Guess, said: Vec<String>) -> Result<Draft, InitError> {
        let output = &self.request.output;
        let folder = output.parent().unwrap_or(Path::new(""));
        let stem = output.file_stem().and_then(|s| s.to_str()).unwrap_or("pipeline");
        let data_name = format!("{stem}.data.yaml");
        let mut files = Vec::new();
        if is_new {
            let found = source::find(&self.request.data, Some(folder), (&self.interface, self.from.context()))?;
            files.push((folder.join(&data_name), self.data_text(&found, guess)));
        }
        files.push((output.clone(), self.pipeline_text(Some(folder), is_new.then_some(data_name.as_str()), guess)));
        Ok(Draft { said, files })
    }
}
