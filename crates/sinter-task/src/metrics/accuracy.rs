//! The share of labels that are the largest output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::Task;

use super::counts::{Count, Counts};
use super::{Measure, Tally};
use crate::metric::Metric;

/// The share of samples whose largest output is the label; where each position has one, of positions; where each label holds or does not, of labels. For
/// classifiers whose classes are about equally frequent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// For labels that each hold or do not: from where on an output says that one does. Default: 0.5, right for probabilities; logits want 0.
    #[serde(default = "super::scores::half")]
    pub threshold: f64,
}

impl Default for Accuracy {
    fn default() -> Self {
        Self { threshold: super::scores::half() }
    }
}

impl Measure for Accuracy {
    fn metric(&self) -> Metric {
        Metric::share("accuracy")
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Classify(_) | Task::Segment(_) | Task::Language(_) | Task::MultiLabel(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Counts::start("accuracy", self.threshold, value)
    }
}

fn value(counts: &[Count]) -> f64 {
    let (hits, all) = counts.iter().fold((0.0, 0.0), |(hits, all), c| (hits + c.hits, all + c.labelled));
    hits / f64::max(all, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::Seen;
    use super::super::tests::{twice_is_two, value};
    use super::*;
    use sinter_data::{MultiLabel, NO_LABEL, Segment};
    use tch::Tensor;

    fn seen<'a>(outputs: &'a [Tensor; 1], labels: Option<&'a Tensor>) -> Seen<'a> {
        let task = Task::default();
        Seen { task, input: &outputs[0], outputs, labels, references: None, probabilities: false }
    }

    #[test]
    fn hits_are_counted_over_batches() {
        let mut tally = Accuracy::default().start();
        let output = [Tensor::from_slice(&[0.1f32, 0.9, 0.8, 0.2, 0.4, 0.6]).reshape([3, 2])];
        for labels in [[1i64, 0, 0], [1, 1, 1]] {
            let labels = Tensor::from_slice(&labels);
            tally.add(&seen(&output, Some(&labels))).unwrap();
        }
        assert!((tally.value(&[1; 6]) - 4.0 / 6.0).abs() < 1e-12);
        assert!((tally.value(&[0, 0, 1, 0, 0, 3]) - 3.0 / 4.0).abs() < 1e-12);
        assert_eq!(tally.beside().confusion, Some(vec![vec![1, 1], vec![1, 3]]));
        let wrong = Accuracy::default().start().add(&seen(&output, None));
        assert!(wrong.unwrap_err().to_string().contains("accuracy needs labels"));
    }

    #[test]
    fn positions_and_labels_of_their_own_count_each() {
        // Two samples of three positions and two classes, the classes at the end; one position counts for nothing.
        let output = Tensor::from_slice(&[0.9f32, 0.1, 0.2, 0.8, 0.6, 0.4, 0.3, 0.7, 0.3, 0.7, 0.3, 0.7]).reshape([2, 3, 2]);
        let labels = Tensor::from_slice(&[0i64, 1, 1, 0, 1, NO_LABEL]).reshape([2, 3]);
        let task = Task::Segment(Segment::default());
        assert!(
            (value(&Accuracy::default(), task, &[(output.shallow_clone(), labels.shallow_clone())], None) - 0.6).abs() < 1e-12
        );
        assert!((value(&Accuracy::default(), task, &[(output, labels)], Some(&[0, 1])) - 0.5).abs() < 1e-12);
        let (output, marks) = (Tensor::from_slice(&[0.9f32, 0.1, 0.6, 0.2]), Tensor::from_slice(&[1f32, 0.0, 0.0, 0.0]));
        let task = Task::MultiLabel(MultiLabel::default());
        let (output, marks) = (output.reshape([2, 2]), marks.reshape([2, 2]));
        assert!(
            (value(&Accuracy::default(), task, &[(output.shallow_clone(), marks.shallow_clone())], None) - 0.75).abs() < 1e-12
        );
        twice_is_two(&Accuracy::default(), task, &output, &marks);
    }
}
