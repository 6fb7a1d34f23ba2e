//! A chart as an SVG document, as a PNG image, as PDF, and as a file of any of them.

use super::pointer::{self, Readings};
use super::scene::Scene;
use super::{clean, draw, layout, pdf, picture, pixels, svg};
use crate::error::{Error, Result};
use crate::plot::charts::chart::Chart;
use std::path::Path;

impl Chart {
    /// Bounds of `width` and `height`: below, labels have no room; above, memory runs out.
    pub const SIZES: std::ops::RangeInclusive<u32> = 200..=8000;

    /// The chart as an SVG document: texts stay text, no ids, no scripts, nothing external.
    ///
    /// # Errors
    /// No point can be drawn, or a size is out of [`Chart::SIZES`].
    pub fn to_svg(&self) -> Result<String> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        svg::write(&self.scene(width, height)?, &self.title)
    }

    /// The SVG document, and what the pointer reads off it on a page.
    pub(in crate::plot) fn for_page(&self) -> Result<(String, Readings)> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        let data = clean::clean(self)?;
        let layout = layout::lay_out(self, &data, width, height)?;
        let svg = svg::write(&draw::draw(self, &data, &layout), &self.title)?;
        Ok((svg, pointer::read(self, &data, &layout)))
    }

    /// The chart as an RGB PNG of `width × scale` by `height × scale` pixels. `width` and
    /// `height` are CSS pixels: a larger `scale` makes the same picture sharper.
    ///
    /// # Errors
    /// As [`Chart::to_svg`]; `scale` not within 0.5 to 8; more than 64 million pixels.
    pub fn to_png(&self, width: u32, height: u32, scale: f64) -> Result<Vec<u8>> {
        let (width, height) = self.checked_size(width, height)?;
        if !(0.5..=8.0).contains(&scale) {
            return Err(Error::input(format!("option `scale`: expected a number from 0.5 to 8, found {scale}")));
        }
        pixels::write(&self.scene(width, height)?, scale)
    }

    /// The chart as a PDF of one page, 72 points for 96 pixels.
    ///
    /// # Errors
    /// As [`Chart::to_svg`].
    pub fn to_pdf(&self) -> Result<Vec<u8>> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        pdf::write(&self.scene(width, height)?, &self.title)
    }

    /// Writes the chart atomically, in the format that the ending of `path` names:
    /// `.svg`, `.pdf`, or `.png` at the style's dpi, by default twice the chart's size.
    ///
    /// # Errors
    /// Another ending; what [`Chart::to_svg`] refuses; a folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        picture::save(&self.scene(width, height)?, &self.title, path)
    }

    /// The shapes of the chart at its own size.
    pub(super) fn full_scene(&self) -> Result<Scene> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        self.scene(width, height)
    }

    /// # Errors
    /// As [`Chart::to_svg`].
    pub fn ensure_drawable(&self) -> Result<()> {
        let (width, height) = self.checked_size(self.width, self.height)?;
        self.scene(width, height).map(drop)
    }

    fn scene(&self, width: f64, height: f64) -> Result<Scene> {
        let data = clean::clean(self)?;
        let layout = layout::lay_out(self, &data, width, height)?;
        Ok(draw::draw(self, &data, &layout))
    }

    fn checked_size(&self, width: u32, height: u32) -> Result<(f64, f64)> {
        for (name, size) in [("width", width), ("height", height)] {
            if !Chart::SIZES.contains(&size) {
                let (low, high) = (Chart::SIZES.start(), Chart::SIZES.end());
                return Err(Error::input(format!("option `{name}`: expected {low} to {high} pixels, found {size}")));
            }
        }
        Ok((f64::from(width), f64::from(height)))
    }
}
