//! Two horizontal bars a row: before and after.

use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::HPos;

use super::{LABEL_WIDTH, WIDTH};
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, SERIES, shorten};

/// Rows of two values.
pub(crate) struct Pairs {
    pub labels: Vec<String>,
    pub before: Vec<f64>,
    pub after: Vec<f64>,
    /// A value as text.
    pub text: fn(f64) -> String,
    /// Whether bars grow with the logarithm: for values that differ by orders of magnitude.
    pub logarithmic: bool,
}

const ROW: i32 = 42;

impl Plot for Pairs {
    fn size(&self) -> (u32, u32) {
        (WIDTH, 60 + ROW as u32 * self.labels.len() as u32)
    }

    fn describe(&self) -> String {
        let each = self.labels.iter().zip(self.before.iter().zip(&self.after));
        each.map(|(l, (b, a))| format!("{l}: {} to {}", (self.text)(*b), (self.text)(*a))).collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let width = self.size().0 as i32;
        for (i, (name, color)) in [("float", SERIES[5]), ("final", SERIES[1])].into_iter().enumerate() {
            let x = LABEL_WIDTH + 110 * i as i32;
            pen.rect((x, 12), (x + 14, 26), &color)?;
            pen.text(name, (x + 22, 19), 14, MUTED, HPos::Left)?;
        }
        let length = |v: f64| if self.logarithmic { (1.0 + v.max(0.0)).ln() } else { v.max(0.0) };
        let most = self.before.iter().chain(&self.after).copied().map(length).fold(f64::MIN_POSITIVE, f64::max);
        let reach = |v: f64| LABEL_WIDTH + (f64::from(width - LABEL_WIDTH - 110) * length(v) / most).round().max(2.0) as i32;
        for (i, label) in self.labels.iter().enumerate() {
            let y = 44 + ROW * i as i32;
            pen.text(shorten(label, 22), (LABEL_WIDTH - 12, y + 15), 14, INK, HPos::Right)?;
            for (j, (value, color)) in [(self.before[i], SERIES[5]), (self.after[i], SERIES[1])].into_iter().enumerate() {
                let (top, end) = (y + 16 * j as i32, reach(value));
                pen.rect((LABEL_WIDTH, top), (end, top + 13), &color)?;
                pen.text((self.text)(value), (end + 8, top + 7), 13, INK, HPos::Left)?;
            }
            let tip = format!("{label}: {} before, {} after", (self.text)(self.before[i]), (self.text)(self.after[i]));
            pen.spot((0, y - 4), (width, ROW), tip);
        }
        Ok(())
    }
}
