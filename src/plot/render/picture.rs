//! A scene as a file: SVG, PNG or PDF, by the file's extension. Also the title and the notes of pictures that are no
//! [`Chart`](crate::plot::Chart).

use super::font;
use super::glyphs::Glyphs;
use super::palette::{Colour, Palette};
use super::scene::{Anchor, Label, Rect, Scene, Shape};
use super::sizes::{NOTE, TEXT, TITLE};
use super::{pdf, pixels, svg};
use crate::error::{Error, Result};
use crate::files;
use crate::plot::charts::style::TextMode;
use std::path::Path;

pub use super::sizes::EDGE;

/// CSS pixels to an inch, and the pixels of a PNG to an inch by default.
const PIXELS_PER_INCH: f64 = 96.0;
const DEFAULT_DPI: f64 = 192.0;

/// Writes the scene atomically: `.svg`, `.pdf`, or `.png` by default at twice its size.
pub fn save(scene: &Scene, title: &str, path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_lowercase();
    let is_text = ending == "svg" && scene.style.text == TextMode::Text;
    if scene.style.requires_glyphs && !is_text {
        ensure_glyphs(scene)?;
    }
    let bytes = match ending.as_str() {
        "svg" => svg::write(scene, title)?.into_bytes(),
        "png" => pixels::write(scene, scene.style.dpi.unwrap_or(DEFAULT_DPI) / PIXELS_PER_INCH)?,
        "pdf" => pdf::write(scene, title)?,
        _ => {
            let message = format!("expected a chart file ending in .svg, .png or .pdf, found `{}`", path.display());
            return Err(Error::input(message)
                .with_hint("SVG and PDF have no pixels and suit documents; PNG is for what reads neither"));
        }
    };
    files::write_atomic(path, &bytes)
}

/// # Errors
/// A character that neither the built-in font nor the chart's font file has.
fn ensure_glyphs(scene: &Scene) -> Result<()> {
    let Some(glyphs) = Glyphs::of(&scene.style) else { return Ok(()) };
    let mut texts = vec![];
    labels(&scene.shapes, &mut texts);
    let Some((text, character)) = texts.iter().find_map(|text| Some((text, glyphs.missing(text)?))) else {
        return Ok(());
    };
    let fonts = if scene.style.font.is_some() { "the built-in font and `font` have" } else { "the built-in font has" };
    let message = format!("chart: {fonts} no character '{character}', which is in \"{text}\"");
    Err(Error::input(message).with_hint(
        "name a font file that has it, as in font: \"/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc\", or write .svg with text: \"text\"",
    ))
}

fn labels<'a>(shapes: &'a [Shape], texts: &mut Vec<&'a str>) {
    for shape in shapes {
        match shape {
            Shape::Text(label) => texts.push(&label.text),
            Shape::Series { shapes, .. } => labels(shapes, texts),
            Shape::Polyline { .. } | Shape::Polygon { .. } | Shape::Circle { .. } => {}
        }
    }
}

/// Adds title and subtitle; returns where the picture may begin.
pub fn header(title: &str, subtitle: &str, width: f64, palette: &Palette, shapes: &mut Vec<Shape>) -> f64 {
    let mut top = EDGE - 2.0;
    for (text, size, colour) in [(title, TITLE, palette.ink), (subtitle, TEXT, palette.grey)] {
        for line in font::wrap(&font::one_line(text), size, width - 2.0 * EDGE, 2) {
            shapes.push(Shape::Text(Label::new(line, (EDGE, top + size), size, colour, Anchor::Start)));
            top += size * 1.35;
        }
    }
    top + 12.0
}

/// Adds notes below `top`; returns where they end.
pub fn footer(notes: &[String], width: f64, mut top: f64, palette: &Palette, shapes: &mut Vec<Shape>) -> f64 {
    for line in notes.iter().flat_map(|note| font::wrap(&font::one_line(note), NOTE, width - 2.0 * EDGE, 3)) {
        top += NOTE * 1.4;
        shapes.push(Shape::Text(Label::new(line, (EDGE, top), NOTE, palette.grey, Anchor::Start)));
    }
    top + EDGE
}

/// A filled rectangle.
pub fn filled(&Rect { left, top, right, bottom }: &Rect, colour: Colour) -> Shape {
    Shape::Polygon { spots: vec![(left, top), (right, top), (right, bottom), (left, bottom)], colour }
}
