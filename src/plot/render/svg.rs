//! A scene as an SVG document, through plotters' SVG backend.
//!
//! The backend takes whole numbers only, so the drawing is done in tenths of a pixel and
//! the root element maps them back with its `viewBox`.

use super::font::{self, FAMILY};
use super::glyphs::{Glyphs, Segment};
use super::marks;
use super::palette::{self, Colour};
use super::scene::{Anchor, Label, Part, Scene, Shape, Spot};
use crate::error::{Error, Result};
use crate::plot::charts::style::TextMode;
use base64::prelude::{Engine as _, BASE64_STANDARD};
use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, FontTransform, RGBAColor, ShapeStyle, TextStyle};

/// Units of the drawing per CSS pixel.
const UNIT: f64 = 10.0;
/// The backend divides the font size by this and puts the baseline this many em below the top.
const SIZE_FACTOR: f64 = 1.24;
const BASELINE: f64 = 0.76;

/// The name of the font that is embedded.
const EMBEDDED: &str = "Lorhai Sans";

type Drawing = std::result::Result<(), String>;

/// The scene as a document; `title` describes it for screen readers.
pub fn write(scene: &Scene, title: &str) -> Result<String> {
    let Some(glyphs) = Glyphs::of(&scene.style) else { return Err(Error::bug("the bundled font is broken")) };
    let size = (units(scene.width) as u32, units(scene.height) as u32);
    let writer = Writer { size, glyphs, mode: scene.style.text };
    let background = written(size, |backend| page(backend, size, palette::of(scene.style.theme).page));
    let body = background.and_then(|background| Ok(background + writer.elements(&scene.shapes)?.as_str()));
    let body = body.map_err(|error| Error::bug(format!("cannot write the chart as SVG: {error}")))?;
    let font = if scene.style.text == TextMode::Embedded { embedded_font() } else { String::new() };
    Ok(with_root(&format!("{font}{body}"), scene, title))
}

/// The built-in font as part of the document, whole: a browser refuses fonts without their tables.
fn embedded_font() -> String {
    let data = BASE64_STANDARD.encode(font::BYTES);
    format!("<style>@font-face{{font-family:'{EMBEDDED}';src:url(data:font/otf;base64,{data}) format('opentype')}}</style>\n")
}

struct Writer<'a> {
    size: (u32, u32),
    glyphs: Glyphs<'a>,
    mode: TextMode,
}

impl Writer<'_> {
    /// The shapes as elements; those of a series are in a `g` that names it.
    fn elements(&self, shapes: &[Shape]) -> std::result::Result<String, String> {
        // Consecutive shapes that the backend writes are written at once.
        let is_single = |shape: &Shape| match shape {
            Shape::Series { .. } => true,
            Shape::Text(label) => self.is_outlined(label),
            _ => false,
        };
        let mut text = String::new();
        for part in shapes.chunk_by(|one, two| !is_single(one) && !is_single(two)) {
            match part {
                [Shape::Series { series, part, shapes }] => {
                    let name = if *part == Part::Name { " data-name=\"\"" } else { "" };
                    text += &format!("<g data-series=\"{series}\"{name}>\n{}</g>\n", self.elements(shapes)?);
                }
                [Shape::Text(label)] if self.is_outlined(label) => text += &self.outlined(label),
                shapes => {
                    let draw_all =
                        |backend: &mut SVGBackend| shapes.iter().try_for_each(|shape| self.draw(backend, shape));
                    text += &written(self.size, draw_all)?;
                }
            }
        }
        Ok(text)
    }

    /// Is the text written as shapes? So are embedded texts that need the font file, which may be as large as 20 MB.
    fn is_outlined(&self, label: &Label) -> bool {
        match self.mode {
            TextMode::Text => false,
            TextMode::Outlines => true,
            TextMode::Embedded => self.glyphs.needs_file(&label.text),
        }
    }

    /// A path, in units with a decimal: the whole ones of other shapes are too coarse for characters.
    fn outlined(&self, label: &Label) -> String {
        let spot = |(x, y): Spot| format!("{:.1} {:.1}", x * UNIT, y * UNIT);
        let mut path = String::new();
        for segment in self.glyphs.outlines(label) {
            path += &match segment {
                Segment::Move(to) => format!("M{}", spot(to)),
                Segment::Line(to) => format!("L{}", spot(to)),
                Segment::Quad(one, to) => format!("Q{} {}", spot(one), spot(to)),
                Segment::Cubic(one, two, to) => format!("C{} {} {}", spot(one), spot(two), spot(to)),
            };
        }
        let (red, green, blue) = label.colour.rgb;
        format!("<path fill=\"#{red:02X}{green:02X}{blue:02X}\" stroke=\"none\" d=\"{path}\"/>\n")
    }

    fn draw(&self, backend: &mut SVGBackend, shape: &Shape) -> Drawing {
        match shape {
            Shape::Polyline { spots, colour, width, dash } => {
                let style = ShapeStyle { color: ink(*colour), filled: false, stroke_width: units(*width) as u32 };
                let parts = marks::strokes(spots, dash);
                parts.iter().try_for_each(|part| {
                    backend.draw_path(part.iter().map(|spot| rounded(*spot)), &style).map_err(in_words)
                })
            }
            Shape::Polygon { spots, colour } => {
                backend.fill_polygon(spots.iter().map(|spot| rounded(*spot)), &ink(*colour)).map_err(in_words)
            }
            Shape::Circle { centre, radius, colour } => {
                backend.draw_circle(rounded(*centre), units(*radius) as u32, &ink(*colour), true).map_err(in_words)
            }
            Shape::Text(label) => self.write_text(backend, label),
            Shape::Series { shapes, .. } => shapes.iter().try_for_each(|shape| self.draw(backend, shape)),
        }
    }

    fn write_text(&self, backend: &mut SVGBackend, label: &Label) -> Drawing {
        let rotation = if label.upright { FontTransform::Rotate270 } else { FontTransform::None };
        let size = label.size * UNIT * SIZE_FACTOR;
        let family = if self.mode == TextMode::Embedded { EMBEDDED } else { FAMILY };
        let font = FontDesc::new(FontFamily::Name(family), size, FontStyle::Normal).transform(rotation);
        let h_pos = match label.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let colour = ink(label.colour);
        let style = TextStyle::from(font).color(&colour).pos(Pos::new(h_pos, VPos::Top));
        let ((x, y), drop) = (label.at, BASELINE * label.size);
        let top = if label.upright { (x - drop, y) } else { (x, y - drop) };
        backend.draw_text(&label.text, &style, rounded(top)).map_err(in_words)
    }
}

/// What the backend writes between the tags of its root element.
fn written(size: (u32, u32), draw: impl FnOnce(&mut SVGBackend) -> Drawing) -> std::result::Result<String, String> {
    let mut text = String::new();
    let mut backend = SVGBackend::with_string(&mut text, size);
    let drawn = draw(&mut backend).and_then(|()| backend.present().map_err(in_words));
    drop(backend);
    drawn?;
    let body = text.split_once(">\n").map_or("", |(_, body)| body);
    Ok(body.trim_end().trim_end_matches("</svg>").to_owned())
}

/// Wraps the body in the root element, whose attributes give all lines round ends and joins.
fn with_root(body: &str, scene: &Scene, title: &str) -> String {
    let (width, height) = (scene.width, scene.height);
    let label = font::one_line(title).replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    let (wide, high) = (units(width), units(height));
    let root = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {wide} {high}\" \
         role=\"img\" aria-label=\"{label}\" stroke-linejoin=\"round\" stroke-linecap=\"round\">\n"
    );
    // No text of ours holds a line feed, so this closes the texts and nothing else.
    root + body.replace("\n</text>", "</text>").as_str() + "</svg>\n"
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A background, so that a chart stays readable on pages of the other theme.
fn page(backend: &mut SVGBackend, (width, height): (u32, u32), colour: Colour) -> Drawing {
    backend.draw_rect((0, 0), (width as i32, height as i32), &ink(colour), true).map_err(in_words)
}

fn ink(colour: Colour) -> RGBAColor {
    RGBAColor(colour.rgb.0, colour.rgb.1, colour.rgb.2, colour.alpha)
}

/// Pixels in units of the document.
pub fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

fn rounded((x, y): Spot) -> (i32, i32) {
    (units(x), units(y))
}
