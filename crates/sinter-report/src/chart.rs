//! One image drawn twice: as SVG for the page, where values show under the pointer, and as PNG for slides.

use std::fmt::Write as _;
use std::sync::Once;

use plotters::backend::BitMapBackend;
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, DrawingBackend, IntoDrawingArea, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBAColor, TextStyle, register_font};

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
pub(crate) const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x6f);
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
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);
    /// What it shows, in words.
    fn describe(&self) -> String;
    fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn;
}

/// Where a value shows under the pointer.
struct Spot {
    x: i32,
    y: i32,
    width: i32,
    height: i32,
    text: String,
}

/// Draws on an area, and remembers where which value shows.
pub(crate) struct Pen<'a, B: DrawingBackend> {
    pub area: &'a DrawingArea<B, Shift>,
    spots: Vec<Spot>,
}

impl<B: DrawingBackend> Pen<'_, B> {
    pub fn rect(&self, (x0, y0): (i32, i32), (x1, y1): (i32, i32), color: &impl Color) -> Drawn {
        as_drawn(self.area.draw(&Rectangle::new([(x0, y0), (x1, y1)], color.filled())))
    }

    pub fn line(&self, points: Vec<(i32, i32)>, color: RGBAColor, width: u32) -> Drawn {
        as_drawn(self.area.draw(&PathElement::new(points, color.stroke_width(width))))
    }

    pub fn dot(&self, center: (i32, i32), radius: i32, color: RGBColor) -> Drawn {
        as_drawn(self.area.draw(&Circle::new(center, radius, color.filled())))
    }

    /// Text, centred on the height of `at`, whose horizontal anchor is `side`.
    pub fn text(&self, text: impl Into<String>, at: (i32, i32), size: u32, color: RGBColor, side: HPos) -> Drawn {
        let style = text_style(size, color).pos(Pos::new(side, VPos::Center));
        as_drawn(self.area.draw(&Text::new(text.into(), at, style)))
    }

    /// What shows while the pointer is within a rectangle.
    pub fn spot(&mut self, (x, y): (i32, i32), (width, height): (i32, i32), text: impl Into<String>) {
        self.spots.push(Spot { x, y, width: width.max(1), height: height.max(1), text: text.into() });
    }
}

pub(crate) fn text_style(size: u32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

pub(crate) fn as_drawn<E: std::error::Error + Send + Sync>(result: Result<(), DrawingAreaErrorKind<E>>) -> Drawn {
    result.map_err(|e| e.to_string())
}

/// Draws a plot as SVG and as PNG.
pub(crate) fn render(name: &'static str, title: &'static str, plot: &impl Plot) -> Result<Chart, ReportError> {
    fonts();
    let size = plot.size();
    let fail = |reason: String| ReportError::Chart { chart: name.to_string(), reason };
    let mut svg = String::new();
    let spots = {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let spots = drawn(plot, &area).map_err(fail)?;
        area.present().map_err(|e| fail(e.to_string()))?;
        spots
    };
    let mut pixels = vec![255u8; (size.0 * size.1 * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        area.fill(&RGBColor(255, 255, 255).mix(1.0)).map_err(|e| fail(e.to_string()))?;
        drawn(plot, &area).map_err(fail)?;
        area.present().map_err(|e| fail(e.to_string()))?;
    }
    let png = encode_png(&pixels, size).map_err(fail)?;
    Ok(Chart { name, title, describes: plot.describe(), svg: with_spots(svg, &spots), png })
}

fn drawn<B: DrawingBackend>(plot: &impl Plot, area: &DrawingArea<B, Shift>) -> Result<Vec<Spot>, String> {
    let mut pen = Pen { area, spots: vec![] };
    plot.draw(&mut pen)?;
    Ok(pen.spots)
}

/// Lays transparent rectangles with titles over the image: browsers show a title while the pointer rests on it.
fn with_spots(svg: String, spots: &[Spot]) -> String {
    let Some(end) = svg.rfind("</svg>") else { return svg };
    let mut out = svg[..end].to_string();
    for spot in spots {
        let text = maud::html! { (spot.text) }.into_string();
        let _ = writeln!(
            out,
            "<rect class=\"spot\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill-opacity=\"0\"><title>{text}</title></rect>",
            spot.x, spot.y, spot.width, spot.height
        );
    }
    out + &svg[end..]
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

/// At most so many characters; the middle goes.
pub fn shorten(text: &str, most: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= most {
        return text.to_string();
    }
    let half = (most - 1) / 2;
    let (head, tail) = (&chars[..half], &chars[chars.len() - (most - 1 - half)..]);
    format!("{}…{}", head.iter().collect::<String>(), tail.iter().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hostile;

    impl Plot for Hostile {
        fn size(&self) -> (u32, u32) {
            (100, 50)
        }

        fn describe(&self) -> String {
            "<script>".into()
        }

        fn draw<B: DrawingBackend>(&self, pen: &mut Pen<B>) -> Drawn {
            pen.spot((1, 2), (3, 4), "<script>alert(1)</script> & co");
            pen.text("<script>", (5, 5), 14, INK, HPos::Left)
        }
    }

    #[test]
    fn names_in_pictures_are_escaped() {
        let chart = render("hostile", "hostile", &Hostile).unwrap();
        assert!(!chart.svg.contains("<script"), "{}", chart.svg);
        assert!(chart.svg.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; co"));
        assert!(chart.svg.trim_end().ends_with("</svg>"));
        assert!(!chart.png.is_empty());
    }

    #[test]
    fn long_names_keep_their_ends() {
        assert_eq!(shorten("model/conv2d_3/Conv2D", 11), "model…onv2D");
        assert_eq!(shorten("short", 11), "short");
    }
}
