//! A metric's value on some samples.

use serde::{Deserialize, Serialize};

use crate::metric::{Degradation, Metric};

/// A metric's value on some samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured.
    pub metric: Metric,
    /// In the metric's unit, a share between 0 and 1.
    pub value: f64,
    /// Where it lies for other samples like these, 95 times of a hundred; where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// On how many samples.
    pub samples: usize,
    /// Share of samples whose label is among the five largest outputs; with more than five classes.
    pub top5: Option<f64>,
    /// `confusion[label][predicted]`, for up to 100 classes.
    pub confusion: Option<Vec<Vec<u32>>>,
}

impl Measurement {
    /// How much is lost from this to `now`.
    pub fn degradation(&self, now: &Measurement) -> Degradation {
        self.metric.degradation(self.value, now.value)
    }

    /// Why this does not look like a model that was trained on these samples, where it does not: it hits no more than chance would, or predicts
    /// one class nearly always.
    pub fn doubt(&self) -> Option<String> {
        let table = self.confusion.as_ref()?;
        let total: f64 = table.iter().flatten().map(|&n| f64::from(n)).sum();
        let hits: f64 = (0..table.len()).map(|i| f64::from(table[i][i])).sum();
        let labels: Vec<f64> = table.iter().map(|row| row.iter().map(|&n| f64::from(n)).sum::<f64>() / total).collect();
        if total == 0.0 || labels.iter().filter(|l| **l > 0.0).count() < 2 {
            return None;
        }
        // Whoever always says the commonest class hits so many; two standard deviations more are within luck.
        let chance = labels.iter().copied().fold(0.0, f64::max);
        let luck = 2.0 * (chance * (1.0 - chance) / total).sqrt();
        let predicted = |class: usize| table.iter().map(|row| f64::from(row[class])).sum::<f64>() / total;
        let favourite = (0..table.len()).map(|c| (predicted(c), c)).max_by(|a, b| a.0.total_cmp(&b.0))?;
        let causes = "usual causes are another normalisation than in training (`normalize`), another order of channels or colours, another order of \
                      labels, or weights that were never trained";
        if favourite.0 > 0.95 && chance < 0.9 {
            return Some(format!(
                "the float model predicts one class, {}, for {:.0} % of the samples: {causes}",
                favourite.1,
                favourite.0 * 100.0
            ));
        }
        (hits / total <= chance + luck).then(|| {
            format!(
                "the float model is no better than chance: {:.2} % are right, and always saying the commonest class would give {:.2} %: {causes}",
                hits / total * 100.0,
                chance * 100.0
            )
        })
    }

    /// A number that is the larger the better, to choose by.
    pub fn score(&self) -> f64 {
        self.metric.score(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_untrained_model_is_doubted() {
        let of = |confusion: Vec<Vec<u32>>| Measurement {
            metric: Metric::share("accuracy"),
            value: 0.0,
            interval: None,
            samples: 0,
            top5: None,
            confusion: Some(confusion),
        };
        let doubt = |confusion: Vec<Vec<u32>>| of(confusion).doubt().unwrap_or_default();
        assert!(doubt(vec![vec![26, 24], vec![25, 25]]).contains("no better than chance: 51.00 %"));
        assert!(doubt(vec![vec![50, 0], vec![49, 1]]).contains("predicts one class, 0, for 99 %"));
        assert_eq!(doubt(vec![vec![40, 10], vec![10, 40]]), "");
        // One class alone in the test split says nothing.
        assert_eq!(doubt(vec![vec![50, 0], vec![0, 0]]), "");
        // A rare class that is found is no chance.
        assert_eq!(doubt(vec![vec![950, 0], vec![10, 40]]), "");
    }
}
