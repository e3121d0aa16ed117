//! One picture drawn twice: as SVG for the page and as PNG for slides.

use std::sync::Once;

use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingBackend, IntoDrawingArea, RGBColor, SVGBackend};
use plotters::style::{Color, FontStyle, register_font};

use crate::error::ReportError;

/// A drawn chart.
#[derive(Debug)]
pub(crate) struct Chart {
    /// File name without extension.
    pub name: &'static str,
    pub title: &'static str,
    /// What it shows, for readers who can't see it.
    pub describes: String,
    pub svg: String,
    pub png: Vec<u8>,
}

pub(crate) const INK: RGBColor = RGBColor(0x33, 0x3a, 0x44);
pub(crate) const MUTED: RGBColor = RGBColor(0x76, 0x7f, 0x8c);
pub(crate) const RULE: RGBColor = RGBColor(0xdd, 0xe1, 0xe6);
/// Distinct for colour-blind eyes too (Okabe and Ito, 2008).
pub(crate) const SERIES: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x8a, 0x6d, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x5b, 0x5b, 0x5b),
];

/// What can go wrong while drawing, whatever the backend.
pub(crate) type Drawn = Result<(), String>;

/// A plot that can be drawn on any backend.
pub(crate) trait Plot {
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn;
}

/// Draws a plot as SVG and as PNG of twice the size.
pub(crate) fn render(
    name: &'static str,
    title: &'static str,
    describes: String,
    size: (u32, u32),
    plot: &impl Plot,
) -> Result<Chart, ReportError> {
    fonts();
    let fail = |reason: String| ReportError::Chart { chart: name.to_string(), reason };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        plot.draw(&area).map_err(fail)?;
        area.present().map_err(|e| fail(e.to_string()))?;
    }
    let mut pixels = vec![255u8; (size.0 * size.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        area.fill(&RGBColor(255, 255, 255).mix(1.0)).map_err(|e| fail(e.to_string()))?;
        plot.draw(&area).map_err(fail)?;
        area.present().map_err(|e| fail(e.to_string()))?;
    }
    let png = encode_png(&pixels, size).map_err(fail)?;
    Ok(Chart { name, title, describes, svg, png })
}

fn encode_png(pixels: &[u8], (width, height): (u32, u32)) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    writer.write_image_data(pixels).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// The font travels inside the program: no machine needs one.
fn fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
        let _ = register_font("sans-serif", FontStyle::Bold, dejavu::sans::bold());
    });
}
