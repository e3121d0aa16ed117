//! What a first pipeline and its data file say.

use std::path::Path;

use super::Desk;
use super::scale::Scale;
use super::source::Found;
use super::text::{comment, escaped, quoted, relative};

/// What goes into the two files.
#[derive(Debug, Clone)]
pub(super) struct Guess {
    pub task: &'static str,
    pub scale: Option<Scale>,
    /// Whether samples are set aside to choose by.
    pub validation: bool,
    /// Keys beside the model's file.
    pub beside: String,
    pub stages: String,
    pub export: &'static str,
    /// Lines above `normalize` and `export`.
    pub about_scale: Vec<String>,
    pub about_export: Vec<String>,
}

impl Guess {
    /// Nothing but a task: no stage yet.
    pub fn of(task: &'static str) -> Self {
        Self {
            task,
            scale: None,
            validation: false,
            beside: String::new(),
            stages: " []\n".into(),
            export: "packed, onnx",
            about_scale: vec![],
            about_export: vec![],
        }
    }
}

impl Desk<'_> {
    /// What was found and assumed, a line each.
    pub(super) fn said(&self, guess: &Guess) -> Vec<String> {
        let mut said: Vec<String> = Vec::new();
        if let Some(found) = &self.found {
            said.extend([format!("data: {}", found.what), format!("task: {}", guess.task)]);
        }
        if !guess.beside.is_empty() {
            said.push(format!("of the model's inputs, not from the data: {}", guess.beside.trim_start_matches(", ")));
        }
        said.into_iter().chain(guess.about_scale.iter().chain(&guess.about_export).cloned()).collect()
    }

    /// The data file, as it stands in `folder` (paths are whole without one).
    pub(super) fn data_text(&self, found: &Found, folder: Option<&Path>, guess: &Guess) -> String {
        let at = quoted(&relative(&self.request.data, folder));
        let name = self.request.data.file_stem().and_then(|s| s.to_str()).unwrap_or("data");
        let mut out =
            comment(&format!("By `sinter init`: {}. `sinter data PIPELINE` shows it as the model sees it.", found.what));
        out += &format!("name: {}\nsource: {{ {} }}\ntask: {}\n", quoted(name), found.yaml(&at), guess.task);
        out.extend(guess.about_scale.iter().map(|line| comment(line)));
        if let Some(scale) = &guess.scale {
            out += &format!("normalize: {}\n", scale.yaml);
        }
        if found.is_text() {
            out +=
                "# Windows of tokens; more to measure on make the figures surer.\nsplit: { limit_train: 128, limit_test: 40 }\n";
        } else if guess.validation {
            out += "# A tenth of the training samples to choose by, so that nothing is chosen on those of the test.\nsplit: { validation: 10% }\n";
        }
        out
    }

    /// The pipeline, as it stands in `folder`, with its data file beside it unless the user has one.
    pub(super) fn pipeline_text(&self, folder: Option<&Path>, data: &Path, guess: &Guess) -> String {
        let beside = data.file_name().and_then(|name| name.to_str()).filter(|_| self.found.is_some());
        let data = escaped(&beside.map_or_else(|| relative(&self.request.data, folder), String::from));
        let stem = self.request.output.file_stem().and_then(|s| s.to_str()).unwrap_or("pipeline");
        let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
        let goal = self.request.goal.name();
        let mut out = comment(&format!(
            "{}, {goal}. By `sinter init`: `sinter plan` says what it comes to, `sinter run` does it.",
            self.request.model
        ));
        out += &format!("name: {}\nmodel: {}\ndata: {data}\n", quoted(&name), self.from.yaml(folder, &guess.beside));
        if let (Some(path), Some(target)) = (&self.request.target, &self.target) {
            out += &comment(&target.description);
            out += &format!("target: {}\n", escaped(&relative(path, folder)));
        }
        let has = |most: Option<sinter_model::Bytes>, key: &str| {
            most.map(|most| match most.to_string().parse() {
                Ok(again) if most == again => format!("{key}: {most}"),
                _ => format!("{key}: {} B", most.0),
            })
        };
        let target = self.target.as_ref();
        let limits = [has(target.and_then(|t| t.flash), "flash"), has(target.and_then(|t| t.ram), "ram")];
        let limits =
            std::iter::once("accuracy_drop: 1%".to_string()).chain(limits.into_iter().flatten()).collect::<Vec<_>>().join(", ");
        out += &format!("# Limits to keep to; exit code 3 where the result does not.\nbudget: {{ {limits} }}\n");
        out += &format!("stages:{}", guess.stages);
        out.extend(guess.about_export.iter().map(|line| comment(line)));
        out + &format!("export: [{}]\n", guess.export)
    }
}
