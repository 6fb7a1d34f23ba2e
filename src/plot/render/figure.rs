//! A picture of any kind as SVG, as a file, and as a figure of a page.

use super::pointer::Readings;
use super::scene::Scene;
use super::{picture, svg};
use crate::error::Result;
use crate::plot::charts::picture::Picture;
use std::path::Path;

impl Picture {
    /// The SVG document: see [`Chart::to_svg`](crate::plot::Chart::to_svg).
    ///
    /// # Errors
    /// Nothing that can be drawn.
    pub fn to_svg(&self) -> Result<String> {
        svg::write(&self.scene()?, self.title())
    }

    /// Writes the picture atomically: `.svg`, `.pdf`, or `.png` at twice its size.
    ///
    /// # Errors
    /// Another ending; nothing that can be drawn; a folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        picture::save(&self.scene()?, self.title(), path)
    }

    /// The SVG document, and what the pointer reads off it on a page, where that is a chart with points.
    pub(in crate::plot) fn for_page(&self) -> Result<(String, Option<Readings>)> {
        match self {
            Picture::Chart(chart) => chart.for_page().map(|(svg, readings)| (svg, Some(readings))),
            other => other.to_svg().map(|svg| (svg, None)),
        }
    }

    fn scene(&self) -> Result<Scene> {
        match self {
            Picture::Chart(chart) => chart.full_scene(),
            Picture::Rows(rows) => rows.scene(),
            Picture::Heat(heat) => heat.scene(),
            Picture::Parallel(parallel) => parallel.scene(),
        }
    }
}
