//! CSV tables: one sample a row, features in columns.

use std::path::Path;
use std::sync::Arc;

use super::{Found, Held};
use crate::config::CsvConfig;
use crate::error::DataError;

pub(super) fn find(config: &CsvConfig) -> Result<Found, DataError> {
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

fn load(path: &Path, config: &CsvConfig, classes: &mut Vec<String>) -> Result<Held<f32>, DataError> {
    let file = std::fs::File::open(path).map_err(DataError::read(path))?;
    let mut reader = csv::Reader::from_reader(std::io::BufReader::new(file));
    let header = reader.headers().map_err(|e| DataError::format(path, e))?.clone();
    let column = |name: &str| {
        let names = || header.iter().collect::<Vec<_>>().join(", ");
        let found = header.iter().position(|h| h.trim() == name);
        found.ok_or_else(|| DataError::format(path, format!("no column `{name}`; it has {}", names())))
    };
    let label = config.label.as_deref().map(column).transpose()?;
    let ignored = config.ignore.iter().map(|n| column(n)).collect::<Result<Vec<_>, _>>()?;
    let features: Vec<usize> = (0..header.len()).filter(|i| Some(*i) != label && !ignored.contains(i)).collect();
    let shape = config.shape.clone().unwrap_or_else(|| vec![features.len() as i64]);
    if features.is_empty() || shape.iter().product::<i64>() != features.len() as i64 {
        return Err(DataError::format(path, format!("{} feature columns do not fill the shape {shape:?}", features.len())));
    }
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for (i, record) in reader.records().enumerate() {
        let record = record.map_err(|e| DataError::format(path, e))?;
        // The header is line 1.
        let line = record.position().map_or(i as u64 + 2, |p| p.line());
        for &f in &features {
            let text = record[f].trim();
            let value = text.parse::<f32>().ok().filter(|v| v.is_finite());
            let Some(value) = value else {
                let reason = format!("line {line}, column `{}`: `{text}` is not a finite number", &header[f]);
                return Err(DataError::format(path, reason));
            };
            values.push(value);
        }
        if let Some(l) = label {
            let name = record[l].trim();
            let class = classes.iter().position(|c| c == name).unwrap_or_else(|| {
                classes.push(name.to_string());
                classes.len() - 1
            });
            labels.push(class as i64);
        }
    }
    Ok(Held { shape, values, labels: label.map(|_| labels), divisor: 1.0 })
}
