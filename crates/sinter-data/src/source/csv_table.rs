//! CSV tables: one sample a row, features in columns.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sinter_model::elements;

use super::{Found, Held, Samples, WithTargets};
use crate::config::CsvConfig;
use crate::error::DataError;
use crate::task::{Labels, Task};

pub(super) fn find(config: &CsvConfig, task: Task) -> Result<Found, DataError> {
    if !config.labels.is_empty() || task.kind().labels() != Labels::Class {
        return numbers(config, task);
    }
    let mut classes = Vec::new();
    let (train, _) = load(&config.path, config, None, &mut classes)?;
    let test = match &config.test {
        Some(path) => Some(load(path, config, None, &mut classes)?.0),
        None => None,
    };
    // Numbers keep their own order; names are numbered alphabetically, whatever row comes first.
    let mut order: Vec<usize> = (0..classes.len()).collect();
    let numbers: Option<Vec<f64>> = classes.iter().map(|c| c.parse().ok().filter(|v: &f64| v.is_finite())).collect();
    match numbers {
        Some(numbers) => order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b])),
        None => order.sort_by(|&a, &b| classes[a].cmp(&classes[b])),
    }
    let mut rank = vec![0i64; classes.len()];
    order.iter().enumerate().for_each(|(new, &old)| rank[old] = new as i64);
    let renumber = |mut held: Held<f32>| {
        held.labels.iter_mut().flatten().for_each(|l| *l = rank[*l as usize]);
        held
    };
    let sorted = order.iter().map(|&i| classes[i].clone()).collect();
    let test = test.map(|t| Arc::new(renumber(t)) as _);
    Ok(Found { train: Arc::new(renumber(train)), test, classes: sorted })
}

/// Tables whose labels are numbers, one or several.
fn numbers(config: &CsvConfig, task: Task) -> Result<Found, DataError> {
    let fail = |reason: String| DataError::format(&config.path, reason);
    let kind = task.kind().labels();
    if kind == Labels::Class {
        return Err(fail(format!("`task: {}` takes one `label`, not several", task.name())));
    }
    if config.label.is_some() && !config.labels.is_empty() {
        return Err(fail("`label` and `labels` are both given: write one of them".into()));
    }
    // One label is a number, several are a row of them.
    let shape = if config.label.is_some() { vec![] } else { vec![config.labels.len() as i64] };
    let labels: Vec<String> = config.label.iter().chain(&config.labels).cloned().collect();
    let features = CsvConfig { label: None, ..config.clone() };
    let load = |path: &Path| -> Result<(Arc<dyn Samples>, Option<i64>), DataError> {
        let (held, beside) = load(path, &features, Some(&labels), &mut Vec::new())?;
        let samples = Arc::new(held);
        match labels.is_empty() {
            true => Ok((samples, None)),
            false => WithTargets::beside(samples, (path, task), (shape.clone(), &beside)),
        }
    };
    let (train, most) = load(&config.path)?;
    let (test, most_test) = config.test.as_deref().map(load).transpose()?.unzip();
    // Columns of marks are classes by their names, classes of positions by their numbers.
    let classes = match most.max(most_test.flatten()) {
        Some(most) => (0..=most).map(|class| class.to_string()).collect(),
        None if kind == Labels::Whole => vec![],
        None => config.labels.clone(),
    };
    Ok(Found { train, test, classes })
}

/// What usually stands between columns.
const DELIMITERS: [char; 4] = [',', ';', '\t', '|'];

/// The columns of a table, and what stands between them: of the usual the one that makes most of them.
pub fn header(path: &Path) -> Result<(Vec<String>, char), DataError> {
    let mut best = (Vec::new(), ',');
    for delimiter in DELIMITERS {
        let file = std::fs::File::open(path).map_err(DataError::read(path))?;
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter as u8).from_reader(std::io::BufReader::new(file));
        let columns: Vec<String> =
            reader.headers().map_err(|e| DataError::format(path, e))?.iter().map(|name| name.trim().to_string()).collect();
        if columns.len() > best.0.len() {
            best = (columns, delimiter);
        }
    }
    Ok(best)
}

/// The samples of one table with their classes, and the columns of `targets`, row by row, where labels are those. New names of classes are put behind those that are known.
fn load(
    path: &Path,
    config: &CsvConfig,
    targets: Option<&[String]>,
    classes: &mut Vec<String>,
) -> Result<(Held<f32>, Vec<f64>), DataError> {
    let file = std::fs::File::open(path).map_err(DataError::read(path))?;
    let mut builder = csv::ReaderBuilder::new();
    let delimiter = config.delimiter.unwrap_or(',');
    let Ok(byte) = u8::try_from(delimiter) else {
        return Err(DataError::format(path, format!("`{delimiter}` can't stand between columns: one character of ASCII does")));
    };
    let mut reader = builder.delimiter(byte).from_reader(std::io::BufReader::new(file));
    let header = reader.headers().map_err(|e| DataError::format(path, e))?.clone();
    if header.len() == 1
        && let Some(other) = DELIMITERS.into_iter().find(|d| *d != delimiter && header[0].contains(*d))
    {
        let reason = format!(
            "one column only, `{}`: its delimiter seems to be {other:?}, not {delimiter:?}. Write `delimiter: {other:?}` beside `path`",
            &header[0]
        );
        return Err(DataError::format(path, reason));
    }
    let column = |name: &str| {
        let names = || header.iter().map(str::trim).collect::<Vec<_>>().join(", ");
        let found = header.iter().position(|h| h.trim() == name);
        found.ok_or_else(|| DataError::format(path, format!("no column `{name}`; it has {}", names())))
    };
    let label = config.label.as_deref().map(column).transpose()?;
    let places = |names: &[String]| names.iter().map(|n| column(n)).collect::<Result<Vec<_>, _>>();
    let ignored = places(&config.ignore)?;
    let twice = |all: &[&str]| (0..all.len()).find(|&at| all[..at].contains(&all[at])).map(|at| all[at].to_string());
    if let Some(targets) = targets {
        let (named, there) = (targets.iter().map(String::as_str).collect::<Vec<_>>(), header.iter().map(str::trim));
        if let Some(name) = twice(&named).or_else(|| twice(&there.collect::<Vec<_>>())) {
            return Err(DataError::format(path, format!("column `{name}` is named twice")));
        }
    }
    let targets = places(targets.unwrap_or_default())?;
    let other = |i: &usize| Some(*i) != label && !ignored.contains(i) && !targets.contains(i);
    let features: Vec<usize> = (0..header.len()).filter(other).collect();
    let shape = config.shape.clone().unwrap_or_else(|| vec![features.len() as i64]);
    if features.is_empty() || elements(&shape, 4).ok() != Some(features.len()) {
        return Err(DataError::format(path, format!("{} feature columns do not fill the shape {shape:?}", features.len())));
    }
    let (mut values, mut labels, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers: HashMap<String, usize> = classes.iter().enumerate().map(|(i, c)| (c.clone(), i)).collect();
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| DataError::format(path, e))?;
        // The header is line 1.
        let line = record.position().map_or(i as u64 + 2, |p| p.line());
        let number = |f: usize| {
            let text = record[f].trim();
            text.parse::<f32>().ok().filter(|v| v.is_finite()).ok_or_else(|| {
                let comma = text.replace(',', ".").parse::<f32>().is_ok();
                let hint = if comma { ": write a point where it has a comma" } else { "" };
                let reason = format!("line {line}, column `{}`: `{text}` is not a finite number{hint}", header[f].trim());
                DataError::format(path, reason)
            })
        };
        for &f in &features {
            values.push(number(f)?);
        }
        for &t in &targets {
            beside.push(f64::from(number(t)?));
        }
        if let Some(l) = label {
            let name = record[l].trim();
            if name.is_empty() {
                return Err(DataError::format(path, format!("line {line}: the label is empty")));
            }
            let class = *numbers.entry(name.to_string()).or_insert_with(|| {
                classes.push(name.to_string());
                classes.len() - 1
            });
            labels.push(class as i64);
        }
    }
    Ok((Held { shape, values, labels: label.map(|_| labels), divisor: 1.0 }, beside))
}
