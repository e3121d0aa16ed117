//! A map: shaded cells with a word in each.

use plotters::prelude::DrawingBackend;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::{LABEL_WIDTH, WIDTH};
use crate::chart::{Drawn, INK, MUTED, Pen, Plot, RULE, SERIES, shorten};

/// One cell.
pub(crate) struct Cell {
    /// How strongly it is shaded: blue from 0 to 1, orange from 0 to -1.
    pub shade: f64,
    pub text: String,
    /// What shows under the pointer.
    pub tip: String,
}

/// Rows of cells.
pub(crate) struct Heat {
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    pub cells: Vec<Vec<Cell>>,
    /// What the shades mean.
    pub legend: String,
}

const HEAD: i32 = 56;

impl Heat {
    fn row_height(&self) -> i32 {
        if self.rows.len() > 40 { 16 } else { 26 }
    }
}

impl Plot for Heat {
    fn size(&self) -> (u32, u32) {
        (WIDTH, (HEAD + self.row_height() * self.rows.len() as i32 + 12) as u32)
    }

    fn describe(&self) -> String {
        self.cells.iter().flatten().filter(|c| !c.tip.is_empty()).map(|c| c.tip.clone()).collect::<Vec<_>>().join("; ")
    }

    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
        let height = self.row_height();
        let step = f64::from(self.size().0 as i32 - LABEL_WIDTH - 16) / self.columns.len().max(1) as f64;
        let left = |column: usize| LABEL_WIDTH + (step * column as f64).round() as i32;
        // As many letters as fit a column.
        let letters = ((step / 8.5) as usize).max(2);
        pen.text(&self.legend, (LABEL_WIDTH, 12), 13, MUTED, HPos::Left)?;
        for (i, name) in self.columns.iter().enumerate() {
            pen.text(shorten(name, letters), ((left(i) + left(i + 1)) / 2, HEAD - 16), 13, MUTED, HPos::Center)?;
        }
        for (r, (name, cells)) in self.rows.iter().zip(&self.cells).enumerate() {
            let y = HEAD + height * r as i32;
            pen.text(shorten(name, 22), (LABEL_WIDTH - 12, y + height / 2), if height < 20 { 11 } else { 14 }, INK, HPos::Right)?;
            for (c, cell) in cells.iter().enumerate() {
                let (from, to) = ((left(c) + 1, y + 1), (left(c + 1) - 1, y + height - 1));
                let color = if cell.shade < 0.0 { SERIES[1] } else { SERIES[0] };
                pen.rect(from, to, &RULE.mix(0.45))?;
                pen.rect(from, to, &color.mix(0.55 * cell.shade.abs().min(1.0)))?;
                let middle = ((from.0 + to.0) / 2, y + height / 2);
                pen.text(shorten(&cell.text, letters), middle, if height < 20 { 10 } else { 13 }, INK, HPos::Center)?;
                if !cell.tip.is_empty() {
                    pen.spot(from, (to.0 - from.0, to.1 - from.1), cell.tip.clone());
                }
            }
        }
        Ok(())
    }
}
