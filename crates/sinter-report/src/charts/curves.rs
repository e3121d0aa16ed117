//! Lines over a common axis: losses over epochs, and what scans found.

use plotters::prelude::*;
use sinter_task::Unit;

use super::WIDTH;
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, RULE, SERIES, as_drawn, shorten, text_style};
use crate::record::{RunRecord, SensitivityRow};

/// Lines over a common axis.
pub(crate) struct Curves {
    lines: Vec<(String, Vec<(f64, f64)>)>,
    x: &'static str,
    y: String,
    /// From left to right.
    range: (f64, f64),
    /// Whether only whole numbers are marked on the axis.
    whole: bool,
    legend: SeriesLabelPosition,
}

impl Curves {
    /// Losses over epochs, stage after stage.
    pub fn of_training(record: &RunRecord) -> Self {
        let rows = record.curves.iter().enumerate().map(|(i, row)| (row.stage.clone(), (i as f64 + 1.0, row.loss)));
        let range = (0.5, record.curves.len() as f64 + 0.5);
        let legend = SeriesLabelPosition::UpperRight;
        Self { lines: gather(rows), x: "epoch of the run", y: "mean loss".into(), range, whole: true, legend }
    }

    /// What each layer alone loses at each share, or with fewer and fewer bits.
    pub fn of_sensitivity(record: &RunRecord, bits: bool) -> Self {
        let rows = || record.sensitivity.iter().filter(move |s| s.bits == bits);
        let several = rows().any(|s| Some(&s.stage) != rows().next().map(|r| &r.stage));
        let name = |s: &SensitivityRow| if several { format!("{} {}", s.stage, s.layer) } else { s.layer.clone() };
        let rows = rows().map(|s| (name(s), (if bits { s.at } else { s.at * 100.0 }, record.metric.scaled(s.lost))));
        let y = match record.metric.unit {
            Unit::Percent => format!("points of {} lost", record.metric.name),
            Unit::Plain => format!("{} lost", record.metric.name),
        };
        let legend = SeriesLabelPosition::UpperLeft;
        let (x, range) = match bits {
            true => ("bits of one layer's weight", (0.5, 8.5)),
            false => ("share removed from one layer, %", (20.0, 100.0)),
        };
        Self { lines: gather(rows), x, y, range, whole: bits, legend }
    }
}

/// Points by name, in the order in which the names come.
fn gather(rows: impl Iterator<Item = (String, (f64, f64))>) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (name, point) in rows {
        match lines.last_mut() {
            Some((last, points)) if *last == name => points.push(point),
            _ => lines.push((name, vec![point])),
        }
    }
    lines
}

impl Plot for Curves {
    fn size(&self) -> (u32, u32) {
        (WIDTH, 420)
    }

    fn describe(&self) -> String {
        let each = self.lines.iter().map(|(n, p)| {
            let (first, last) = (p.first().map_or(0.0, |p| p.1), p.last().map_or(0.0, |p| p.1));
            format!("{n}: {first:.4} to {last:.4} over {} points", p.len())
        });
        each.collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let top = self.lines.iter().flat_map(|(_, p)| p).map(|p| p.1).fold(0.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(pen.area)
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(70)
            .build_cartesian_2d(self.range.0..self.range.1, 0.0..top.max(1e-9))
            .map_err(|e| e.to_string())?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(RULE).axis_style(MUTED).disable_x_mesh();
        mesh.x_desc(self.x).y_desc(&self.y).axis_desc_style(text_style(14, INK)).label_style(text_style(13, MUTED));
        let x_label = |v: &f64| if !self.whole || v.fract() == 0.0 { format!("{v:.0}") } else { String::new() };
        let labels = if self.whole { (self.range.1 as usize + 1).min(20) } else { 9 };
        as_drawn(mesh.x_labels(labels).y_labels(6).x_label_formatter(&x_label).draw())?;
        for (i, (name, points)) in self.lines.iter().enumerate() {
            let color = SERIES[i % SERIES.len()];
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2));
            let series = chart.draw_series(line).map_err(|e| e.to_string())?;
            let text = shorten(name, 28);
            series.label(text).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
            chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, color.filled()))).map_err(|e| e.to_string())?;
        }
        let (base_x, base_y) = pen.area.get_base_pixel();
        for (name, points) in &self.lines {
            for point in points {
                let (x, y) = chart.backend_coord(point);
                pen.spot((x - base_x - 7, y - base_y - 7), (14, 14), format!("{name}: {:.4} at {:.4}", point.1, point.0));
            }
        }
        // With many lines a legend would hide them; the pointer tells which is which.
        if self.lines.len() > 12 {
            return Ok(());
        }
        let mut legend = chart.configure_series_labels();
        legend.position(self.legend.clone()).border_style(RULE).background_style(RGBColor(255, 255, 255).mix(0.85));
        as_drawn(legend.label_font(text_style(13, INK)).draw())
    }
}
