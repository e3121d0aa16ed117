//! CSV tables: one sample a row, features in columns.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sinter_model::elements;

use super::numpy::MOST_CLASSES;
use super::{Column, Found, Held, Samples, Values, WithTargets};
use crate::config::CsvConfig;
use crate::error::DataError;
use crate::task::{Labels, Task};

pub(super) fn find(config: &CsvConfig, task: Task) -> Result<Found, DataError> {
    if !config.labels.is_empty() || task.kind().labels() != Labels::Class {
        return numbers(config, task);
    }
    let mut classes = Vec::new();
    let train = load(&config.path, config, &mut classes)?;
    let test = match &config.test {
        Some(path) => Some(load(path, config, &mut classes)?),
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
    if task.kind().labels() == Labels::Class {
        let reason = format!("`task: {}` takes one `label`, not several", task.name());
        return Err(DataError::format(&config.path, reason));
    }
    let names: Vec<String> = config.label.iter().chain(&config.labels).cloned().collect();
    let fail = |reason: String| DataError::format(&config.path, reason);
    if config.label.is_some() && !config.labels.is_empty() {
        return Err(fail("`label` and `labels` are both given: write one of them".into()));
    }
    let twice =
        |all: &[String]| all.iter().enumerate().find(|(at, name)| all[..*at].contains(name)).map(|(_, name)| name.clone());
    if let Some(name) = twice(&names).or(twice(&header(&config.path, config)?)) {
        return Err(fail(format!("column `{name}` is named twice")));
    }
    let asks = task.kind();
    let most = std::cell::Cell::new(-1i64);
    let load = |path: &Path| -> Result<Arc<dyn Samples>, DataError> {
        let wide = CsvConfig { label: None, labels: vec![], shape: None, ..config.clone() };
        let table = load(path, &wide, &mut Vec::new())?;
        let header = header(path, config)?;
        let kept: Vec<&String> = header.iter().filter(|h| !config.ignore.contains(h)).collect();
        let place = |name: &String| kept.iter().position(|h| *h == name);
        let labels = names.iter().map(|name| {
            place(name).ok_or_else(|| DataError::format(path, format!("no column `{name}`; it has {}", header.join(", "))))
        });
        let labels = labels.collect::<Result<Vec<usize>, _>>()?;
        let width = kept.len();
        let (mut values, mut beside) = (Vec::new(), Vec::new());
        for row in table.values.chunks(width.max(1)) {
            values.extend(row.iter().enumerate().filter(|(at, _)| !labels.contains(at)).map(|(_, v)| *v));
            beside.extend(labels.iter().map(|at| row[*at]));
        }
        let features = width - labels.len();
        let shape = config.shape.clone().unwrap_or_else(|| vec![features as i64]);
        if features == 0 || elements(&shape, 4).ok() != Some(features) {
            return Err(DataError::format(path, format!("{features} feature columns do not fill the shape {shape:?}")));
        }
        let samples = Arc::new(Held { shape, values, labels: None, divisor: 1.0 });
        if labels.is_empty() {
            return Ok(samples);
        }
        let whole = task.kind().labels() == Labels::Whole;
        let ignored = |v: f64| asks.ignore().is_some_and(|i| v == i as f64);
        let is_class = |v: f64| v.fract() == 0.0 && (0.0..MOST_CLASSES).contains(&v) || ignored(v);
        if let Some(at) = beside.iter().position(|v: &f32| whole && !is_class(f64::from(*v))) {
            let reason = format!("a label of sample {} is {}, no whole number of a class", at / labels.len(), beside[at]);
            return Err(DataError::format(path, reason));
        }
        let classes = beside.iter().filter(|v| whole && !ignored(f64::from(**v))).map(|v| *v as i64);
        most.set(most.get().max(classes.max().unwrap_or(-1)));
        let values = match whole {
            true => Values::Whole(beside.iter().map(|v| *v as i64).collect()),
            false => Values::Real(beside),
        };
        // One label is a number, several are a row of them.
        let shape = if labels.len() == 1 && config.labels.is_empty() { vec![] } else { vec![labels.len() as i64] };
        Ok(Arc::new(WithTargets { samples, targets: Column { input: String::new(), shape, values } }))
    };
    let test = config.test.as_deref().map(load).transpose()?;
    let train = load(&config.path)?;
    // Columns of marks are classes by their names, classes of positions by their numbers.
    let classes = match asks.labels() {
        Labels::Whole => (0..=most.get()).map(|class| class.to_string()).collect(),
        _ => config.labels.clone(),
    };
    Ok(Found { train, test, classes })
}

/// The names of the columns.
fn header(path: &Path, config: &CsvConfig) -> Result<Vec<String>, DataError> {
    let file = std::fs::File::open(path).map_err(DataError::read(path))?;
    let byte = config.delimiter.and_then(|d| u8::try_from(d).ok()).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(byte).from_reader(std::io::BufReader::new(file));
    let header = reader.headers().map_err(|e| DataError::format(path, e))?;
    Ok(header.iter().map(|h| h.trim().to_string()).collect())
}

fn load(path: &Path, config: &CsvConfig, classes: &mut Vec<String>) -> Result<Held<f32>, DataError> {
    let file = std::fs::File::open(path).map_err(DataError::read(path))?;
    let mut builder = csv::ReaderBuilder::new();
    let delimiter = config.delimiter.unwrap_or(',');
    let Ok(byte) = u8::try_from(delimiter) else {
        return Err(DataError::format(path, format!("`{delimiter}` can't stand between columns: one character of ASCII does")));
    };
    let mut reader = builder.delimiter(byte).from_reader(std::io::BufReader::new(file));
    let header = reader.headers().map_err(|e| DataError::format(path, e))?.clone();
    if header.len() == 1
        && let Some(other) = [';', '\t', '|', ','].into_iter().find(|d| *d != delimiter && header[0].contains(*d))
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
    let ignored = config.ignore.iter().map(|n| column(n)).collect::<Result<Vec<_>, _>>()?;
    let features: Vec<usize> = (0..header.len()).filter(|i| Some(*i) != label && !ignored.contains(i)).collect();
    let shape = config.shape.clone().unwrap_or_else(|| vec![features.len() as i64]);
    if features.is_empty() || elements(&shape, 4).ok() != Some(features.len()) {
        return Err(DataError::format(path, format!("{} feature columns do not fill the shape {shape:?}", features.len())));
    }
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let mut numbers: HashMap<String, usize> = classes.iter().enumerate().map(|(i, c)| (c.clone(), i)).collect();
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| DataError::format(path, e))?;
        // The header is line 1.
        let line = record.position().map_or(i as u64 + 2, |p| p.line());
        for &f in &features {
            let text = record[f].trim();
            let value = text.parse::<f32>().ok().filter(|v| v.is_finite());
            let Some(value) = value else {
                let comma = text.replace(',', ".").parse::<f32>().is_ok();
                let hint = if comma { ": write a point where it has a comma" } else { "" };
                let reason = format!("line {line}, column `{}`: `{text}` is not a finite number{hint}", header[f].trim());
                return Err(DataError::format(path, reason));
            };
            values.push(value);
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
    Ok(Held { shape, values, labels: label.map(|_| labels), divisor: 1.0 })
}
