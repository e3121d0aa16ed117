//! Ranges of quantized values: what the quantizer holds, and within it what calibration saw.

use plotters::prelude::DrawingBackend;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::{LABEL_WIDTH, WIDTH};
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, RULE, SERIES, shorten};
use crate::record::RangeRow;

/// One row a value.
pub(crate) struct Spans<'a>(pub Vec<&'a RangeRow>);

const ROW: i32 = 26;
const HEAD: i32 = 40;

fn tip(row: &RangeRow) -> String {
    let seen = match (row.seen_low, row.seen_high) {
        (Some(low), Some(high)) => format!(", calibration saw {low:.3} to {high:.3}"),
        _ => String::new(),
    };
    let (value, low, high) = (&row.value, row.low, row.high);
    format!("{value}: {low:.3} to {high:.3} in {} bits, scale {:.3e}, zero point {}{seen}", row.bits, row.scale, row.zero_point)
}

impl Plot for Spans<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, (HEAD + ROW * self.0.len() as i32 + 10) as u32)
    }

    fn describe(&self) -> String {
        self.0.iter().map(|row| tip(row)).collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let width = self.size().0 as i32;
        pen.rect((LABEL_WIDTH, 10), (LABEL_WIDTH + 14, 24), &SERIES[5].mix(0.5))?;
        pen.text("the quantizer holds", (LABEL_WIDTH + 22, 17), 14, MUTED, HPos::Left)?;
        pen.rect((LABEL_WIDTH + 160, 15), (LABEL_WIDTH + 174, 19), &SERIES[1])?;
        pen.text("calibration saw; each row to its own scale", (LABEL_WIDTH + 182, 17), 14, MUTED, HPos::Left)?;
        for (i, row) in self.0.iter().enumerate() {
            let y = HEAD + ROW * i as i32;
            pen.text(shorten(&row.value, 22), (LABEL_WIDTH - 12, y + 11), 13, INK, HPos::Right)?;
            let low = row.low.min(row.seen_low.unwrap_or(row.low));
            let high = row.high.max(row.seen_high.unwrap_or(row.high));
            let room = f64::from(width - LABEL_WIDTH - 150);
            let at = |v: f64| LABEL_WIDTH + (room * (v - low) / (high - low).max(f64::MIN_POSITIVE)).round() as i32;
            pen.rect((at(row.low), y + 3), (at(row.high), y + 19), &SERIES[5].mix(0.5))?;
            if let (Some(from), Some(to)) = (row.seen_low, row.seen_high) {
                pen.rect((at(from), y + 9), (at(to).max(at(from) + 1), y + 13), &SERIES[1])?;
            }
            if low < 0.0 && high > 0.0 {
                pen.line(vec![(at(0.0), y), (at(0.0), y + 22)], RULE.mix(1.0), 1)?;
            }
            pen.text(format!("{:.2} to {:.2}", row.low, row.high), (at(high) + 8, y + 11), 12, INK, HPos::Left)?;
            pen.spot((0, y), (width, ROW), tip(row));
        }
        Ok(())
    }
}
