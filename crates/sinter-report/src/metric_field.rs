//! A metric as its name, which scripts look for, and beside it what else there is to know.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sinter_task::Metric;

#[derive(Serialize)]
struct Stored<'a> {
    metric: &'a str,
    metric_facts: &'a Metric,
}

pub fn serialize<S: Serializer>(metric: &Metric, serializer: S) -> Result<S::Ok, S::Error> {
    Stored { metric: &metric.name, metric_facts: metric }.serialize(serializer)
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metric, D::Error> {
    // Older records hold the name alone, or all facts under `metric`.
    #[derive(Deserialize)]
    struct Either {
        metric: serde_json::Value,
        #[serde(default)]
        metric_facts: Option<Metric>,
    }
    let found = Either::deserialize(deserializer)?;
    found.metric_facts.map_or_else(|| serde_json::from_value(found.metric).map_err(serde::de::Error::custom), Ok)
}
