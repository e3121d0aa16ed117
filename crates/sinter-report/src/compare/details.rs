//! What two recipes side by side show, beyond the table: stages, layers and the configuration key by key.

use std::collections::BTreeMap;

use serde::Serialize;
use sinter_model::Bytes;

use crate::page::stage_text;
use crate::record::RunRecord;

/// Layers of one run that travel with a page: those that are largest.
const MOST_LAYERS: usize = 200;

/// What is set side by side.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Details {
    /// The configuration by key: `stages[1].prune.pattern`.
    pub config: BTreeMap<String, String>,
    /// Of each stage its name, and what it left.
    pub stages: Vec<[String; 2]>,
    /// Of each layer of the result its name, shape, encoding, share of zeros and bytes.
    pub layers: Vec<[String; 5]>,
    /// Of each metric its name, the float model's value, the result's, and the change.
    pub quality: Vec<[String; 4]>,
}

impl Details {
    /// Of a run.
    pub(super) fn of(record: &RunRecord, config: BTreeMap<String, String>) -> Self {
        let last = record.last().map_or(0, |s| s.index);
        let mut layers: Vec<_> = record.layers.iter().filter(|l| l.stage_index == last).collect();
        if layers.len() > MOST_LAYERS {
            layers.sort_by(|a, b| b.packed_bytes.total_cmp(&a.packed_bytes));
            layers.truncate(MOST_LAYERS);
        }
        let layers = layers.into_iter().map(|l| {
            let bytes = Bytes(l.packed_bytes.round() as u64).to_string();
            [l.layer.clone(), l.shape.clone(), l.encoding.clone(), format!("{:.1} %", l.sparsity * 100.0), bytes]
        });
        let stages = record.stages.iter().map(|s| [s.stage.clone(), stage_text(record, s)]);
        let quality = record.quality.iter().map(|q| {
            let float = q.float.map_or_else(String::new, |f| q.metric.text(f.value));
            [q.metric.name.to_string(), float, q.metric.text(q.result.value), q.change()]
        });
        Self { config, stages: stages.collect(), layers: layers.collect(), quality: quality.collect() }
    }
}

/// A YAML document as `key.key[index]` to value. A stage is named by its kind: `stages[1].prune.pattern`.
pub(super) fn flatten(yaml: &str) -> BTreeMap<String, String> {
    fn walk(path: String, value: &serde_yaml::Value, out: &mut BTreeMap<String, String>) {
        match value {
            serde_yaml::Value::Mapping(map) => {
                for (key, value) in map {
                    let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_string);
                    walk(if path.is_empty() { key } else { format!("{path}.{key}") }, value, out);
                }
            }
            serde_yaml::Value::Sequence(all) => {
                all.iter().enumerate().for_each(|(i, value)| walk(format!("{path}[{i}]"), value, out));
            }
            // A key without a value is as good as none.
            serde_yaml::Value::Null => {}
            other => {
                out.insert(path, serde_yaml::to_string(other).unwrap_or_default().trim().to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(String::new(), &serde_yaml::from_str(yaml).unwrap_or(serde_yaml::Value::Null), &mut out);
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn configurations_are_compared_key_by_key() {
        let flat = super::flatten("a: 1\nstages:\n- prune:\n    pattern: '2:4'\n    none: null\n");
        let keys: Vec<(&str, &str)> = flat.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(keys, [("a", "1"), ("stages[0].prune.pattern", "2:4")]);
    }
}
