//! The share of samples whose label is among the largest outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;
use sinter_model::to_f32s;
use tch::Kind;

use super::means::weighted_mean;
use super::{Alone, Measure, Seen, Tally, rows_of};
use crate::error::TaskError;
use crate::metric::Metric;

/// The share of samples whose label is among the `k` largest outputs. For many classes that resemble each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopK {
    /// How many. Default: 5.
    pub k: u32,
}

impl Default for TopK {
    fn default() -> Self {
        Self { k: 5 }
    }
}

impl Measure for TopK {
    fn metric(&self) -> Metric {
        Metric { name: format!("top {}", self.k).into(), ..Metric::share("") }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Classify(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Among { k: i64::from(self.k), seen: vec![] })
    }
}

struct Among {
    k: i64,
    seen: Vec<f32>,
}

impl Tally for Among {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let (scores, labels) = (rows_of(seen.output())?, seen.labels("top k")?);
        let (_, top) = scores.f_topk(self.k.min(scores.size()[1]), 1, true, false)?;
        let hits = top.f_eq_tensor(&labels.f_unsqueeze(1)?)?.f_any_dim(1, false)?;
        self.seen.extend(to_f32s(&hits.f_to_kind(Kind::Float)?)?);
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        weighted_mean(self.seen.iter().map(|v| f64::from(*v)), times)
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        self.seen.get(sample).map(|v| Alone::of(f64::from(*v)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{twice_is_two, value};
    use super::*;
    use tch::Tensor;

    #[test]
    fn second_places_count() {
        let output = Tensor::from_slice(&[0.1f32, 0.5, 0.4, 0.7, 0.2, 0.1, 0.3, 0.3, 0.4]).reshape([3, 3]);
        let labels = Tensor::from_slice(&[2i64, 2, 2]);
        let batch = || [(output.shallow_clone(), labels.shallow_clone())];
        assert!((value(&TopK { k: 2 }, Task::default(), &batch(), None) - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(value(&TopK { k: 9 }, Task::default(), &batch(), None), 1.0);
        twice_is_two(&TopK { k: 1 }, Task::default(), &output, &labels);
    }
}
