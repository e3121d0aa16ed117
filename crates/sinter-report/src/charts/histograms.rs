//! How the weights of each layer lie: float behind, final before, and a tick for every value that is left.

use plotters::prelude::DrawingBackend;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::WIDTH;
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, RULE, SERIES, shorten};
use crate::record::WeightsRow;

/// Small multiples, four in a row.
pub(crate) struct Histograms<'a>(pub Vec<&'a WeightsRow>);

const ACROSS: usize = 4;
const EACH: i32 = 267;
const HEIGHT: i32 = 150;
const PLOT: i32 = 84;
const HEAD: i32 = 30;

fn tip(row: &WeightsRow) -> String {
    let zeros = |bins: &[u64]| bins.iter().sum::<u64>();
    let values = if row.values.is_empty() { String::new() } else { format!(", {} distinct values", row.values.len()) };
    format!(
        "{}: {} weights that are not zero before, {} after, from {:.3} to {:.3}{values}",
        row.layer,
        zeros(&row.before),
        zeros(&row.after),
        row.low,
        row.high
    )
}

impl Plot for Histograms<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, (HEAD + HEIGHT * self.0.len().div_ceil(ACROSS) as i32) as u32)
    }

    fn describe(&self) -> String {
        self.0.iter().map(|row| tip(row)).collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        for (i, (name, color)) in [("float", SERIES[5].mix(0.45)), ("final", SERIES[1].mix(1.0))].into_iter().enumerate() {
            let x = 12 + 90 * i as i32;
            pen.rect((x, 8), (x + 14, 22), &color)?;
            pen.text(name, (x + 22, 15), 14, MUTED, HPos::Left)?;
        }
        pen.text("height: root of the count", (200, 15), 13, MUTED, HPos::Left)?;
        for (i, row) in self.0.iter().enumerate() {
            let (x, y) = (12 + EACH * (i % ACROSS) as i32, HEAD + HEIGHT * (i / ACROSS) as i32);
            let (wide, bottom) = (EACH - 24, y + 22 + PLOT);
            pen.text(shorten(&row.layer, 26), (x, y + 10), 13, INK, HPos::Left)?;
            let most = row.before.iter().chain(&row.after).copied().max().unwrap_or(1).max(1) as f64;
            let at = |value: f64| x + (f64::from(wide) * (value - row.low) / (row.high - row.low)).round() as i32;
            for (bins, color) in [(&row.before, SERIES[5].mix(0.45)), (&row.after, SERIES[1].mix(1.0))] {
                let thin = if bins == &row.before { 0 } else { 1 };
                for (b, &count) in bins.iter().enumerate().filter(|(_, n)| **n > 0) {
                    let edge = |b: usize| x + (f64::from(wide) * b as f64 / bins.len() as f64).round() as i32;
                    // Few values hold many weights each: the root keeps the crowd in sight.
                    let tall = (f64::from(PLOT) * (count as f64 / most).sqrt()).round().max(1.0) as i32;
                    pen.rect((edge(b) + thin, bottom - tall), ((edge(b + 1) - 1 - thin).max(edge(b) + thin), bottom), &color)?;
                }
            }
            pen.line(vec![(x, bottom), (x + wide, bottom)], MUTED.mix(0.7), 1)?;
            for &value in &row.values {
                pen.line(vec![(at(value), bottom + 1), (at(value), bottom + 6)], INK.mix(1.0), 1)?;
            }
            if row.low < 0.0 && row.high > 0.0 {
                pen.line(vec![(at(0.0), y + 22), (at(0.0), bottom)], RULE.mix(1.0), 1)?;
            }
            pen.text(format!("{:.2}", row.low), (x, bottom + 15), 12, MUTED, HPos::Left)?;
            pen.text(format!("{:.2}", row.high), (x + wide, bottom + 15), 12, MUTED, HPos::Right)?;
            pen.spot((x, y), (wide, HEIGHT - 6), tip(row));
        }
        Ok(())
    }
}
