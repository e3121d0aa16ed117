//! How surprised a language model is by what follows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_data::{NO_LABEL, Task};
use sinter_model::to_f32s;
use tch::Kind;

use super::{Alone, Measure, Seen, Tally, rows_of};
use crate::error::TaskError;
use crate::metric::Metric;

/// The exponential of the mean negative logarithm of the probability of each token that is scored: among how many tokens the model chooses, as it were. For
/// language models; comparable only for the same tokenizer, text, window and context.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Perplexity {}

impl Measure for Perplexity {
    fn metric(&self) -> Metric {
        Metric { range: (Some(1.0), None), ..Metric::error("perplexity") }
    }

    fn fits(&self, task: Task, labelled: bool) -> bool {
        matches!(task, Task::Language(_)) && labelled
    }

    fn start(&self) -> Box<dyn Tally> {
        Box::new(Surprise::default())
    }
}

/// Of each window the sum of negative logarithms, and the number of tokens.
#[derive(Default)]
struct Surprise(Vec<(f64, f64)>);

impl Tally for Surprise {
    fn add(&mut self, seen: &Seen) -> Result<(), TaskError> {
        let (output, labels) = (seen.output(), seen.labels("perplexity")?);
        let counted = labels.f_ne(NO_LABEL)?;
        let next = labels.f_clamp_min(0)?.f_unsqueeze(-1)?;
        // The logarithm of a softmax at one place, without the softmax of all.
        let normal = output.f_logsumexp(&[-1i64][..], false)?;
        let found = normal.f_sub(&output.f_gather(-1, &next, false)?.f_squeeze_dim(-1)?)?;
        let found = found.f_mul(&counted.f_to_kind(Kind::Float)?)?;
        let sums = |t: &tch::Tensor| -> Result<Vec<f32>, TaskError> {
            Ok(to_f32s(&rows_of(t)?.f_sum_dim_intlist(1, false, Kind::Double)?)?)
        };
        let pairs = sums(&found)?.into_iter().zip(sums(&counted)?);
        self.0.extend(pairs.map(|(sum, count)| (f64::from(sum), f64::from(count))));
        Ok(())
    }

    fn value(&self, times: &[u32]) -> f64 {
        let add =
            |(sum, count): (f64, f64), ((s, c), &t): (&(f64, f64), &u32)| (sum + s * f64::from(t), count + c * f64::from(t));
        let (sum, count) = self.0.iter().zip(times).fold((0.0, 0.0), add);
        (sum / count.max(1.0)).exp()
    }

    fn alone(&self, sample: usize) -> Option<Alone> {
        self.0.get(sample).map(|(sum, count)| Alone::of((sum / count.max(1.0)).exp()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{twice_is_two, value};
    use super::*;
    use tch::Tensor;

    /// `torch.exp(torch.nn.functional.cross_entropy(...))` of PyTorch 2.15.
    #[test]
    fn as_pytorch_has_it() {
        let output = Tensor::from_slice(&[0.5f32, 1.0, -1.0, 2.0, 0.0, 0.25, -0.5, 0.5, 1.5, 0.1, 0.2, 0.3]).reshape([2, 2, 3]);
        let labels = Tensor::from_slice(&[1i64, 0, NO_LABEL, 2]).reshape([2, 2]);
        let task = Task::Language(Default::default());
        let found = value(&Perplexity {}, task, &[(output.shallow_clone(), labels.shallow_clone())], None);
        assert!((found - 1.838_130_354_881_286_6).abs() < 1e-5, "{found}");
        twice_is_two(&Perplexity {}, task, &output, &labels);
    }
}
