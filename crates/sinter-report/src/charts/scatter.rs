//! Quality against a cost: the path of one run, or many runs with the front of those that no other beats.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use sinter_task::Metric;

use super::WIDTH;
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, RULE, SERIES, as_drawn, shorten, text_style};

/// One run, or one stage of it.
pub(crate) struct Point {
    /// On the logarithmic axis; above zero.
    pub cost: f64,
    pub quality: f64,
    pub label: String,
    /// The figures in words.
    pub tip: String,
    /// Its place among the colors.
    pub color: usize,
}

/// Points over a logarithmic axis of cost.
pub(crate) struct Scatter {
    pub points: Vec<Point>,
    pub x: String,
    /// What quality is; it stands on the axis scaled.
    pub metric: Metric,
    /// Joins the points in their order.
    pub joined: bool,
    /// Draws the front: the points that none beats in both.
    pub front: bool,
}

impl Scatter {
    /// The points that no other beats: none costs less at the same quality or better.
    pub fn front(&self) -> Vec<&Point> {
        let score = |p: &Point| self.metric.score(p.quality);
        let mut order: Vec<&Point> = self.points.iter().collect();
        order.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(score(b).total_cmp(&score(a))));
        let mut front: Vec<&Point> = Vec::new();
        for point in order {
            if front.last().is_none_or(|last| score(point) > score(last)) {
                front.push(point);
            }
        }
        front
    }
}

impl Plot for Scatter {
    fn size(&self) -> (u32, u32) {
        (WIDTH, 420)
    }

    fn describe(&self) -> String {
        self.points.iter().map(|p| p.tip.clone()).collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let (mut x0, mut x1, mut y0, mut y1) = (f64::INFINITY, 0.0f64, f64::INFINITY, f64::NEG_INFINITY);
        for p in &self.points {
            (x0, x1, y0, y1) = (x0.min(p.cost), x1.max(p.cost), y0.min(p.quality), y1.max(p.quality));
        }
        if x0 > x1 {
            return Ok(());
        }
        let margin = ((y1 - y0) * 0.18).max(0.2 * if y1.abs() > 2.0 { 1.0 } else { 0.05 });
        let (low, high) = self.metric.clamp_axis(y0 - margin, y1 + margin);
        let mut chart = ChartBuilder::on(pen.area)
            .margin(14)
            .x_label_area_size(48)
            .y_label_area_size(70)
            .build_cartesian_2d((x0 * 0.6..x1 * 2.2).log_scale(), low..high)
            .map_err(|e| e.to_string())?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(RULE).axis_style(MUTED);
        mesh.x_desc(self.x.as_str())
            .y_desc(self.metric.axis())
            .axis_desc_style(text_style(14, INK))
            .label_style(text_style(13, MUTED));
        let decimals = match (y1 - y0, y1.abs()) {
            (range, _) if range > 3.0 => 0,
            (_, size) if size > 2.0 => 1,
            _ => 3,
        };
        let y_label = move |v: &f64| format!("{v:.decimals$}");
        let x_label = |v: &f64| match *v {
            v if v >= 10.0 => format!("{v:.0}"),
            v if v >= 0.1 => format!("{v:.1}"),
            v => format!("{v:.3}"),
        };
        as_drawn(mesh.y_label_formatter(&y_label).x_label_formatter(&x_label).y_labels(6).x_labels(8).draw())?;
        let series = |e: DrawingAreaErrorKind<B::ErrorType>| e.to_string();
        if self.joined {
            let line = self.points.iter().map(|p| (p.cost, p.quality));
            chart.draw_series(LineSeries::new(line, SERIES[0].mix(0.5).stroke_width(2))).map_err(series)?;
        }
        if self.front {
            // A stair: between two runs of the front the cheaper one is what can be had.
            let front = self.front();
            let mut stair = Vec::new();
            for (i, p) in front.iter().enumerate() {
                if i > 0 {
                    stair.push((p.cost, front[i - 1].quality));
                }
                stair.push((p.cost, p.quality));
            }
            chart.draw_series(LineSeries::new(stair, SERIES[6].mix(0.7).stroke_width(2))).map_err(series)?;
        }
        let (base_x, base_y) = pen.area.get_base_pixel();
        let place = |p: &Point| {
            let (x, y) = chart.backend_coord(&(p.cost, p.quality));
            (x - base_x, y - base_y)
        };
        // Labels step aside from those that stand already; where there are too many, the pointer tells.
        let labelled = self.points.len() <= 12;
        let mut taken: Vec<(i32, i32, i32)> = Vec::new();
        for p in &self.points {
            let (x, y) = place(p);
            pen.dot((x, y), 5, SERIES[p.color % SERIES.len()])?;
            pen.spot((x - 9, y - 9), (18, 18), p.tip.clone());
            if !labelled {
                continue;
            }
            let text = shorten(&p.label, 24);
            let width = 8 * text.chars().count() as i32 + 6;
            // At the right edge there is room on the left only.
            let leftward = x + 12 + width > self.size().0 as i32;
            let start = if leftward { x - 10 - width } else { x + 10 };
            let free = |at: i32| !taken.iter().any(|(tx, ty, tw)| (at - ty).abs() < 16 && start < tx + tw && *tx < start + width);
            let at = [0, -16, 16, -32, 32, -48, 48, -64].into_iter().map(|d| y + d).find(|&at| free(at)).unwrap_or(y);
            taken.push((start, at, width));
            // No line goes through a name.
            pen.rect((start - 2, at - 8), (start + width - 6, at + 8), &RGBColor(255, 255, 255).mix(0.8))?;
            let (x, side) = if leftward { (x - 10, HPos::Right) } else { (x + 10, HPos::Left) };
            pen.text(text, (x, at), 13, INK, side)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let point = |cost, quality| Point { cost, quality, label: String::new(), tip: String::new(), color: 0 };
        let points =
            vec![point(4.0, 90.0), point(1.0, 80.0), point(1.0, 80.0), point(2.0, 79.0), point(3.0, 90.0), point(1.0, 70.0)];
        let mut plot = Scatter { points, x: "".into(), metric: Metric::share("accuracy"), joined: false, front: true };
        let costs = |plot: &Scatter| plot.front().iter().map(|p| (p.cost, p.quality)).collect::<Vec<_>>();
        assert_eq!(costs(&plot), [(1.0, 80.0), (3.0, 90.0)]);
        plot.metric = Metric::error("error");
        assert_eq!(costs(&plot), [(1.0, 70.0)]);
    }
}
