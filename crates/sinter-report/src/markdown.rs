//! The same answer as Markdown, for a pull request.

use std::fmt::Write as _;

use sinter_model::{Bytes, Joules, Macs};

use crate::charts::change;
use crate::dense::dense;
use crate::quality::Figure;
use crate::record::RunRecord;

/// A run in a few tables.
pub(crate) fn of_run(record: &RunRecord) -> String {
    let mut out = format!("## {}\n\n**{}**\n\n", text(&record.pipeline), text(&record.summary));
    let _ = writeln!(out, "| stage | what | packed | | {} | MACs | energy floor, estimated |", text(&record.metric.name));
    out += "|---|---|--:|--:|--:|--:|--:|\n";
    for (i, s) in record.stages.iter().enumerate() {
        let before = &record.stages[i.saturating_sub(1)];
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            text(&s.stage),
            text(&s.what),
            Bytes(s.packed_bytes),
            change(before.packed_bytes as f64, s.packed_bytes as f64),
            record.metric.text(s.value),
            Macs(s.macs),
            Joules(s.energy_floor)
        );
    }
    if !record.quality.is_empty() {
        out += "\n| metric | float | result | change | by |\n|---|--:|--:|---|---|\n";
    }
    for q in &record.quality {
        let figure = |of: &Figure| {
            let interval = of.interval.map(|(a, b)| format!(" ({} to {})", q.metric.text(a), q.metric.text(b)));
            q.metric.text(of.value) + &interval.unwrap_or_default()
        };
        let (float, result, change) = (q.float.as_ref().map_or("–".into(), figure), figure(&q.result), q.change());
        let _ = writeln!(out, "| {} | {float} | {result} | {change} | {} |", text(&q.metric.name), q.runtime);
    }
    if !record.measured.is_empty() {
        let _ = write!(
            out,
            "\n| file | runtime | {}, measured | simulated | median latency |\n|---|---|--:|--:|--:|\n",
            text(&record.metric.name)
        );
    }
    for m in &record.measured {
        let value = m.value.map_or("not measured".to_string(), |v| record.metric.text(v));
        let latency = m.latency_median.map_or("–".to_string(), |t| format!("{t:.3} ms"));
        let _ = writeln!(out, "| {} | {} | {value} | {} | {latency} |", m.artifact, m.runtime, record.metric.text(m.simulated));
    }
    if !record.budget.is_empty() {
        out += "\n| budget | at most | is | |\n|---|--:|---|---|\n";
    }
    for b in &record.budget {
        let verdict = if b.met { "met".to_string() } else { format!("**missed** {}", text(&b.worst.join(", "))) };
        let _ = writeln!(out, "| {} | {} | {} | {verdict} |", b.what, b.limit, text(&b.value));
    }
    if let Some(why) = dense(record) {
        let _ = write!(out, "\n{why}\n");
    }
    let _ = writeln!(out, "\n`{}` · {} · seed {}", record.command, text(&record.machine), record.seed);
    out
}

/// Names from the user's files, so that they can't end a cell or start markup.
fn text(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' => out.extend(['\\', c]),
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '\n' | '\r' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_stay_in_their_cells() {
        assert_eq!(super::text("a|b<script>\n*c*"), "a\\|b&lt;script&gt; \\*c\\*");
    }
}
