//! The pictures of a comparison that stand as files, and in a page without script.

use super::{Comparison, Row, Scale};
use crate::chart::{Chart, render};
use crate::charts::{Point, Scatter};
use crate::error::ReportError;

/// All that there can be.
pub(super) const NAMES: [&str; 3] = ["compare", "compare-energy", "compare-latency"];

/// Quality against each cost that all rows have: size, energy, latency; each with its front.
pub(super) fn of(all: &Comparison) -> Result<Vec<Chart>, ReportError> {
    let Some((quality, metric)) = all.columns.iter().enumerate().find_map(|(i, c)| match &c.scale {
        Scale::Metric(metric) if c.better.is_some() => Some((i, metric)),
        _ => None,
    }) else {
        return Ok(vec![]);
    };
    let mut charts = Vec::new();
    for axis in CostAxis::ALL {
        let (name, title, x, keys) = axis.words();
        let Some(cost) = all.columns.iter().position(|c| keys.contains(&c.key.as_str())) else { continue };
        let point = |(i, row): (usize, &Row)| {
            let (at, value) = (row.cells[cost].value.filter(|v| *v > 0.0)?, row.cells[quality].value?);
            let tip = format!("{}: {}, {}", row.name, row.cells[cost].text, row.cells[quality].text);
            Some(Point { cost: at * axis.factor(), quality: metric.scaled(value), label: row.name.clone(), tip, color: i })
        };
        // A picture of some of them would pass for one of all.
        let there = all.rows.iter().filter(|r| !r.cells[quality].is_empty());
        let points: Option<Vec<Point>> = there.enumerate().map(point).collect();
        let Some(points) = points.filter(|p| !p.is_empty()) else { continue };
        charts.push(render(name, title, &Scatter { points, x: x.into(), metric: metric.clone(), joined: false, front: true })?);
    }
    Ok(charts)
}

/// What quality is set against when recipes are compared.
#[derive(Debug, Clone, Copy)]
enum CostAxis {
    Size,
    Energy,
    Latency,
}

impl CostAxis {
    const ALL: [Self; 3] = [Self::Size, Self::Energy, Self::Latency];

    /// File name, title, what stands along the axis, and the columns that hold it.
    fn words(self) -> (&'static str, &'static str, &'static str, &'static [&'static str]) {
        match self {
            Self::Size => ("compare", "Quality against size", "packed size, KiB (logarithmic)", &["packed_bytes", "packed"]),
            Self::Energy => (
                "compare-energy",
                "Quality against the estimated energy",
                "energy, µJ (logarithmic)",
                &["energy_floor_joules_estimate", "energy"],
            ),
            Self::Latency => (
                "compare-latency",
                "Quality against latency",
                "latency, ms (logarithmic)",
                &["median_latency_seconds", "latency"],
            ),
        }
    }

    /// From the column's unit to the axis's.
    fn factor(self) -> f64 {
        match self {
            Self::Size => 1.0 / 1024.0,
            Self::Energy => 1e6,
            Self::Latency => 1e3,
        }
    }
}
