//! How a chart looks and how its texts are written, whatever it shows: theme, resolution, text, a font file.

use crate::error::{Error, Result};
use crate::files;
use ab_glyph::FontVec;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone, Default)]
pub struct Style {
    pub theme: Theme,
    /// Pixels per inch of a PNG, where a chart's own pixels are 96 to the inch; by default 192.
    pub dpi: Option<f64>,
    pub text: TextMode,
    /// Draws the characters that the built-in font lacks.
    pub font: Option<FontFile>,
    /// Refuses characters that no font has, instead of drawing boxes.
    pub requires_glyphs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Theme {
    #[default]
    Light,
    Dark,
}

crate::choices!(Theme, [("light", Theme::Light), ("dark", Theme::Dark)]);

/// How SVG and PDF hold texts. In PNG they are pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextMode {
    /// SVG: text in the reader's fonts. PDF: as embedded.
    #[default]
    Text,
    /// Shapes without any font: the same everywhere, not searchable.
    Outlines,
    /// Text with its font in the file: the same everywhere, searchable.
    Embedded,
}

crate::choices!(
    TextMode,
    [("text", TextMode::Text), ("outlines", TextMode::Outlines), ("embedded", TextMode::Embedded)]
);

/// A font in a file that the user named.
#[derive(Debug, Clone)]
pub struct FontFile {
    pub face: Arc<FontVec>,
}

impl FontFile {
    /// Reads a `.ttf`, `.otf` or `.ttc` file; of a collection the first font.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no font with outlines.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = files::read(path)?;
        let face = FontVec::try_from_vec_and_index(bytes, 0).map_err(|_| {
            Error::input(format!("`{}`: expected a font file (.ttf, .otf, .ttc), found something else", path.display()))
                .with_hint("`fc-list :lang=zh file` lists the font files for Chinese on this machine; .woff is none")
        })?;
        Ok(FontFile { face: Arc::new(face) })
    }
}
