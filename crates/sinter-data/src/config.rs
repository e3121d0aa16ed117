//! A data set as YAML describes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Ratio;

use crate::augment::Augment;
use crate::features::FrontEnd;
use crate::task::Task;

/// A data set. Paths are relative to the file that names them.
///
/// ```yaml
/// name: fashion-mnist
/// source: { idx: { folder: ../../.cache/fashion-mnist } }
/// normalize: { mean: [0.286], std: [0.353] }
/// ```
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Names the data set in reports.
    pub name: String,
    /// Where the samples come from.
    pub source: SourceConfig,
    /// What the model is asked to do. Default: classify.
    #[serde(default)]
    pub task: Task,
    /// How values are scaled before a model sees them. Default: pixels to 0..1, all else as it is.
    #[serde(default)]
    pub normalize: Normalize,
    /// Applied to training batches only. Default: none.
    #[serde(default)]
    pub augment: Augment,
    /// How samples are divided where the source does not. Default: a fifth to test, none to validate.
    #[serde(default)]
    pub split: SplitConfig,
    /// Names of the classes, in the order of their numbers. Default: those of the source, or the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// What to tell a user whose files are missing.
    #[serde(default)]
    pub hint: Option<String>,
}

/// Where samples come from.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SourceConfig {
    /// The four idx files of MNIST and its kin, plain or gzipped.
    Idx(IdxConfig),
    /// Arrays in an .npz archive, or two .npy files.
    Numpy(NumpyConfig),
    /// A table with one sample a row.
    Csv(CsvConfig),
    /// Images in one folder a class, or a tar of them.
    Images(ImagesConfig),
    /// Recordings in one folder a class.
    Wav(WavConfig),
    /// Running text, for language models.
    Text(TextConfig),
}

/// Files of an idx data set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdxConfig {
    /// The folder of the four files.
    pub folder: PathBuf,
    /// Images to train on.
    #[serde(default = "train_images")]
    pub train_images: PathBuf,
    /// Their labels.
    #[serde(default = "train_labels")]
    pub train_labels: PathBuf,
    /// Images to test on.
    #[serde(default = "test_images")]
    pub test_images: PathBuf,
    /// Their labels.
    #[serde(default = "test_labels")]
    pub test_labels: PathBuf,
}

fn train_images() -> PathBuf {
    "train-images-idx3-ubyte.gz".into()
}

fn train_labels() -> PathBuf {
    "train-labels-idx1-ubyte.gz".into()
}

fn test_images() -> PathBuf {
    "t10k-images-idx3-ubyte.gz".into()
}

fn test_labels() -> PathBuf {
    "t10k-labels-idx1-ubyte.gz".into()
}

/// NumPy arrays: samples along the first axis.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NumpyConfig {
    /// An .npz archive, or the .npy file of samples.
    pub path: PathBuf,
    /// Labels: the array's name in the archive (default `y`, absent if there is none), or a .npy file.
    #[serde(default)]
    pub labels: Option<PathBuf>,
    /// The samples' name in the archive. Default: `x`.
    #[serde(default = "default_x")]
    pub samples: String,
    /// For a model of several inputs: its inputs, each with the name of its array in the archive, one sample after the other along the first axis. Whole
    /// numbers stay whole. Instead of `samples`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// A second file of the same form with the test split. Default: split `path`.
    #[serde(default)]
    pub test: Option<PathBuf>,
}

fn default_x() -> String {
    "x".into()
}

/// A CSV table with a header.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvConfig {
    /// The table.
    pub path: PathBuf,
    /// A second table with the test split. Default: split `path`.
    #[serde(default)]
    pub test: Option<PathBuf>,
    /// The column of class names or numbers, or of what is to be predicted. Default: no labels.
    #[serde(default)]
    pub label: Option<String>,
    /// Instead of `label`: the columns of several labels, where the task takes several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What stands between columns. Default: a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Columns that are no features.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The shape of one sample. Default: a vector of all feature columns.
    #[serde(default)]
    pub shape: Option<Vec<i64>>,
}

/// Images: `train/<class>/*` and `test/<class>/*`, or `<class>/*` to be split.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagesConfig {
    /// A folder or a .tar file.
    pub path: PathBuf,
    /// Height and width to resize to. Default: the size of the first image, which all must have.
    #[serde(default)]
    pub size: Option<[u32; 2]>,
    /// 1 (grey) or 3 (RGB). Default: 3.
    #[serde(default = "rgb")]
    pub channels: u8,
}

fn rgb() -> u8 {
    3
}

/// Recordings: `train/<class>/*.wav` and `test/<class>/*.wav`, or `<class>/*.wav` to be split.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WavConfig {
    /// A folder.
    pub path: PathBuf,
    /// Samples per second that every file must have. Default: 16000.
    #[serde(default = "rate")]
    pub rate: u32,
    /// Length in seconds; shorter files are padded with silence, longer ones cut. Default: 1.
    #[serde(default = "second")]
    pub seconds: f64,
    /// Which features the samples become. Default: 49 x 10 MFCC.
    #[serde(default)]
    pub front_end: FrontEnd,
}

fn rate() -> u32 {
    16_000
}

fn second() -> f64 {
    1.0
}

/// Running text in UTF-8, plain or gzipped, cut into windows of tokens. Goes with `task: language`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// The text.
    pub path: PathBuf,
    /// A second text to measure on. Default: the end of `path`, a share as `split` has it.
    #[serde(default)]
    pub test: Option<PathBuf>,
    /// The tokenizer, a `tokenizer.json`. Default: that of the model's folder.
    #[serde(default)]
    pub tokenizer: Option<PathBuf>,
    /// Tokens to a window. Default: 512.
    #[serde(default = "window")]
    pub tokens: usize,
    /// Tokens at the front of a window that are read and not scored when a model is measured. Default: half of a window.
    #[serde(default)]
    pub context: Option<usize>,
}

fn window() -> usize {
    512
}

/// `(x / divide - mean) / std`, per channel (one value serves all).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalize {
    /// Default: 255 for bytes (idx, images), else 1.
    #[serde(default)]
    pub divide: Option<f32>,
    /// Default: 0.
    #[serde(default)]
    pub mean: Vec<f32>,
    /// Default: 1.
    #[serde(default)]
    pub std: Vec<f32>,
}

/// How samples are divided, deterministically by `seed`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Share of the training samples held out to choose by (early stopping, guards). Default: 0.
    #[serde(default)]
    pub validation: Ratio,
    /// Share of all samples for the test, where the source has no test split of its own. Default: 20%.
    #[serde(default = "fifth")]
    pub test: Ratio,
    /// Default: 0.
    #[serde(default)]
    pub seed: u64,
    /// Use at most so many training samples. Default: all.
    #[serde(default)]
    pub limit_train: Option<usize>,
    /// Use at most so many test samples. Default: all.
    #[serde(default)]
    pub limit_test: Option<usize>,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { validation: Ratio::default(), test: fifth(), seed: 0, limit_train: None, limit_test: None }
    }
}

fn fifth() -> Ratio {
    Ratio::new(0.2).unwrap_or_default()
}

impl DataConfig {
    /// Every file or folder that the data set reads, so that it can be looked for before a run and hashed for the cache.
    pub fn files(&self) -> Vec<PathBuf> {
        match &self.source {
            SourceConfig::Idx(c) => {
                [&c.train_images, &c.train_labels, &c.test_images, &c.test_labels].map(|f| c.folder.join(f)).to_vec()
            }
            SourceConfig::Numpy(c) => {
                let npy = c.path.extension().is_some_and(|e| e == "npy");
                let labels = c.labels.iter().filter(|_| npy);
                [&c.path].into_iter().chain(labels).chain(&c.test).cloned().collect()
            }
            SourceConfig::Csv(c) => [&c.path].into_iter().chain(&c.test).cloned().collect(),
            SourceConfig::Images(c) => vec![c.path.clone()],
            SourceConfig::Wav(c) => vec![c.path.clone()],
            SourceConfig::Text(c) => [&c.path].into_iter().chain(&c.test).chain(&c.tokenizer).cloned().collect(),
        }
    }

    /// Makes every path relative to `folder`.
    pub fn rebase(&mut self, folder: &std::path::Path) {
        let each: Vec<&mut PathBuf> = match &mut self.source {
            SourceConfig::Idx(c) => vec![&mut c.folder],
            SourceConfig::Numpy(c) => {
                let npy = c.path.extension().is_some_and(|e| e == "npy");
                let labels = c.labels.iter_mut().filter(|_| npy);
                [&mut c.path].into_iter().chain(labels).chain(&mut c.test).collect()
            }
            SourceConfig::Csv(c) => [&mut c.path].into_iter().chain(&mut c.test).collect(),
            SourceConfig::Images(c) => vec![&mut c.path],
            SourceConfig::Wav(c) => vec![&mut c.path],
            SourceConfig::Text(c) => [&mut c.path].into_iter().chain(&mut c.test).chain(&mut c.tokenizer).collect(),
        };
        each.into_iter().for_each(|path| *path = folder.join(&*path));
    }

    /// The tokens of a window, where samples are text.
    pub fn tokens(&self) -> Option<usize> {
        match &self.source {
            SourceConfig::Text(text) => Some(text.tokens),
            _ => None,
        }
    }

    /// Takes a tokenizer where samples are text and none was named.
    pub fn tokenize_by(&mut self, tokenizer: PathBuf) {
        if let SourceConfig::Text(text) = &mut self.source {
            text.tokenizer.get_or_insert(tokenizer);
        }
    }
}
