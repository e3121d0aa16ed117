//! The section of the page that tells every metric.

use maud::{Markup, html};
use sinter_task::Metric;

use crate::quality::Figure;
use crate::record::RunRecord;
use crate::scroll::scroll;

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
