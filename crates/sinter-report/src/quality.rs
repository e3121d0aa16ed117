//! Every metric of a run, with its interval: what the float model scored, what is left, and whether they truly differ.

use maud::{Markup, html};
use serde::{Deserialize, Serialize};
use sinter_task::Metric;

use crate::record::RunRecord;
use crate::scroll::scroll;

/// A metric's value, and where it would lie for other samples like these, 95 times of a hundred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// On the test split.
    pub value: f64,
    /// The ends of the interval; `None` where a metric has none.
    pub interval: Option<(f64, f64)>,
}

/// What was lost, on the same samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LostRow {
    /// In the metric's unit, below zero when some is gained: the 95 % interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// How likely so large a difference is by the choice of samples alone; two-sided.
    pub p: f64,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityRow {
    /// What is measured.
    pub metric: Metric,
    /// Of the float model; `None` where the metric measures the distance from it.
    pub float: Option<Figure>,
    /// Of the result.
    pub result: Figure,
    /// `None` where samples can't be paired.
    pub lost: Option<LostRow>,
    /// What computed the outputs: ONNX Runtime, or the simulation.
    pub runtime: String,
    /// The number of samples.
    pub samples: usize,
}

impl QualityRow {
    /// The change in words: `0.31 points lost (-0.10 to 0.70, p = 0.14)`.
    pub fn change(&self) -> String {
        let Some(float) = self.float else { return String::new() };
        let text = self.metric.loss_text(float.value, self.result.value);
        let scale = |v: f64| self.metric.scaled(v);
        match self.lost {
            Some(lost) => format!("{text} ({:.2} to {:.2}, p = {:.3})", scale(lost.low), scale(lost.high), lost.p),
            None => text,
        }
    }
}

/// A value with its interval.
fn figure(metric: &Metric, of: &Figure) -> Markup {
    html! {
        (metric.text(of.value))
        @if let Some((low, high)) = of.interval { br; small { (metric.text(low)) " to " (metric.text(high)) } }
    }
}

/// The section of the page.
pub(crate) fn section(record: &RunRecord) -> Markup {
    if record.quality.is_empty() {
        return html! {};
    }
    let table = html! {
        table {
            thead { tr { th { "Metric" } th.n { "Float" } th.n { "Result" } th { "Change" } th { "Computed by" } } }
            tbody { @for q in &record.quality { tr {
                td { (q.metric.name) }
                td.n { @match &q.float { Some(float) => (figure(&q.metric, float)), None => "–" } }
                td.n { (figure(&q.metric, &q.result)) }
                td.wrap { (q.change()) }
                td { (q.runtime) }
            } } }
        }
    };
    let samples = record.quality.iter().map(|q| q.samples).max().unwrap_or(0);
    html! {
        section {
            h2 { "Quality, with intervals" }
            (scroll("Quality, with intervals", &table))
            p.small {
                "On " (samples) " test samples. Small figures are 95 % intervals by drawing the samples again (bootstrap); the change is judged on the same draws of both models, and p "
                "is how likely so large a change would be by the choice of samples alone."
            }
        }
    }
}
