//! Which source reads what a path holds.

use std::path::Path;

use sinter_data::{ArrayFacts, arrays, header};
use sinter_model::{Dim, ElementType, ValueInfo};
use sinter_onnx::Interface;

use super::InitError;
use super::origin::Apart;
use super::text::quoted;

/// The forms in which data comes, in words.
pub const FORMS: &str = "an .npz, .npy, .csv or .tar file, a text, a folder of images or recordings in a folder a class, a folder with the idx files of MNIST, or a data \
                         file (.yaml) of your own";
/// Tokens of a window, where nobody says.
const TOKENS: u64 = 512;
/// Names by which labels go, the surest first.
const LABELS: [&str; 9] = ["label", "labels", "target", "targets", "class", "classes", "category", "species", "y"];
/// Endings of images.
const IMAGES: [&str; 6] = ["jpg", "jpeg", "png", "bmp", "pgm", "ppm"];

/// A source, and what is known of its samples.
#[derive(Debug)]
pub(super) struct Found {
    /// Its name in YAML, the key of its path, and what stands behind that.
    source: &'static str,
    key: &'static str,
    more: String,
    /// In words.
    pub what: String,
    pub images: bool,
    /// Inputs that the data does not give.
    pub apart: Apart,
    /// What a model may be asked to do with it, the likeliest first.
    pub tasks: &'static [&'static str],
}

impl Found {
    fn new(source: &'static str, what: &str, tasks: &'static [&'static str]) -> Self {
        let key = if source == "idx" { "folder" } else { "path" };
        let images = ["idx", "images"].contains(&source);
        Self { source, key, more: String::new(), what: what.to_string(), images, apart: Apart::default(), tasks }
    }

    /// With keys behind the path.
    fn with(self, more: String) -> Self {
        Self { more, ..self }
    }

    /// As YAML, with the path as it is written there.
    pub fn yaml(&self, path: &str) -> String {
        format!("{}: {{ {}: {path}{} }}", self.source, self.key, self.more)
    }

    /// Whether it is running text.
    pub fn is_text(&self) -> bool {
        self.tasks == TEXT
    }
}

const TEXT: &[&str] = &["language"];
/// Samples without labels.
const BARE: &[&str] = &["classify", "segment", "regress", "embed", "reconstruct"];
/// One whole number to a sample, or one name.
const CLASSES: &[&str] = &["classify", "multi-label", "embed", "regress", "reconstruct"];
/// Several whole numbers to a sample.
const POSITIONS: &[&str] = &["segment", "transcribe", "multi-label", "regress"];
/// Other numbers.
const REALS: &[&str] = &["multi-label", "regress"];

/// What a path holds. The model's inputs, and of a language model the tokens that it takes at once, say what is wanted.
pub(super) fn find(path: &Path, interface: &Interface, context: Option<u64>) -> Result<Found, InitError> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if path.is_dir() {
        return folder_of(path, interface);
    }
    if !path.is_file() {
        return Err(InitError::new(format!("there is no {}", path.display()), "`--data` is a file or a folder"));
    }
    match ending {
        "npz" => archive(path, interface),
        "npy" => Ok(Found::new("numpy", "an array without labels", BARE)),
        "csv" | "tsv" => table(path),
        "tar" => Ok(images(interface, "a tar of images, a folder a class")),
        "txt" => Ok(text(context)),
        "gz" if name.ends_with(".txt.gz") => Ok(text(context)),
        _ => Err(InitError::new(format!("{} is none of the forms that data comes in", path.display()), format!("give {FORMS}"))),
    }
}

/// Windows of as many tokens as the model takes, where those are few.
fn text(context: Option<u64>) -> Found {
    let tokens = context.filter(|&n| n < TOKENS).map(|n| format!(", tokens: {n}")).unwrap_or_default();
    Found::new("text", "running text", TEXT).with(tokens)
}

/// Images of the size and the channels that the model takes.
fn images(interface: &Interface, what: &str) -> Found {
    let lengths: Vec<i64> = interface.inputs.first().map(|input| input.concrete(1)).unwrap_or_default();
    let size = match lengths[..] {
        [_, channels @ (1 | 3), height, width] => format!(", size: [{height}, {width}], channels: {channels}"),
        _ => String::new(),
    };
    Found::new("images", what, CLASSES).with(size)
}

/// Whether a file of this ending lies in a folder, or at most three folders further down.
fn holds(folder: &Path, endings: &[&str], depth: usize) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders = Vec::new();
    for path in entries.take(1000).map(|e| e.path()) {
        if path.is_dir() {
            folders.push(path);
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e.to_ascii_lowercase().as_str())) {
            return true;
        }
    }
    depth > 0 && folders.iter().take(20).any(|inner| holds(inner, endings, depth - 1))
}

fn folder_of(path: &Path, interface: &Interface) -> Result<Found, InitError> {
    let keys = ["train_images", "train_labels", "test_images", "test_labels"];
    let idx = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    let zipped = |name: &str| path.join(format!("{name}.gz")).is_file();
    if idx.iter().all(|name| zipped(name) || path.join(name).is_file()) {
        let plain = keys.iter().zip(idx).filter(|(_, name)| !zipped(name));
        let plain: String = plain.map(|(key, name)| format!(", {key}: {name}")).collect();
        return Ok(Found::new("idx", "the four idx files of MNIST and its kin", CLASSES).with(plain));
    }
    if holds(path, &IMAGES, 3) {
        return Ok(images(interface, "images, a folder a class"));
    }
    if holds(path, &["wav"], 3) {
        return Ok(Found::new("wav", "recordings, a folder a class", CLASSES));
    }
    Err(InitError::new(
        format!("{} holds neither images nor recordings nor the idx files of MNIST", path.display()),
        "samples of a class lie in a folder of its name: `train/<class>/*` and `test/<class>/*`, or `<class>/*`",
    ))
}

/// Arrays by the names of the inputs, else the one that is called `x`, else the largest.
fn archive(path: &Path, interface: &Interface) -> Result<Found, InitError> {
    let arrays =
        arrays(path).map_err(|e| InitError::new(e.to_string(), "`--data` is to be an archive that numpy.savez wrote"))?;
    let is = |name: &str| arrays.iter().any(|(n, ..)| n == name);
    let apart = Apart::of(interface, &is);
    let inputs: Vec<_> = interface.inputs.iter().filter(|i| !apart.holds(&i.name)).collect();
    let floats = inputs.iter().all(|i| i.element == ElementType::Float);
    let inputs: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
    let mut taken: Vec<String> = Vec::new();
    let mut keys = String::new();
    if !inputs.is_empty() && inputs.iter().all(|name| is(name)) && (inputs.len() > 1 || !floats) {
        let pairs: Vec<String> = inputs.iter().map(|name| format!("{}: {}", quoted(name), quoted(name))).collect();
        keys += &format!(", inputs: {{ {} }}", pairs.join(", "));
        taken.extend(inputs.iter().map(ToString::to_string));
    } else {
        let size = |shape: &Vec<i64>| shape.iter().product::<i64>();
        let is_label = |name: &str| LABELS.iter().any(|label| name.eq_ignore_ascii_case(label));
        let wanted = interface.inputs.iter().find(|i| !apart.holds(&i.name));
        let of_model = |shape: &Vec<i64>| wanted.is_some_and(|input| takes(input, shape));
        // What the model takes, else what is called so, else the largest; never what is called a label, nor numbers alone.
        let able = arrays.iter().filter(|(name, shape, _)| shape.len() > 1 && !is_label(name));
        let rank = |(name, shape, whole): &&ArrayFacts| {
            let named = inputs.first() == Some(&name.as_str());
            (named, of_model(shape), name == "x", name.to_ascii_lowercase().contains("train"), !whole, size(shape))
        };
        let Some((samples, ..)) = able.max_by_key(rank) else {
            let help = "samples lie along an array's first axis";
            return Err(InitError::new(format!("{} holds no array of samples", path.display()), help));
        };
        if samples != "x" {
            keys += &format!(", samples: {}", quoted(samples));
        }
        taken.push(samples.to_string());
    }
    let count = arrays.iter().find(|(name, ..)| *name == taken[0]).and_then(|(_, shape, _)| shape.first().copied());
    let fits = |(name, shape, _): &&ArrayFacts| shape.first().copied() == count && !taken.contains(name);
    // `y_train` goes with `x_train`.
    let kin: Vec<String> = taken.iter().map(|t| t.to_ascii_lowercase().replacen(['x', 'X'], "y", 1)).collect();
    let is = |name: &str, label: &str| name.eq_ignore_ascii_case(label);
    let named = LABELS.iter().find_map(|label| arrays.iter().filter(fits).find(|(name, ..)| is(name, label)));
    let labels = named.or_else(|| arrays.iter().filter(fits).find(|(name, ..)| kin.iter().any(|k| is(name, k))));
    if let Some((name, ..)) = labels.filter(|(name, ..)| name != "y") {
        keys += &format!(", labels: {}", quoted(name));
    }
    let what = match labels {
        Some((name, ..)) => format!("arrays: {} for samples, `{name}` for labels", taken.join(", ")),
        None => format!("arrays: {} for samples, and none for labels", taken.join(", ")),
    };
    let used = |name: &String| taken.contains(name) || labels.is_some_and(|(label, ..)| label == name);
    let rest: Vec<&str> = arrays.iter().map(|(name, ..)| name).filter(|name| !used(name)).map(String::as_str).collect();
    let what = if rest.is_empty() { what } else { format!("{what}; nothing reads {}", rest.join(", ")) };
    let tasks = match labels {
        None => BARE,
        Some((_, shape, true)) if shape.len() == 1 => CLASSES,
        Some((_, _, true)) => POSITIONS,
        // Whole numbers are often kept as others.
        Some((_, shape, false)) if shape.len() == 1 => &["classify", "multi-label", "regress", "embed"],
        Some(_) => REALS,
    };
    Ok(Found { apart, ..Found::new("numpy", &what, tasks).with(keys) })
}

/// A table: the column of labels is the one that is called so, else the last.
fn table(path: &Path) -> Result<Found, InitError> {
    let help = "a table has a header, and one sample a row";
    let (columns, delimiter) = header(path).map_err(|e| InitError::new(e.to_string(), help))?;
    if columns.len() < 2 {
        return Err(InitError::new(format!("{} has one column", path.display()), help));
    }
    // Three axes are no label.
    let axes = ["x", "y", "z"].iter().all(|axis| columns.iter().any(|c| c.eq_ignore_ascii_case(axis)));
    let named = LABELS
        .iter()
        .filter(|label| !(axes && **label == "y"))
        .find_map(|label| columns.iter().rev().find(|c| c.eq_ignore_ascii_case(label)));
    let label = named.or(columns.last()).map(String::as_str).unwrap_or_default();
    let delimiter = match delimiter {
        ',' => String::new(),
        '\t' => ", delimiter: \"\\t\"".into(),
        other => format!(", delimiter: \"{other}\""),
    };
    let what = format!("a table, its column `{label}` for labels");
    Ok(Found::new("csv", &what, CLASSES).with(format!(", label: {}{delimiter}", quoted(label))))
}

/// Whether an array holds samples that an input takes.
fn takes(input: &ValueInfo, shape: &[i64]) -> bool {
    let same = |(dim, n): (&Dim, &i64)| match dim {
        Dim::Fixed(m) => m == n,
        Dim::Free(_) => true,
    };
    input.shape.len() == shape.len() && input.shape.iter().zip(shape).skip(1).all(same)
}
