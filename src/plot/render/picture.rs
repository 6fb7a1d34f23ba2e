//! A scene as a file: SVG or PNG, by the file's extension. Also the title and the notes of pictures that are no
//! [`Chart`](crate::plot::Chart).

use super::font;
use super::layout::{NOTE, TEXT, TITLE};
use super::palette::{Colour, GREY, INK};
use super::scene::{Anchor, Label, Rect, Scene, Shape};
use super::{pixels, svg};
use crate::error::{Error, Result};
use crate::files;
use std::path::Path;

/// The margin of a picture.
pub const EDGE: f64 = 14.0;

/// Writes the scene atomically: `.svg`, or `.png` at twice its size.
pub fn save(scene: &Scene, title: &str, path: &Path) -> Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_lowercase();
    let bytes = match ending.as_str() {
        "svg" => svg::write(scene, title)?.into_bytes(),
        "png" => pixels::write(scene, 2.0)?,
        _ => {
            let message = format!("expected a chart file ending in .svg or .png, found `{}`", path.display());
            return Err(Error::input(message)
                .with_hint("charts are written as SVG (text stays text, any size) or PNG (pixels)"));
        }
    };
    files::write_atomic(path, &bytes)
}

/// Adds title and subtitle; returns where the picture may begin.
pub fn header(title: &str, subtitle: &str, width: f64, shapes: &mut Vec<Shape>) -> f64 {
    let mut top = EDGE - 2.0;
    for (text, size, colour) in [(title, TITLE, INK), (subtitle, TEXT, GREY)] {
        for line in font::wrap(&font::one_line(text), size, width - 2.0 * EDGE, 2) {
            shapes.push(Shape::Text(Label::new(line, (EDGE, top + size), size, colour, Anchor::Start)));
            top += size * 1.35;
        }
    }
    top + 12.0
}

/// Adds notes below `top`; returns where they end.
pub fn footer(notes: &[String], width: f64, mut top: f64, shapes: &mut Vec<Shape>) -> f64 {
    for line in notes.iter().flat_map(|note| font::wrap(&font::one_line(note), NOTE, width - 2.0 * EDGE, 3)) {
        top += NOTE * 1.4;
        shapes.push(Shape::Text(Label::new(line, (EDGE, top), NOTE, GREY, Anchor::Start)));
    }
    top + EDGE
}

/// A filled rectangle.
pub fn filled(&Rect { left, top, right, bottom }: &Rect, colour: Colour) -> Shape {
    Shape::Polygon { spots: vec![(left, top), (right, top), (right, bottom), (left, bottom)], colour }
}
