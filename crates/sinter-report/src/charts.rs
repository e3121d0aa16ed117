//! The charts of a run and of a comparison.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use sinter_model::Bytes;

use crate::chart::{Chart, Drawn, INK, MUTED, Plot, RULE, SERIES, render};
use crate::error::ReportError;
use crate::record::RunRecord;

/// The charts of one run.
pub(crate) fn of_run(record: &RunRecord) -> Result<Vec<Chart>, ReportError> {
    let mut charts = Vec::new();
    let names: Vec<String> = record.stages.iter().map(|s| s.stage.clone()).collect();
    let sizes = Bars {
        labels: names.clone(),
        values: record.stages.iter().map(|s| s.packed_bytes as f64).collect(),
        texts: record.stages.iter().map(|s| Bytes(s.packed_bytes).to_string()).collect(),
    };
    charts.push(render("size", "Packed size after each stage", sizes.describe(), sizes.size(), &sizes)?);
    let floors = Bars {
        labels: names.clone(),
        values: record.stages.iter().map(|s| s.energy_floor).collect(),
        texts: record.stages.iter().map(|s| sinter_model::Joules(s.energy_floor).to_string()).collect(),
    };
    let path = Scatter {
        series: vec![(
            String::new(),
            record
                .stages
                .iter()
                // An untrained model would squeeze all others into a corner.
                .skip(record.float().map_or(0, |f| f.index))
                .map(|s| (s.packed_bytes as f64 / 1024.0, record.scaled(s.value), s.stage.clone()))
                .collect(),
        )],
        x: "packed size, KiB (logarithmic)".into(),
        y: record.axis(),
        joined: true,
    };
    charts.push(render("path", "Quality against size, stage by stage", path.describe(), (760, 380), &path)?);
    charts.push(render("energy", "Estimated energy floor per inference", floors.describe(), floors.size(), &floors)?);
    let layers = layer_bars(record);
    if !layers.labels.is_empty() {
        charts.push(render("layers", "Packed bytes of each layer, float and final", layers.describe(), layers.size(), &layers)?);
    }
    if !record.curves.is_empty() {
        let curves = Curves::of_training(record);
        charts.push(render("training", "Training loss", curves.describe(), (760, 340), &curves)?);
    }
    for (bits, name, title) in [
        (false, "sensitivity", "What each layer loses when it alone is pruned"),
        (true, "sensitivity-bits", "What each layer loses when it alone has fewer bits"),
    ] {
        if record.sensitivity.iter().any(|s| s.bits == bits) {
            let curves = Curves::of_sensitivity(record, bits);
            charts.push(render(name, title, curves.describe(), (760, 380), &curves)?);
        }
    }
    Ok(charts)
}

/// Quality against size of several runs.
pub(crate) fn of_comparison(records: &[RunRecord]) -> Result<Chart, ReportError> {
    let point = |r: &RunRecord| {
        let last = r.last().cloned().unwrap_or_default();
        (r.label(), vec![(last.packed_bytes as f64 / 1024.0, r.scaled(last.value), r.label())])
    };
    let y = records.first().map_or_else(String::new, RunRecord::axis);
    let plot =
        Scatter { series: records.iter().map(point).collect(), x: "packed size, KiB (logarithmic)".into(), y, joined: false };
    render("compare", "Quality against size", plot.describe(), (860, 440), &plot)
}

impl RunRecord {
    fn scaled(&self, value: f64) -> f64 {
        if self.metric == "accuracy" { value * 100.0 } else { value }
    }

    fn axis(&self) -> String {
        if self.metric == "accuracy" { "accuracy, %".into() } else { self.metric.clone() }
    }

    /// The run's name among others.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.pipeline, self.run.get(..8.min(self.run.len())).unwrap_or(&self.run))
    }
}

fn text_style(size: u32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

fn told<E: std::error::Error + Send + Sync>(result: Result<(), DrawingAreaErrorKind<E>>) -> Drawn {
    result.map_err(|e| e.to_string())
}

/// Horizontal bars, one a stage, with their values written beside them.
struct Bars {
    labels: Vec<String>,
    values: Vec<f64>,
    texts: Vec<String>,
}

impl Bars {
    fn size(&self) -> (u32, u32) {
        (760, 30 + 38 * self.labels.len().max(1) as u32)
    }

    fn describe(&self) -> String {
        self.labels.iter().zip(&self.texts).map(|(l, t)| format!("{l}: {t}")).collect::<Vec<_>>().join("; ")
    }
}

const LABEL_WIDTH: i32 = 180;

impl Plot for Bars {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
        let (width, _) = area.dim_in_pixel();
        let most = self.values.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let room = (width as i32 - LABEL_WIDTH - 110) as f64;
        for (i, ((label, &value), text)) in self.labels.iter().zip(&self.values).zip(&self.texts).enumerate() {
            let y = 15 + 38 * i as i32;
            let end = LABEL_WIDTH + (room * value / most).round().max(2.0) as i32;
            let right = text_style(15, INK).pos(Pos::new(HPos::Right, VPos::Center));
            told(area.draw(&Text::new(shorten(label, 20), (LABEL_WIDTH - 12, y + 13), right)))?;
            told(area.draw(&Rectangle::new([(LABEL_WIDTH, y), (end, y + 26)], SERIES[0].filled())))?;
            let left = text_style(15, INK).pos(Pos::new(HPos::Left, VPos::Center));
            told(area.draw(&Text::new(text.clone(), (end + 8, y + 13), left)))?;
        }
        Ok(())
    }
}

/// Two bars a layer: before and after.
struct PairBars {
    labels: Vec<String>,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl PairBars {
    fn size(&self) -> (u32, u32) {
        (760, 60 + 42 * self.labels.len() as u32)
    }

    fn describe(&self) -> String {
        let each = self.labels.iter().zip(self.before.iter().zip(&self.after));
        each.map(|(l, (b, a))| format!("{l}: {} to {}", bytes(*b), bytes(*a))).collect::<Vec<_>>().join("; ")
    }
}

fn bytes(value: f64) -> String {
    Bytes(value.round() as u64).to_string()
}

/// At most so many layers are drawn: those that were largest.
const MOST_LAYERS: usize = 24;

fn layer_bars(record: &RunRecord) -> PairBars {
    let float = record.float().map_or(0, |s| s.index);
    let last = record.last().map_or(0, |s| s.index);
    let find = |index: usize, layer: &str| {
        record.layers.iter().find(|l| l.stage_index == index && l.layer == layer).map_or(0.0, |l| l.packed_bytes)
    };
    let mut order: Vec<&str> = record.layers.iter().filter(|l| l.stage_index == last).map(|l| l.layer.as_str()).collect();
    if order.len() > MOST_LAYERS {
        let mut ranked = order.clone();
        ranked.sort_by(|a, b| find(float, b).total_cmp(&find(float, a)));
        ranked.truncate(MOST_LAYERS);
        order.retain(|l| ranked.contains(l));
    }
    PairBars {
        before: order.iter().map(|l| find(float, l)).collect(),
        after: order.iter().map(|l| find(last, l)).collect(),
        labels: order.into_iter().map(str::to_string).collect(),
    }
}

impl Plot for PairBars {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
        let (width, _) = area.dim_in_pixel();
        let left = || Pos::new(HPos::Left, VPos::Center);
        for (i, (name, color)) in [("float", SERIES[5]), ("final", SERIES[1])].into_iter().enumerate() {
            let x = LABEL_WIDTH + 110 * i as i32;
            told(area.draw(&Rectangle::new([(x, 12), (x + 14, 26)], color.filled())))?;
            told(area.draw(&Text::new(name, (x + 22, 19), text_style(14, MUTED).pos(left()))))?;
        }
        // Sizes differ by orders of magnitude between layers and before and after: bars grow with the logarithm.
        let most = self.before.iter().chain(&self.after).copied().fold(1.0, f64::max);
        let room = (width as i32 - LABEL_WIDTH - 110) as f64;
        let reach = |v: f64| LABEL_WIDTH + (room * (1.0 + v.max(0.0)).ln() / (1.0 + most).ln()).round().max(2.0) as i32;
        for (i, label) in self.labels.iter().enumerate() {
            let y = 44 + 42 * i as i32;
            let right = text_style(14, INK).pos(Pos::new(HPos::Right, VPos::Center));
            told(area.draw(&Text::new(shorten(label, 22), (LABEL_WIDTH - 12, y + 15), right)))?;
            for (j, (value, color)) in [(self.before[i], SERIES[5]), (self.after[i], SERIES[1])].into_iter().enumerate() {
                let top = y + 16 * j as i32;
                let end = reach(value);
                told(area.draw(&Rectangle::new([(LABEL_WIDTH, top), (end, top + 13)], color.filled())))?;
                told(area.draw(&Text::new(bytes(value), (end + 8, top + 7), text_style(13, INK).pos(left()))))?;
            }
        }
        Ok(())
    }
}

/// Size in KiB, quality, label.
type Point = (f64, f64, String);

/// Points on a logarithmic axis of sizes; one color a series.
struct Scatter {
    series: Vec<(String, Vec<Point>)>,
    x: String,
    y: String,
    joined: bool,
}

impl Scatter {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|(_, points)| points)
    }

    fn describe(&self) -> String {
        self.points().map(|(x, y, l)| format!("{l}: {x:.1} KiB, {y:.2}")).collect::<Vec<_>>().join("; ")
    }
}

impl Plot for Scatter {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
        let (mut x0, mut x1, mut y0, mut y1) = (f64::INFINITY, 0.0f64, f64::INFINITY, f64::NEG_INFINITY);
        for &(x, y, _) in self.points() {
            (x0, x1, y0, y1) = (x0.min(x), x1.max(x), y0.min(y), y1.max(y));
        }
        if x0 > x1 {
            return Ok(());
        }
        let margin = ((y1 - y0) * 0.18).max(0.2 * if y1.abs() > 2.0 { 1.0 } else { 0.05 });
        let mut chart = ChartBuilder::on(area)
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(70)
            .build_cartesian_2d(((x0 * 0.6).max(1e-3)..x1 * 2.2).log_scale(), y0 - margin..y1 + margin)
            .map_err(|e| e.to_string())?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(RULE).axis_style(MUTED);
        mesh.x_desc(self.x.as_str())
            .y_desc(self.y.as_str())
            .axis_desc_style(text_style(14, INK))
            .label_style(text_style(13, MUTED));
        let decimals = if y1 - y0 > 3.0 {
            0
        } else if y1.abs() > 2.0 {
            1
        } else {
            3
        };
        let y_label = move |v: &f64| format!("{v:.decimals$}");
        let x_label = |v: &f64| if *v >= 10.0 { format!("{v:.0}") } else { format!("{v:.1}") };
        told(mesh.y_label_formatter(&y_label).x_label_formatter(&x_label).y_labels(6).draw())?;
        for (i, (_, points)) in self.series.iter().enumerate() {
            let color = SERIES[i % SERIES.len()];
            if self.joined {
                let line = points.iter().map(|p| (p.0, p.1));
                chart.draw_series(LineSeries::new(line, color.mix(0.5).stroke_width(2))).map_err(|e| e.to_string())?;
            }
            let dots = points.iter().map(|p| Circle::new((p.0, p.1), 5, color.filled()));
            chart.draw_series(dots).map_err(|e| e.to_string())?;
        }
        // Labels step aside from those that stand already.
        let mut taken: Vec<(i32, i32, i32)> = Vec::new();
        let (base_x, base_y) = area.get_base_pixel();
        for (x, y, label) in self.points() {
            let text = shorten(label, 24);
            let width = 8 * text.chars().count() as i32;
            let (px, py) = chart.backend_coord(&(*x, *y));
            let (px, py) = (px - base_x, py - base_y);
            let free =
                |at: i32| !taken.iter().any(|(tx, ty, tw)| (at - ty).abs() < 16 && px + 10 < tx + tw && *tx < px + 10 + width);
            let at = [0, -16, 16, -32, 32, -48, 48, -64].into_iter().map(|d| py + d).find(|&at| free(at)).unwrap_or(py);
            taken.push((px + 10, at, width));
            let style = text_style(13, INK).pos(Pos::new(HPos::Left, VPos::Center));
            told(area.draw(&Text::new(text, (px + 10, at), style)))?;
        }
        Ok(())
    }
}

/// Lines over a common axis.
struct Curves {
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
    fn of_training(record: &RunRecord) -> Self {
        let rows = record.curves.iter().enumerate().map(|(i, row)| (row.stage.clone(), (i as f64 + 1.0, row.loss)));
        let range = (0.5, record.curves.len() as f64 + 0.5);
        let legend = SeriesLabelPosition::UpperRight;
        Self { lines: gather(rows), x: "epoch of the run", y: "mean loss".into(), range, whole: true, legend }
    }

    /// What each layer alone loses at each share, or with fewer and fewer bits.
    fn of_sensitivity(record: &RunRecord, bits: bool) -> Self {
        let rows = || record.sensitivity.iter().filter(move |s| s.bits == bits);
        let several = rows().any(|s| Some(&s.stage) != rows().next().map(|r| &r.stage));
        let name = |s: &crate::record::SensitivityRow| if several { format!("{} {}", s.stage, s.layer) } else { s.layer.clone() };
        let rows = rows().map(|s| (name(s), (if bits { s.at } else { s.at * 100.0 }, record.scaled(s.lost))));
        let y = if record.metric == "accuracy" { "points of accuracy lost".into() } else { format!("{} lost", record.metric) };
        let legend = SeriesLabelPosition::UpperLeft;
        let (x, range) = match bits {
            true => ("bits of one layer's weight", (0.5, 8.5)),
            false => ("share removed from one layer, %", (20.0, 100.0)),
        };
        Self { lines: gather(rows), x, y, range, whole: bits, legend }
    }

    fn describe(&self) -> String {
        let each = self.lines.iter().map(|(n, p)| {
            let (first, last) = (p.first().map_or(0.0, |p| p.1), p.last().map_or(0.0, |p| p.1));
            format!("{n}: {first:.4} to {last:.4} over {} points", p.len())
        });
        each.collect::<Vec<_>>().join("; ")
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
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn {
        let top = self.lines.iter().flat_map(|(_, p)| p).map(|p| p.1).fold(0.0, f64::max) * 1.15;
        let mut chart = ChartBuilder::on(area)
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
        told(mesh.x_labels(labels).y_labels(6).x_label_formatter(&x_label).draw())?;
        for (i, (name, points)) in self.lines.iter().enumerate() {
            let color = SERIES[i % SERIES.len()];
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2));
            let series = chart.draw_series(line).map_err(|e| e.to_string())?;
            let text = shorten(name, 28);
            series.label(text).legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
            chart.draw_series(points.iter().map(|&p| Circle::new(p, 3, color.filled()))).map_err(|e| e.to_string())?;
        }
        let mut legend = chart.configure_series_labels();
        legend.position(self.legend.clone()).border_style(RULE).background_style(RGBColor(255, 255, 255).mix(0.85));
        told(legend.label_font(text_style(13, INK)).draw())
    }
}

/// At most so many characters; the middle goes.
fn shorten(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_string();
    }
    let half = (most - 1) / 2;
    let (head, tail) = (&chars[..half], &chars[chars.len() - (most - 1 - half)..]);
    format!("{}…{}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}
