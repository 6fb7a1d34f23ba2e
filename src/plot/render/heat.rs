//! Draws a grid of shades: the numbers in the cells where they fit, and a scale that says what the shades mean.

use super::palette::{self, Colour, Palette};
use super::picture::{self, filled, EDGE};
use super::scene::{Anchor, Label, Rect, Scene, Shape};
use super::sizes::{TEXT, TICK};
use super::{font, number};
use crate::error::{Error, Result};
use crate::plot::charts::heat::Heat;
use std::path::Path;

const LEAST_WIDTH: f64 = 480.0;
/// The width available for the cells of a row.
const ROW_ROOM: f64 = 900.0;
const CELL_HEIGHT: f64 = 26.0;
const SCALE_ROOM: f64 = 74.0;
const STEPS: usize = 40;
const NUMBER: f64 = 10.0;

/// The position and size of the cells.
struct CellGrid {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl Heat {
    fn palette(&self) -> &'static Palette {
        palette::of(self.style.theme)
    }

    /// Writes the picture atomically; see [`Chart::save`](crate::plot::Chart::save).
    ///
    /// # Errors
    /// No cell; a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        picture::save(&self.scene()?, &self.title, path)
    }

    pub(super) fn scene(&self) -> Result<Scene> {
        if self.columns.is_empty() || self.rows.is_empty() {
            return Err(Error::bug("a grid of shades needs at least one cell"));
        }
        let names = self.rows.iter().map(|name| font::room(name, TICK)).fold(0.0, f64::max);
        let left = EDGE + TEXT * 1.5 + names + 8.0;
        let cell = (ROW_ROOM / self.columns.len() as f64).clamp(6.0, 48.0);
        // Square where there are many rows: subspaces against subspaces.
        let cell_height = if self.rows.len() > 12 { cell.min(CELL_HEIGHT) } else { CELL_HEIGHT };
        let cells = cell * self.columns.len() as f64;
        let width = (left + cells + SCALE_ROOM + EDGE).max(LEAST_WIDTH);
        let mut shapes = vec![];
        let top = picture::header(&self.title, &self.subtitle, width, self.palette(), &mut shapes);
        let grid = CellGrid { left, top, width: cell, height: cell_height };
        self.draw_cells(&grid, &mut shapes);
        let bottom = top + cell_height * self.rows.len() as f64;
        self.names(&grid, bottom, &mut shapes);
        self.scale(left + cells + 20.0, (top, bottom.max(top + 70.0)), &mut shapes);
        let below = bottom.max(top + 70.0) + TICK + TEXT * 2.2;
        let height = picture::footer(&self.notes, width, below, self.palette(), &mut shapes);
        Ok(Scene { style: self.style.clone(), ..Scene::new(width, height, shapes) })
    }

    fn shade(&self, value: f64) -> Colour {
        let span = if self.high > self.low { self.high - self.low } else { 1.0 };
        let shades = &self.palette().sequential;
        let position = ((value - self.low) / span).clamp(0.0, 1.0) * (shades.len() - 1) as f64;
        let from = (position as usize).min(shades.len() - 2);
        shades[from].mix(shades[from + 1], position - from as f64)
    }

    fn draw_cells(&self, grid: &CellGrid, shapes: &mut Vec<Shape>) {
        let shown = self.cells.iter().flatten().flatten().map(|value| number::grouped(*value, self.decimals));
        let room = shown.map(|text| font::room(&text, NUMBER)).fold(0.0, f64::max);
        let has_room = room + 3.0 <= grid.width && NUMBER * 1.3 <= grid.height;
        for (row, values) in self.cells.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let (left, top) = (grid.left + column as f64 * grid.width, grid.top + row as f64 * grid.height);
                let rect = Rect { left, top, right: left + grid.width, bottom: top + grid.height };
                let Some(value) = value.filter(|value| value.is_finite()) else {
                    shapes.push(filled(&rect.grown(-1.0), self.palette().faint));
                    continue;
                };
                let colour = self.shade(value);
                shapes.push(filled(&rect.grown(-0.5), colour));
                if has_room {
                    let Palette { page, ink, .. } = self.palette();
                    let ink = if colour.contrast(*page) > colour.contrast(*ink) { *page } else { *ink };
                    let at = (left + grid.width / 2.0, top + grid.height / 2.0 + NUMBER * 0.35);
                    let text = number::grouped(value, self.decimals);
                    shapes.push(Shape::Text(Label::new(text, at, NUMBER, ink, Anchor::Middle)));
                }
            }
        }
    }

    /// Draws the names of rows and columns, as many as fit, and the titles of both.
    fn names(&self, grid: &CellGrid, bottom: f64, shapes: &mut Vec<Shape>) {
        let widest = self.columns.iter().map(|name| font::room(name, TICK)).fold(0.0, f64::max);
        let every = ((widest + 6.0) / grid.width).ceil().max(1.0) as usize;
        for (at, name) in self.columns.iter().enumerate().step_by(every) {
            let spot = (grid.left + (at as f64 + 0.5) * grid.width, bottom + TICK * 1.3);
            shapes.push(Shape::Text(Label::new(name, spot, TICK, self.palette().grey, Anchor::Middle)));
        }
        let every = (TICK * 1.2 / grid.height).ceil().max(1.0) as usize;
        for (at, name) in self.rows.iter().enumerate().step_by(every) {
            let spot = (grid.left - 7.0, grid.top + (at as f64 + 0.5) * grid.height + TICK * 0.35);
            shapes.push(Shape::Text(Label::new(name, spot, TICK, self.palette().grey, Anchor::End)));
        }
        let across = grid.left + grid.width * self.columns.len() as f64 / 2.0;
        let at = (across, bottom + TICK * 1.3 + TEXT * 1.4);
        shapes.push(Shape::Text(Label::new(&self.x, at, TEXT, self.palette().ink, Anchor::Middle)));
        let at = (EDGE + TEXT * 0.8, (grid.top + bottom) / 2.0);
        let label = Label::new(&self.y, at, TEXT, self.palette().ink, Anchor::Middle);
        shapes.push(Shape::Text(Label { upright: true, ..label }));
    }

    /// Draws the scale: a bar of shades with the numbers at its ends.
    fn scale(&self, left: f64, (top, bottom): (f64, f64), shapes: &mut Vec<Shape>) {
        let (from, to) = (top + TICK, bottom - TICK);
        let step = (to - from) / STEPS as f64;
        for at in 0..STEPS {
            let value = self.high - (self.high - self.low) * (at as f64 + 0.5) / STEPS as f64;
            let above = from + step * at as f64;
            let rect = Rect { left, top: above, right: left + 12.0, bottom: above + step + 0.3 };
            shapes.push(filled(&rect, self.shade(value)));
        }
        for (value, y) in [(self.high, from + TICK * 0.4), (self.low, to + TICK * 0.3)] {
            let text = number::grouped(value, self.decimals);
            shapes.push(Shape::Text(Label::new(text, (left + 17.0, y), TICK, self.palette().grey, Anchor::Start)));
        }
    }
}
