//! Samples side by side: images as they are, signals as lines, everything else as grey values.

use plotters::prelude::{DrawingBackend, RGBColor};
use plotters::style::text_anchor::HPos;
use plotters::style::{Color, RGBAColor};

use crate::chart::{Drawn, INK, MUTED, Pen, Plot, RULE, SERIES, render, shorten};
use crate::error::ReportError;

/// One sample.
#[derive(Debug, Clone)]
pub struct Tile {
    /// Of the values.
    pub shape: Vec<i64>,
    /// In C order.
    pub values: Vec<f32>,
    /// What stands below it.
    pub caption: String,
}

/// Draws samples in rows of four, as PNG.
pub fn draw_tiles(title: &str, tiles: &[Tile]) -> Result<Vec<u8>, ReportError> {
    let sheet = Sheet { title, tiles };
    render("samples", "Samples", &sheet).map(|chart| chart.png)
}

struct Sheet<'a> {
    title: &'a str,
    tiles: &'a [Tile],
}

/// A tile's side, the room below it for its caption, and what lies between two.
const SIDE: i32 = 168;
const BELOW: i32 = 26;
const GAP: i32 = 14;
const COLUMNS: usize = 4;
const HEAD: i32 = 44;

/// What a sample looks like.
enum Look {
    /// Colour planes (one or three), height and width.
    Image(usize, usize, usize),
    Line,
}

fn look(shape: &[i64]) -> Look {
    let n: Vec<usize> = shape.iter().map(|&d| d.max(1) as usize).collect();
    match n[..] {
        [c @ (1 | 3), h, w] if h > 1 && w > 1 => Look::Image(c, h, w),
        [h, w, c @ (1 | 3)] if h > 3 && w > 3 => Look::Image(c, h, w),
        [h, w] if h > 1 && w > 1 => Look::Image(1, h, w),
        [a, h, w] if h * w > 1 => Look::Image(1, a * h, w),
        _ => Look::Line,
    }
}

impl Plot for Sheet<'_> {
    fn size(&self) -> (u32, u32) {
        let columns = self.tiles.len().clamp(1, COLUMNS) as i32;
        let rows = self.tiles.len().max(1).div_ceil(COLUMNS) as i32;
        let width = GAP + columns.max(2) * (SIDE + GAP);
        (width as u32, (HEAD + rows * (SIDE + BELOW + GAP)) as u32)
    }

    fn describe(&self) -> String {
        format!("{} samples", self.tiles.len())
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let wide = self.size().0 / 9;
        pen.text(shorten(self.title, wide as usize), (GAP, HEAD / 2), 16, INK, HPos::Left)?;
        for (at, tile) in self.tiles.iter().enumerate() {
            let x = GAP + (at % COLUMNS) as i32 * (SIDE + GAP);
            let y = HEAD + (at / COLUMNS) as i32 * (SIDE + BELOW + GAP);
            match look(&tile.shape) {
                Look::Image(planes, height, width) => image(pen, tile, (planes, height, width), (x, y))?,
                Look::Line => line(pen, tile, (x, y))?,
            }
            pen.text(shorten(&tile.caption, 22), (x + SIDE / 2, y + SIDE + BELOW / 2), 13, MUTED, HPos::Center)?;
        }
        Ok(())
    }
}

/// Where values end.
fn ends(values: &[f32]) -> (f32, f32) {
    values.iter().filter(|v| v.is_finite()).fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)))
}

fn image<B: DrawingBackend>(
    pen: &Pen<B>,
    tile: &Tile,
    (planes, height, width): (usize, usize, usize),
    (x, y): (i32, i32),
) -> Drawn {
    let (low, high) = ends(&tile.values);
    let span = if high > low { high - low } else { 1.0 };
    // Channels last, where three stand at the end.
    let last = planes == 3 && tile.shape.last() == Some(&3) && tile.shape.first() != Some(&3);
    let value = |plane: usize, row: usize, column: usize| {
        let at = if last { (row * width + column) * planes + plane } else { (plane * height + row) * width + column };
        let v = tile.values.get(at).copied().unwrap_or(low);
        ((v - low) / span * 255.0).clamp(0.0, 255.0) as u8
    };
    let scale = f64::from(SIDE) / height.max(width) as f64;
    // What is long and narrow is no picture: features fill the tile.
    let fills = height.max(width) > 3 * height.min(width);
    let side = |n: usize| if fills { SIDE } else { (n as f64 * scale).max(1.0) as i32 };
    let (shown_w, shown_h) = (side(width), side(height));
    let (left, top) = (x + (SIDE - shown_w) / 2, y + (SIDE - shown_h) / 2);
    // No more rectangles than pixels that show.
    let (columns, rows) = (width.min(shown_w as usize), height.min(shown_h as usize));
    for r in 0..rows {
        for c in 0..columns {
            let (row, column) = (r * height / rows, c * width / columns);
            let color = match planes {
                3 => RGBColor(value(0, row, column), value(1, row, column), value(2, row, column)),
                _ => {
                    let v = value(0, row, column);
                    RGBColor(v, v, v)
                }
            };
            let edge = |i: usize, n: usize, shown: i32| (i as i64 * i64::from(shown) / n as i64) as i32;
            let (x0, x1) = (left + edge(c, columns, shown_w), left + edge(c + 1, columns, shown_w));
            let (y0, y1) = (top + edge(r, rows, shown_h), top + edge(r + 1, rows, shown_h));
            pen.rect((x0, y0), (x1, y1), &color)?;
        }
    }
    Ok(())
}

fn line<B: DrawingBackend>(pen: &Pen<B>, tile: &Tile, (x, y): (i32, i32)) -> Drawn {
    pen.rect((x, y), (x + SIDE, y + SIDE), &RULE.mix(0.35))?;
    let (low, high) = ends(&tile.values);
    if low > high {
        return Ok(());
    }
    let span = if high > low { high - low } else { 1.0 };
    let n = tile.values.len().max(2) - 1;
    let point = |(i, v): (usize, &f32)| {
        let px = x + 4 + (i as i64 * i64::from(SIDE - 8) / n as i64) as i32;
        let py = y + SIDE - 14 - ((v - low) / span * (SIDE - 28) as f32) as i32;
        (px, py)
    };
    let color: RGBAColor = SERIES[0].mix(1.0);
    pen.line(tile.values.iter().enumerate().map(point).collect(), color, 1)?;
    pen.text(format!("{high:.3}"), (x + 4, y + 8), 11, MUTED, HPos::Left)?;
    pen.text(format!("{low:.3}"), (x + 4, y + SIDE - 7), 11, MUTED, HPos::Left)
}
