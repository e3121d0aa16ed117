//! Data sets, opened and split.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sinter_model::{ElementType, Ratio};
use tch::Kind;

use crate::config::{DataConfig, Normalize};
use crate::error::DataError;
use crate::source::{self, Samples};
use crate::split::{Affine, Split};
use crate::task::Task;

/// A data set, opened and split.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// As the data file names it.
    pub name: String,
    /// What a model is asked to do.
    pub task: Task,
    /// Names of the classes; empty without labels.
    pub classes: Vec<String>,
    /// What models learn from.
    pub train: Split,
    /// Empty unless a share was set aside.
    pub validation: Split,
    /// What figures are measured on.
    pub test: Split,
}

impl Dataset {
    /// Opens the files and splits them. Errors when a file is missing or damaged, and when a split that must hold samples is empty.
    pub fn open(config: &DataConfig) -> Result<Self, DataError> {
        if let Some(path) = config.files().into_iter().find(|p| !p.exists()) {
            return Err(DataError::Missing { path, hint: config.hint.clone() });
        }
        config.augment.check().map_err(|reason| DataError::Invalid { name: config.name.clone(), reason })?;
        let found = source::find(config)?;
        let count = found.train.len();
        let mut indices: Vec<usize> = (0..count).collect();
        let mut rng = fastrand::Rng::with_seed(config.split.seed);
        let take = |from: &mut Vec<usize>, share: Ratio| -> Vec<usize> {
            let n = (from.len() as f64 * share.get()).round() as usize;
            let mut taken = from.split_off(from.len() - n.min(from.len()));
            taken.sort_unstable();
            taken
        };
        if found.test.is_none() || config.split.validation.get() > 0.0 {
            rng.shuffle(&mut indices);
        }
        let (test_source, mut test) = match &found.test {
            Some(test) => (test.clone(), (0..test.len()).collect()),
            None => (found.train.clone(), take(&mut indices, config.split.test)),
        };
        let validation = take(&mut indices, config.split.validation);
        indices.sort_unstable();
        if let Some(limit) = config.split.limit_train.filter(|&l| l < indices.len()) {
            rng.shuffle(&mut indices);
            indices.truncate(limit);
            indices.sort_unstable();
        }
        if let Some(limit) = config.split.limit_test.filter(|&l| l < test.len()) {
            rng.shuffle(&mut test);
            test.truncate(limit);
            test.sort_unstable();
        }
        if test_source.shape() != found.train.shape() {
            let reason = format!("training samples are {:?}, test samples {:?}", found.train.shape(), test_source.shape());
            return Err(DataError::Invalid { name: config.name.clone(), reason });
        }
        let shapes = |s: &dyn Samples| s.columns().map(|all| all.iter().map(|c| c.shape.clone()).collect::<Vec<_>>());
        if shapes(test_source.as_ref()) != shapes(found.train.as_ref()) {
            let reason = "arrays of the test split have other shapes than those of the training split".to_string();
            return Err(DataError::Invalid { name: config.name.clone(), reason });
        }
        let label_shape = |s: &dyn Samples| s.targets().map(|t| t.shape.clone());
        if label_shape(test_source.as_ref()) != label_shape(found.train.as_ref()) {
            let reason = "labels of the test split have another shape than those of the training split".to_string();
            return Err(DataError::Invalid { name: config.name.clone(), reason });
        }
        if indices.is_empty() && test.is_empty() {
            let reason = "it has no samples".to_string();
            return Err(DataError::Empty { name: config.name.clone(), reason });
        }
        let classes = match &config.classes {
            Some(names) if names.len() != found.classes.len() => {
                let reason = format!("`classes` has {} names, the source has {} classes", names.len(), found.classes.len());
                return Err(DataError::Invalid { name: config.name.clone(), reason });
            }
            Some(names) => names.clone(),
            None => found.classes,
        };
        let normalize = Arc::new(affine(config, found.train.as_ref())?);
        let inputs = match found.train.columns() {
            Some(columns) => (0..columns.len()).map(|at| (at, Kind::Float)).collect(),
            None => vec![(0, Kind::Float)],
        };
        if found.train.columns().is_some() && (config.normalize != Normalize::default() || !config.augment.is_none()) {
            let reason = "`normalize` and `augment` go with samples of one array, not with `inputs`".to_string();
            return Err(DataError::Invalid { name: config.name.clone(), reason });
        }
        let split = |source: &Arc<dyn Samples>, indices: Vec<usize>, part: &str| Split {
            name: format!("{} ({part})", config.name),
            labelled: !indices.is_empty() && (source.targets().is_some() || indices.iter().all(|&i| source.label(i).is_some())),
            task: config.task,
            source: source.clone(),
            indices: Arc::new(indices),
            normalize: normalize.clone(),
            augment: config.augment.clone(),
            inputs: Arc::new(inputs.clone()),
            at_once: usize::MAX,
        };
        Ok(Self {
            name: config.name.clone(),
            task: config.task,
            classes,
            train: split(&found.train, indices, "train"),
            validation: split(&found.train, validation, "validation"),
            test: split(&test_source, test, "test"),
        })
    }

    /// The shape of one sample: what goes into the first input.
    pub fn shape(&self) -> Vec<i64> {
        self.train.shape()
    }

    /// The shapes of one sample: by the model's input where the data names inputs, else of the only one.
    pub fn shapes(&self) -> BTreeMap<Option<String>, Vec<i64>> {
        match self.train.source.columns() {
            Some(columns) => columns.iter().map(|c| (Some(c.input.clone()), c.shape.clone())).collect(),
            None => BTreeMap::from([(None, self.shape())]),
        }
    }

    /// The shape of one sample of what goes into an input.
    pub fn shape_of(&self, input: &str) -> Option<Vec<i64>> {
        let mut shapes = self.shapes();
        shapes.remove(&Some(input.to_string())).or_else(|| shapes.remove(&None))
    }

    /// Whether it says which array goes into which input of a model.
    pub fn names_inputs(&self) -> bool {
        self.train.source.columns().is_some()
    }

    /// Why data of one array does not serve a model of these inputs, in words.
    pub fn one_array(inputs: &[&str]) -> String {
        format!("the model has {} inputs ({}), and the data gives one array for a sample", inputs.len(), inputs.join(", "))
    }

    /// Brings the arrays into the order of a model's inputs, and each into its type. `states` are inputs that data may leave out, all together. Errors where
    /// the data does not give an input, or names one that the model has not.
    pub fn bind(&mut self, inputs: &[(String, ElementType)], states: &BTreeSet<String>) -> Result<(), String> {
        let needed: Vec<&(String, ElementType)> = inputs.iter().filter(|(name, _)| !states.contains(name)).collect();
        let bound = match self.train.source.columns() {
            None => match needed[..] {
                [(_, element)] => vec![(0, element.kind())],
                _ => return Err(Self::one_array(&needed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())),
            },
            Some(columns) => {
                if let Some(unknown) = columns.iter().find(|c| !inputs.iter().any(|(name, _)| *name == c.input)) {
                    let names: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(format!("the model has no input `{}`; it has {}", unknown.input, names.join(", ")));
                }
                let find = |(name, element): &(String, ElementType)| {
                    let at = columns.iter().position(|c| c.input == *name);
                    at.map(|at| (at, element.kind())).ok_or_else(|| format!("the data does not give the model's input `{name}`"))
                };
                let given = columns.iter().any(|c| states.contains(&c.input));
                let taken = inputs.iter().filter(|(name, _)| given || !states.contains(name));
                taken.map(find).collect::<Result<_, _>>()?
            }
        };
        let bound = Arc::new(bound);
        for split in [&mut self.train, &mut self.validation, &mut self.test] {
            split.inputs = bound.clone();
        }
        Ok(())
    }

    /// Reads samples as they are stored at most so many at once from here on: the model takes no more.
    pub fn at_once(&mut self, most: usize) {
        for split in [&mut self.train, &mut self.validation, &mut self.test] {
            split.at_once = split.at_once.min(most);
        }
    }
}

fn affine(config: &DataConfig, source: &dyn Samples) -> Result<Affine, DataError> {
    let Normalize { divide, mean, std } = &config.normalize;
    let channels = source.shape().first().map_or(1, |&c| c as usize);
    let fail = |reason: String| DataError::Invalid { name: config.name.clone(), reason };
    let spread = |what: &str, values: &[f32], default: f32| match values.len() {
        0 => Ok(vec![default; channels]),
        1 => Ok(vec![values[0]; channels]),
        n if n == channels => Ok(values.to_vec()),
        n => Err(fail(format!("normalize.{what} has {n} values, samples have {channels} channels"))),
    };
    let divide = divide.unwrap_or(source.default_divisor());
    let (mean, std) = (spread("mean", mean, 0.0)?, spread("std", std, 1.0)?);
    if !(divide.is_finite() && divide != 0.0) || std.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return Err(fail("normalize.divide must not be zero and normalize.std must be positive".into()));
    }
    let factor: Vec<f32> = std.iter().map(|s| 1.0 / (divide * s)).collect();
    let shift: Vec<f32> = mean.iter().zip(&std).map(|(m, s)| -m / s).collect();
    if factor.iter().chain(&shift).any(|v| !v.is_finite()) {
        return Err(fail(
            "normalize turns values into infinite ones: `mean`, `std` and `divide` are too large or too small".into(),
        ));
    }
    Ok(Affine { factor, shift })
}
