//! Horizontal bars, one a stage: what each leaves, and pale behind it what it took away.

use plotters::prelude::DrawingBackend;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;
use sinter_task::Better;

use super::{LABEL_WIDTH, WIDTH};
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, SERIES, shorten};

/// What stands after each stage.
pub(crate) struct Steps {
    pub labels: Vec<String>,
    pub values: Vec<f64>,
    /// The values as text.
    pub texts: Vec<String>,
    /// How each value differs from the one before, as text.
    pub changes: Vec<String>,
    /// How bars are drawn.
    pub shape: Shape,
    /// Where bars begin.
    pub base: f64,
    pub better: Better,
}

/// What a bar reaches from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// From the base to the value.
    Plain,
    /// The same, and pale behind it what the stage took away.
    Shadow,
    /// From the value before to the value.
    Floating,
}

/// Of one bar and the gap under it.
const ROW: i32 = 38;
/// Room for the text behind a bar.
const TEXT_WIDTH: i32 = 190;

impl Steps {
    fn note(&self, i: usize) -> String {
        match self.changes[i].as_str() {
            "" => self.texts[i].clone(),
            change => format!("{} ({change})", self.texts[i]),
        }
    }
}

impl Plot for Steps {
    fn size(&self) -> (u32, u32) {
        (WIDTH, 30 + ROW as u32 * self.labels.len().max(1) as u32)
    }

    fn describe(&self) -> String {
        (0..self.labels.len()).map(|i| format!("{}: {}", self.labels[i], self.note(i))).collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let most = self.values.iter().copied().fold(self.base, f64::max);
        let room = f64::from(self.size().0 as i32 - LABEL_WIDTH - TEXT_WIDTH);
        let at =
            |value: f64| LABEL_WIDTH + (room * (value - self.base) / (most - self.base).max(f64::MIN_POSITIVE)).round() as i32;
        for (i, &value) in self.values.iter().enumerate() {
            let y = 15 + ROW * i as i32;
            pen.text(shorten(&self.labels[i], 20), (LABEL_WIDTH - 12, y + 13), 15, INK, HPos::Right)?;
            let before = if i > 0 { self.values[i - 1] } else { value };
            let (from, to) = (at(before), at(value));
            let end = if self.shape != Shape::Floating {
                let shadow = if self.shape == Shape::Shadow { from.max(to) } else { to };
                pen.rect((to, y), (shadow, y + 26), &SERIES[0].mix(0.16))?;
                pen.rect((LABEL_WIDTH, y), (to.max(LABEL_WIDTH + 2), y + 26), &SERIES[0])?;
                shadow
            } else {
                let better = (value >= before) == (self.better == Better::Higher);
                let color = if i == 0 || value == before {
                    SERIES[0]
                } else if better {
                    SERIES[2]
                } else {
                    SERIES[1]
                };
                pen.rect((LABEL_WIDTH, y + 12), (from.min(to), y + 14), &MUTED.mix(0.35))?;
                pen.rect((from.min(to), y), (from.max(to).max(from.min(to) + 3), y + 26), &color)?;
                from.max(to)
            };
            pen.text(self.note(i), (end + 8, y + 13), 15, INK, HPos::Left)?;
            pen.spot((0, y - 4), (self.size().0 as i32, ROW), format!("{}: {}", self.labels[i], self.note(i)));
        }
        Ok(())
    }
}
