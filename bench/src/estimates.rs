//! How far the estimates for boards are off, for models that they have not seen.

use std::path::Path;

use serde::Deserialize;
use sinter_estimate::{Board, HeldOut, Quantity, Target};

use crate::Outcome;
use crate::table::Table;

/// The largest error of energy for nine models of ten, and the least share of models in their interval.
const MOST_ERROR: f64 = 0.5;
const LEAST_COVERED: f64 = 0.8;

/// One line of MLPerf Tiny's results.
#[derive(Debug, Deserialize)]
struct Line {
    bench: String,
    #[serde(rename = "uJ")]
    microjoules: f64,
}

/// Leaves out each model of each system of the boards in `targets` in turn, estimates it from the others, and prints how far the
/// estimates were off. With `published`, the CSV of MLPerf Tiny's results, also checks that the targets hold what it says. Errors where
/// the figures are worse than Sinter promises.
pub fn all(targets: &Path, published: Option<&Path>) -> Outcome<()> {
    let mut boards = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(targets)?.filter_map(Result::ok).map(|f| f.path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "yaml")) {
        let target: Target = serde_yaml::from_str(&std::fs::read_to_string(path)?)?;
        boards.extend(target.board.map(|b| (target.name, b)));
    }
    if let Some(path) = published {
        check_facts(&boards, path)?;
    }
    let mut failed = Vec::new();
    for (quantity, name) in [(Quantity::Energy, "energy"), (Quantity::Latency, "latency")] {
        let heads = ["target", "systems", "left-out results", "median error", "p90 error", "within the interval"];
        let mut table =
            Table::new(&format!("{name} of models that were left out (four of five should lie in the interval)"), &heads);
        let mut whole = Vec::new();
        for (target, board) in &boards {
            let found = board.left_out(quantity);
            if !found.is_empty() {
                table.row(&row(target, board.systems.len(), &found));
                whole.extend(found);
            }
        }
        let systems = boards.iter().map(|(_, b)| b.systems.len()).sum();
        table.row(&row("all of them", systems, &whole));
        table.print();
        if quantity == Quantity::Energy && error(&whole, 0.9) > MOST_ERROR {
            failed.push(format!("{name}: the error of nine in ten reaches {:.0} %", error(&whole, 0.9) * 100.0));
        }
        if covered(&whole) < LEAST_COVERED {
            failed.push(format!("{name}: only {:.0} % lie within their interval", covered(&whole) * 100.0));
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ").into()) }
}

fn row(name: &str, systems: usize, found: &[HeldOut]) -> Vec<String> {
    let percent = |v: f64| format!("{:.0} %", v * 100.0);
    vec![
        name.to_string(),
        systems.to_string(),
        found.len().to_string(),
        percent(error(found, 0.5)),
        percent(error(found, 0.9)),
        percent(covered(found)),
    ]
}

/// The error that this share of the estimates keeps to.
fn error(found: &[HeldOut], share: f64) -> f64 {
    let mut errors: Vec<f64> = found.iter().map(HeldOut::error).collect();
    errors.sort_by(f64::total_cmp);
    errors.get(((errors.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn covered(found: &[HeldOut]) -> f64 {
    found.iter().filter(|f| f.covered()).count() as f64 / found.len().max(1) as f64
}

/// Every energy that a target states must stand among the published ones, for the same model.
fn check_facts(boards: &[(String, Board)], path: &Path) -> Outcome<()> {
    let lines: Vec<Line> = csv::Reader::from_path(path)?.deserialize().collect::<Result<_, _>>()?;
    let mut checked = 0;
    for (target, board) in boards {
        for (system, result) in board.systems.iter().flat_map(|s| s.results.iter().map(move |r| (s, r))) {
            let (wanted, name) = (result.energy.0 * 1e6, result.model.name());
            if !lines.iter().any(|l| l.bench == name && (l.microjoules / wanted - 1.0).abs() < 1e-6) {
                return Err(
                    format!("target {target}: {wanted} uJ for {name} with {} was never published", system.software).into()
                );
            }
            checked += 1;
        }
    }
    println!("{checked} measurements of the targets stand in {}\n", path.display());
    Ok(())
}
