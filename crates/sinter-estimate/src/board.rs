//! What boards were measured to need, and what that says of a model that nobody measured.
//!
//! A *system* is a board with its software, as one submission to a public benchmark measured it: energy and inferences a second of a few
//! known models. What a multiply-accumulate costs on a system is taken as log-normal over models, with a spread that all systems of a
//! board share; the interval is the usual prediction interval of Student's t. `cargo xtask validate-estimates` tells how far it is off
//! for models that were left out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinter_model::Joules;

/// Published measurements of one kind of board.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The board: `STM32L4R5, 120 MHz`.
    pub name: String,
    /// Where the measurements were published.
    pub source: String,
    /// The system whose software estimates are for. Default: the first of `systems`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
    /// What was measured, by software.
    pub systems: Vec<System>,
}

/// One board with its software, measured on a few models in 8 bits.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// The software and who measured it: `X-CUBE-AI, STMicroelectronics, v1.2`.
    pub software: String,
    /// One a reference model.
    pub results: Vec<Published>,
}

/// One model on one system.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// A reference model of MLPerf Tiny: `ad`, `ic`, `kws` or `vww`.
    pub model: Reference,
    /// Of one inference.
    pub energy: Joules,
    /// How many inferences a second. Default: not published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
}

/// The reference models of MLPerf Tiny (Banbury et al., 2021).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// Anomaly detection: a fully connected autoencoder.
    Ad,
    /// Image classification: ResNet-8.
    Ic,
    /// Keyword spotting: DS-CNN.
    Kws,
    /// Visual wake words: MobileNetV1-0.25.
    Vww,
}

impl Reference {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ad, Self::Ic, Self::Kws, Self::Vww];

    /// Multiply-accumulates of one inference.
    pub fn macs(self) -> u64 {
        match self {
            Self::Ad => 264_192,
            Self::Ic => 12_505_748,
            Self::Kws => 2_664_792,
            Self::Vww => 7_491_972,
        }
    }

    /// As MLPerf Tiny writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ad => "ad",
            Self::Ic => "ic",
            Self::Kws => "kws",
            Self::Vww => "vww",
        }
    }
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Joules an inference.
    Energy,
    /// Seconds an inference.
    Latency,
}

impl Published {
    /// Joules or seconds a multiply-accumulate; `None` where it was not published.
    fn per_mac(&self, quantity: Quantity) -> Option<f64> {
        let whole = match quantity {
            Quantity::Energy => self.energy.0,
            Quantity::Latency => 1.0 / self.per_second?,
        };
        (whole.is_finite() && whole > 0.0).then(|| whole / self.model.macs() as f64)
    }
}

/// A figure with the interval in which it should lie for four models of five.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// The estimate itself.
    pub middle: f64,
    /// Its upper end.
    pub high: f64,
}

impl Board {
    /// The system that estimates are for; errors name the ones there are.
    pub fn system(&self) -> Result<&System, String> {
        let known = || self.systems.iter().map(|s| format!("`{}`", s.software)).collect::<Vec<_>>().join(", ");
        match &self.software {
            Some(wanted) => self.systems.iter().find(|s| s.software == *wanted),
            None => self.systems.first(),
        }
        .ok_or_else(|| format!("no system of `{}` has this software; there are {}", self.name, known()))
    }

    /// What an inference of `macs` multiply-accumulates in 8 bits takes: joules or seconds. `None` where too little was published.
    pub fn estimate(&self, quantity: Quantity, macs: u64) -> Option<Interval> {
        let costs = |system: &System| system.results.iter().filter_map(|r| r.per_mac(quantity)).map(f64::ln).collect::<Vec<_>>();
        let own = costs(self.measured(quantity)?);
        let groups: Vec<Vec<f64>> = self.systems.iter().map(costs).collect();
        predict(&own, &groups, macs)
    }

    /// The system that an estimate of this quantity rests on: the chosen one, or, where it published none, the first that did.
    pub fn measured(&self, quantity: Quantity) -> Option<&System> {
        let enough = |system: &&System| system.results.iter().filter(|r| r.per_mac(quantity).is_some()).count() >= 2;
        self.system().ok().filter(enough).or_else(|| self.systems.iter().find(enough))
    }

    /// The least and the most that all systems of this board took, in the quantity's unit a multiply-accumulate.
    pub fn published(&self, quantity: Quantity) -> Option<(f64, f64)> {
        let all = self.systems.iter().flat_map(|s| &s.results).filter_map(|r| r.per_mac(quantity));
        all.fold(None, |range, v| Some(range.map_or((v, v), |(low, high): (f64, f64)| (low.min(v), high.max(v)))))
    }

    /// Every model of every system, estimated from the other models: the measured value over the estimate, and whether it lay in the
    /// interval.
    pub fn left_out(&self, quantity: Quantity) -> Vec<HeldOut> {
        let mut found = Vec::new();
        for held in Reference::ALL {
            let costs = |system: &System| -> Vec<f64> {
                let others = system.results.iter().filter(|r| r.model != held);
                others.filter_map(|r| r.per_mac(quantity)).map(f64::ln).collect()
            };
            let groups: Vec<Vec<f64>> = self.systems.iter().map(costs).collect();
            for (system, own) in self.systems.iter().zip(&groups) {
                let measured = system.results.iter().find(|r| r.model == held).and_then(|r| r.per_mac(quantity));
                let (Some(measured), Some(estimate)) = (measured, predict(own, &groups, held.macs())) else { continue };
                let measured = measured * held.macs() as f64;
                found.push(HeldOut { system: system.software.clone(), model: held, measured, estimate });
            }
        }
        found
    }
}

/// A model that the fit did not see.
#[derive(Debug, Clone)]
pub struct HeldOut {
    /// Board and software.
    pub system: String,
    /// The reference model.
    pub model: Reference,
    /// Joules or seconds.
    pub measured: f64,
    /// What was estimated without it.
    pub estimate: Interval,
}

impl HeldOut {
    /// How far the middle of the estimate is off, as a share of what was measured.
    pub fn error(&self) -> f64 {
        (self.estimate.middle / self.measured - 1.0).abs()
    }

    /// Whether the interval holds what was measured.
    pub fn covered(&self) -> bool {
        (self.estimate.low..=self.estimate.high).contains(&self.measured)
    }
}

/// The 80 % prediction interval for one more model: `own` are logarithms of cost a multiply-accumulate on the system, `groups` those of
/// all systems of the board, each with a mean of its own and one spread for all.
fn predict(own: &[f64], groups: &[Vec<f64>], macs: u64) -> Option<Interval> {
    if own.is_empty() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mut squares, mut freedom) = (0.0, 0);
    for group in groups.iter().filter(|g| g.len() > 1) {
        let center = mean(group);
        squares += group.iter().map(|v| (v - center).powi(2)).sum::<f64>();
        freedom += group.len() - 1;
    }
    if freedom == 0 {
        return None;
    }
    // All systems were measured on the same few models, so what these have in common is seen no more often than on one of them: the
    // degrees of freedom are those of one system.
    let spread = (squares / freedom as f64).sqrt() * (1.0 + 1.0 / own.len() as f64).sqrt();
    let reach = student_t(own.len().saturating_sub(1).max(1)) * spread;
    let middle = mean(own);
    let at = |log: f64| log.exp() * macs as f64;
    Some(Interval { low: at(middle - reach), middle: at(middle), high: at(middle + reach) })
}

/// The 90th percentile of Student's t: four of five lie within plus and minus it.
fn student_t(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [3.078, 1.886, 1.638, 1.533, 1.476, 1.440, 1.415, 1.397, 1.383, 1.372];
    TABLE.get(freedom.saturating_sub(1)).copied().unwrap_or(1.282)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(costs: &[(Reference, f64)]) -> Board {
        let results = costs
            .iter()
            .map(|&(model, pj)| Published { model, energy: Joules(pj * 1e-12 * model.macs() as f64), per_second: None })
            .collect();
        let system = System { software: "one".into(), results };
        Board { name: "board".into(), source: "test".into(), software: None, systems: vec![system] }
    }

    #[test]
    fn the_middle_is_the_geometric_mean_and_the_interval_is_students() {
        let board = board(&[(Reference::Ad, 100.0), (Reference::Ic, 200.0), (Reference::Kws, 400.0)]);
        let found = board.estimate(Quantity::Energy, 1_000_000).unwrap();
        assert!((found.middle - 200e-6).abs() < 1e-9);
        // By hand: ln 2 is the sample deviation; t(2) = 1.886; sqrt(1 + 1/3).
        let factor = (1.886 * 2f64.ln() * (4f64 / 3.0).sqrt()).exp();
        assert!(
            (found.high / found.middle / factor - 1.0).abs() < 1e-9 && (found.middle / found.low / factor - 1.0).abs() < 1e-9
        );
        assert_eq!(board.estimate(Quantity::Latency, 1_000_000), None);
    }

    #[test]
    fn a_model_that_was_left_out_is_estimated_from_the_others() {
        let board = board(&[(Reference::Ad, 100.0), (Reference::Ic, 100.0), (Reference::Kws, 110.0), (Reference::Vww, 500.0)]);
        let off = board.left_out(Quantity::Energy);
        let vww = off.iter().find(|o| o.model == Reference::Vww).unwrap();
        assert!(!vww.covered() && vww.error() > 0.7);
        assert_eq!(off.len(), 4);
    }

    /// What the README promises of the boards that Sinter knows.
    #[test]
    fn unseen_models_are_estimated_within_the_promised_error() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/targets");
        let mut found = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let target: crate::Target = serde_yaml::from_str(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
            if let Some(board) = target.board {
                assert!(board.system().is_ok(), "{}", target.name);
                found.extend(board.left_out(Quantity::Energy));
            }
        }
        assert!(found.len() > 80, "{} results", found.len());
        let mut errors: Vec<f64> = found.iter().map(HeldOut::error).collect();
        errors.sort_by(f64::total_cmp);
        assert!(errors[errors.len() * 9 / 10] < 0.5, "{}", errors[errors.len() * 9 / 10]);
        let covered = found.iter().filter(|f| f.covered()).count() as f64 / found.len() as f64;
        assert!(covered >= 0.8, "{covered}");
    }

    #[test]
    fn software_that_nobody_measured_is_told() {
        let mut board = board(&[(Reference::Ad, 100.0)]);
        board.software = Some("two".into());
        assert!(board.system().unwrap_err().contains("`one`"));
    }
}
