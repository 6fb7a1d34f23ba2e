//! Draws stacked bars.

use super::palette::{self, Colour, Palette};
use super::picture::{self, filled, EDGE};
use super::range::AxisRange;
use super::scene::{Anchor, Label, Rect, Scene, Shape};
use super::sizes::{TEXT, TICK};
use super::{font, number, ticks};
use crate::error::{Error, Result};
use crate::plot::charts::bars::{Bar, Bars};
use crate::plot::charts::chart::Numbers;
use crate::plot::charts::scale::Scale;
use std::path::Path;

const WIDTH: f64 = 860.0;
const BAR: f64 = 19.0;
const GAP: f64 = 5.0;
const GROUP_GAP: f64 = 13.0;
const LEGEND_ROW: f64 = 20.0;

impl Bars {
    fn palette(&self) -> &'static Palette {
        palette::of(self.style.theme)
    }

    /// Writes the picture atomically; see [`Chart::save`](crate::plot::Chart::save).
    ///
    /// # Errors
    /// No bar; a value that is not finite or below 0; a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        picture::save(&self.scene()?, &self.title, path)
    }

    fn scene(&self) -> Result<Scene> {
        let values = || self.bars.iter().flat_map(|bar| bar.values.iter().copied());
        if self.bars.is_empty() || values().any(|value| !value.is_finite() || value < 0.0) {
            return Err(Error::bug("stacked bars need at least one bar, and values from 0 up"));
        }
        let mut shapes = vec![];
        let top = picture::header(&self.title, &self.subtitle, WIDTH, self.palette(), &mut shapes);
        let top = self.legend(top, &mut shapes);
        let panel = self.panel(top);
        let largest = self.bars.iter().map(|bar| bar.values.iter().sum::<f64>()).fold(0.0, f64::max);
        let range = AxisRange { scale: Scale::Linear, low: 0.0, high: if largest > 0.0 { largest } else { 1.0 } };
        self.grid(&range, &panel, &mut shapes);
        let mut y = panel.top;
        for bar in &self.bars {
            y += if bar.opens_group { GROUP_GAP } else { GAP };
            self.bar(bar, &range, (&panel, y), &mut shapes);
            y += BAR;
        }
        let height = picture::footer(&self.notes, WIDTH, panel.bottom + TICK + TEXT * 2.4, self.palette(), &mut shapes);
        Ok(Scene { style: self.style.clone(), ..Scene::new(WIDTH, height, shapes) })
    }

    fn panel(&self, top: f64) -> Rect {
        let room =
            |texts: &mut dyn Iterator<Item = &String>| texts.map(|text| font::room(text, TICK)).fold(0.0, f64::max);
        let left = EDGE + room(&mut self.bars.iter().map(|bar| &bar.name)) + 10.0;
        let right = WIDTH - EDGE - room(&mut self.bars.iter().map(|bar| &bar.label)) - 8.0;
        let gaps: f64 = self.bars.iter().map(|bar| if bar.opens_group { GROUP_GAP } else { GAP }).sum();
        Rect { left, top, right: right.max(left + 80.0), bottom: top + gaps + BAR * self.bars.len() as f64 + GAP }
    }

    /// Draws a square and a name for each part that any bar has; returns where the legend ends.
    fn legend(&self, top: f64, shapes: &mut Vec<Shape>) -> f64 {
        let (mut x, mut y) = (EDGE, top);
        for (at, name) in self.parts.iter().enumerate() {
            if self.bars.iter().all(|bar| bar.values.get(at).is_none_or(|value| *value == 0.0)) {
                continue;
            }
            let room = font::room(name, TICK) + 34.0;
            if x + room > WIDTH - EDGE && x > EDGE {
                (x, y) = (EDGE, y + LEGEND_ROW);
            }
            shapes.push(filled(
                &Rect { left: x, top: y, right: x + 12.0, bottom: y + 12.0 },
                self.palette().look(at).colour,
            ));
            shapes.push(Shape::Text(Label::new(name, (x + 18.0, y + 10.5), TICK, self.palette().ink, Anchor::Start)));
            x += room;
        }
        y + LEGEND_ROW + 4.0
    }

    fn grid(&self, range: &AxisRange, panel: &Rect, shapes: &mut Vec<Shape>) {
        let values = ticks::linear(range, 7, false);
        let labels = number::labels(&values, Numbers::Plain, false);
        for (value, label) in values.iter().zip(labels) {
            let x = panel.left + range.position(*value) * panel.width();
            shapes.push(line((x, panel.top), (x, panel.bottom), self.palette().faint));
            let at = (x, panel.bottom + 7.0 + TICK * 0.9);
            shapes.push(Shape::Text(Label::new(label, at, TICK, self.palette().grey, Anchor::Middle)));
        }
        shapes.push(line((panel.left, panel.bottom), (panel.right, panel.bottom), self.palette().axis));
        let at = ((panel.left + panel.right) / 2.0, panel.bottom + 8.0 + TICK + TEXT * 1.4);
        shapes.push(Shape::Text(Label::new(&self.x, at, TEXT, self.palette().ink, Anchor::Middle)));
    }

    fn bar(&self, bar: &Bar, range: &AxisRange, (panel, top): (&Rect, f64), shapes: &mut Vec<Shape>) {
        let baseline = top + BAR * 0.5 + TICK * 0.35;
        let name =
            Label::new(font::one_line(&bar.name), (panel.left - 8.0, baseline), TICK, self.palette().ink, Anchor::End);
        shapes.push(Shape::Text(name));
        let (mut sum, mut left) = (0.0, panel.left);
        for (at, value) in bar.values.iter().enumerate() {
            sum += value;
            let right = panel.left + range.position(sum) * panel.width();
            if right - left > 0.05 {
                shapes.push(filled(&Rect { left, top, right, bottom: top + BAR }, self.palette().look(at).colour));
            }
            left = right;
        }
        let label =
            Label::new(font::one_line(&bar.label), (left + 6.0, baseline), TICK, self.palette().ink, Anchor::Start);
        shapes.push(Shape::Text(label));
    }
}

fn line(from: (f64, f64), to: (f64, f64), colour: Colour) -> Shape {
    Shape::Polyline { spots: vec![from, to], colour, width: 1.0, dash: &[] }
}
