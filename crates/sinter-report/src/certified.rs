//! The certificate as a section of the page.

use maud::{Markup, html};

use crate::record::RunRecord;
use crate::scroll::scroll;

/// One row a layer; nothing where there is no certificate.
pub(crate) fn certificate(record: &RunRecord) -> Markup {
    let Some(certificate) = &record.certificate else { return html! {} };
    let table = html! {
        table {
            thead { tr { th { "Layer" } th.n { "Least sum" } th.n { "Greatest sum" } th.n { "Bits that would do" } th { "Where other kernels round otherwise" } } }
            tbody { @for row in &certificate.layers { tr {
                td { (row.layer) }
                td.n { (row.low) }
                td.n { (row.high) }
                td.n { (row.bits) }
                td.wrap { @match &row.rounding { Some(text) => (text), None => "its results are floats" } }
            } } }
        }
    };
    html! {
        section {
            h2 { "For every input" }
            p { (certificate.summary) "." }
            (scroll("For every input", &table))
            @for note in &certificate.notes { p.small { (note) } }
            p.small { "From the weights and the range of the inputs alone, without samples: sums are exact, ranges and distances are sound bounds. All of it is in artifacts/certificate.json." }
        }
    }
}
