//! A measurement with all that it rests on: how far it would lie elsewhere for other samples, and whether it differs from another.

use rayon::prelude::*;

use crate::error::TaskError;
use crate::measurement::Measurement;
use crate::metric::{Metric, Unit};
use crate::metrics::{Alone, Measure, Tally};

/// How often samples are drawn again (Efron, 1979), and how many draws all together are the most.
const DRAWS: usize = 1000;
const MOST: usize = 20_000_000;
const FEWEST: usize = 40;

/// A metric's value on some samples, and what each of them contributed.
pub struct Examined {
    /// The value.
    pub measurement: Measurement,
    tally: Box<dyn Tally>,
    /// Whether it measures the distance from the float model, and not from labels.
    pub is_distance: bool,
}

/// How much is lost from one measurement to another on the same samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// In the metric's unit, below zero when some is gained: the 95 % interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How likely a difference as large would be by the choice of samples alone, were there none; two-sided.
    pub p: f64,
}

impl Examined {
    pub(crate) fn new(measure: &dyn Measure, mut tally: Box<dyn Tally>, samples: usize) -> Result<Self, TaskError> {
        tally.close()?;
        let (metric, is_distance) = (measure.metric(), measure.is_distance());
        let (value, beside) = (tally.value(&vec![1; samples]), tally.beside());
        let measurement = Measurement { metric, value, interval: None, samples, top5: beside.top5, confusion: beside.confusion };
        Ok(Self { measurement, tally, is_distance })
    }

    /// The measurement with its 95 % interval, by drawing the samples again with replacement (percentile bootstrap: Efron, 1979), the same draws every time.
    pub fn with_interval(&self) -> Measurement {
        let mut told = self.measurement.clone();
        told.interval = self.tally.beside().interval.or_else(|| {
            let values = self.tally.can_resample().then(|| self.drawn(|times| self.tally.value(times)))?;
            Some(self.opened((quantile(&values, 0.025), quantile(&values, 0.975))))
        });
        told
    }

    /// Where no sample differs from the others, drawing them again says nothing of those that were not seen: as many as an exact binomial interval allows
    /// (Clopper and Pearson, 1934) may.
    fn opened(&self, (low, high): (f64, f64)) -> (f64, f64) {
        let Metric { unit, range, .. } = &self.measurement.metric;
        if low < high || self.is_distance || *unit != Unit::Percent {
            return (low, high);
        }
        let unseen = 1.0 - 0.025f64.powf(1.0 / self.measurement.samples.max(1) as f64);
        match (range.0 == Some(low), range.1 == Some(high)) {
            (true, _) => (low, low + unseen),
            (_, true) => (high - unseen, high),
            _ => (low, high),
        }
    }

    /// What is lost since `before`, which saw the same samples in the same order; `None` where a metric can't be told of some of its samples.
    pub fn since(&self, before: &Examined) -> Option<Paired> {
        let same = self.measurement.samples == before.measurement.samples && self.measurement.metric == before.measurement.metric;
        if !(same && self.tally.can_resample() && before.tally.can_resample()) {
            return None;
        }
        let metric = &self.measurement.metric;
        let lost = self.drawn(|times| metric.gain(self.tally.value(times), before.tally.value(times)));
        if lost.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let share = |side: fn(f64) -> bool| lost.iter().filter(|v| side(**v)).count() as f64 / lost.len() as f64;
        let p = (2.0 * share(|v| v <= 0.0).min(share(|v| v >= 0.0))).min(1.0);
        // Nobody who drew a thousand times knows of a chance of none.
        let p = p.max(1.0 / lost.len() as f64);
        Some(Paired { low: quantile(&lost, 0.025), high: quantile(&lost, 0.975), p })
    }

    /// What each sample comes to by itself, in the order of the split; `None` where a metric is told of many only.
    pub fn each(&self) -> Vec<Option<Alone>> {
        let finite = |sample| self.tally.alone(sample).filter(|a| a.value.is_finite());
        (0..self.measurement.samples).map(finite).collect()
    }

    /// A value for each draw, from the smallest on.
    fn drawn(&self, value: impl Fn(&[u32]) -> f64 + Sync) -> Vec<f64> {
        let samples = self.measurement.samples;
        let draws = (MOST / samples.max(self.tally.entries()).max(1)).clamp(FEWEST, DRAWS);
        let one = |draw: usize| {
            let mut random = fastrand::Rng::with_seed(draw as u64 + 1);
            let mut times = vec![0u32; samples];
            (0..samples).for_each(|_| times[random.usize(0..samples)] += 1);
            value(&times)
        };
        let mut values: Vec<f64> = (0..draws).into_par_iter().map(one).collect();
        values.sort_by(f64::total_cmp);
        values
    }
}

/// Of values in their order.
fn quantile(values: &[f64], share: f64) -> f64 {
    let at = share * (values.len().saturating_sub(1)) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    match (values.get(low), values.get(high)) {
        (Some(a), Some(b)) => a + (b - a) * (at - low as f64),
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{MetricChoice, Seen};
    use sinter_data::Task;
    use tch::Tensor;

    /// Two classes, of which so many samples in the front are predicted rightly.
    fn examined(right: usize, samples: usize) -> Examined {
        let rows: Vec<f32> = (0..samples).flat_map(|i| if i < right { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        let outputs = [Tensor::from_slice(&rows).reshape([samples as i64, 2])];
        let labels = Tensor::zeros([samples as i64], (tch::Kind::Int64, tch::Device::Cpu));
        let choice = MetricChoice::default();
        let mut tally = choice.kind().start();
        let task = Task::default();
        let seen =
            Seen { task, input: &outputs[0], outputs: &outputs, labels: Some(&labels), references: None, probabilities: false };
        tally.add(&seen).unwrap();
        Examined::new(choice.kind(), tally, samples).unwrap()
    }

    /// `binomtest(160, 200).proportion_ci(method="exact")` of SciPy 1.17.1 is 0.738 to 0.853; of 50 of 50 it is 0.929 to 1.
    #[test]
    fn intervals_are_those_of_a_share() {
        let (low, high) = examined(160, 200).with_interval().interval.unwrap();
        assert!((low - 0.74).abs() < 0.012 && (high - 0.85).abs() < 0.012, "{low} {high}");
        let (low, high) = examined(50, 50).with_interval().interval.unwrap();
        assert!((low - 0.928_9).abs() < 1e-3 && high == 1.0, "{low} {high}");
        let (low, high) = examined(0, 50).with_interval().interval.unwrap();
        assert!(low == 0.0 && (high - 0.071_1).abs() < 1e-3, "{low} {high}");
    }

    /// McNemar's exact test (SciPy's `binomtest(0, 8)`) has p = 0.008 where eight samples of 200 fell and none rose, and 0.5 where two did.
    #[test]
    fn the_same_samples_tell_small_differences() {
        let before = examined(160, 200);
        let paired = examined(152, 200).since(&before).unwrap();
        assert!(paired.low > 0.0 && paired.low < 0.04 && paired.high > 0.04 && paired.high < 0.08, "{paired:?}");
        assert!(paired.p < 0.02, "{paired:?}");
        assert!(examined(158, 200).since(&before).unwrap().p > 0.1);
        let same = examined(160, 200).since(&before).unwrap();
        assert_eq!((same.low, same.high, same.p), (0.0, 0.0, 1.0));
        assert!(examined(16, 20).since(&before).is_none());
    }
}
