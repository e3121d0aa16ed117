//! The mean over classes of the harmonic mean of precision and recall.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::confusion::Confusion;
use super::{Measure, Outcome, Seen, Tally};
use crate::error::TaskError;
use crate::metric::Metric;

/// The mean over classes of the harmonic mean of precision and recall (van Rijsbergen, 1979; the macro average of Sokolova and Lapalme,
/// 2009). For classifiers whose classes are of unequal frequency, where accuracy tells of the frequent ones alone. Costs what accuracy does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct F1 {}

impl Measure for F1 {
    fn metric(&self) -> Metric {
        Metric::share("F1")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        task == Task::Classify && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Means(Confusion::default()))
    }
}

struct Means(Confusion);

impl Tally for Means {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        self.0.add(seen, "F1")
    }

    fn finish(self: Box<Self>) -> Outcome {
        Outcome { value: macro_f1(self.0.table()), top5: self.0.top5(), confusion: self.0.into_small_table() }
    }
}

/// Over the classes that occur or are predicted; one that is never hit counts 0.
fn macro_f1(table: &[Vec<u32>]) -> f64 {
    let of = |class: usize| {
        let labelled: u32 = table[class].iter().sum();
        let predicted: u32 = table.iter().map(|row| row[class]).sum();
        let both = labelled + predicted;
        (both > 0).then(|| 2.0 * f64::from(table[class][class]) / f64::from(both))
    };
    let each: Vec<f64> = (0..table.len()).filter_map(of).collect();
    each.iter().sum::<f64>() / each.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sklearn.metrics.f1_score(y, p, average="macro")` of scikit-learn 1.9.1 on these predictions.
    #[test]
    fn as_scikit_learn_has_it() {
        // y = [0,0,0,0,1,1,2,2,2], p = [0,0,1,2,1,1,2,0,2]
        let table = vec![vec![2, 1, 1], vec![0, 2, 0], vec![1, 0, 2]];
        assert!((macro_f1(&table) - 0.679_365_079_365_079_4).abs() < 1e-12, "{}", macro_f1(&table));
        // y = [0,0,1], p = [0,0,0]: class 1 is never hit. Class 2 neither occurs nor is predicted.
        assert!((macro_f1(&[vec![2, 0, 0], vec![1, 0, 0], vec![0, 0, 0]]) - 0.4).abs() < 1e-12);
        assert_eq!(macro_f1(&[]), 0.0);
    }
}
