//! A picture as a list of shapes in CSS pixels, with the origin at the top left: `draw.rs` makes it, `svg.rs`
//! and `pixels.rs` turn it into files.

use super::font;
use super::palette::{Colour, Dash};
use crate::plot::charts::style::Style;

pub type Spot = (f64, f64);

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

#[derive(Debug, Clone)]
pub enum Shape {
    Polyline {
        spots: Vec<Spot>,
        colour: Colour,
        width: f64,
        dash: Dash,
    },
    Polygon {
        spots: Vec<Spot>,
        colour: Colour,
    },
    Circle {
        centre: Spot,
        radius: f64,
        colour: Colour,
    },
    Text(Label),
    /// The shapes of one series of a chart; `series` is its index there.
    Series {
        series: usize,
        part: Part,
        shapes: Vec<Shape>,
    },
}

/// What the shapes of a series show: its data, or its name in the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Data,
    Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text. `at` lies on its baseline, at the end or middle that `anchor` names.
#[derive(Debug, Clone)]
pub struct Label {
    pub text: String,
    pub at: Spot,
    pub size: f64,
    pub colour: Colour,
    pub anchor: Anchor,
    /// Reads from bottom to top.
    pub upright: bool,
}

#[derive(Debug, Clone)]
pub struct Scene {
    pub width: f64,
    pub height: f64,
    pub shapes: Vec<Shape>,
    pub style: Style,
}

/// Heights of characters above and below the baseline, in em: enough for Hangul.
pub const ASCENT: f64 = 0.86;
pub const DESCENT: f64 = 0.22;

impl Scene {
    /// A picture in the light theme.
    pub fn new(width: f64, height: f64, shapes: Vec<Shape>) -> Self {
        Scene { width, height, shapes, style: Style::default() }
    }
}

impl Rect {
    /// The rectangle between two corners.
    pub fn between((x0, y0): Spot, (x1, y1): Spot) -> Self {
        Rect { left: x0.min(x1), right: x0.max(x1), top: y0.min(y1), bottom: y0.max(y1) }
    }
    /// The corners in order around it.
    pub fn corners(&self) -> [Spot; 4] {
        let Rect { left, top, right, bottom } = *self;
        [(left, top), (right, top), (right, bottom), (left, bottom)]
    }
    pub fn width(&self) -> f64 {
        self.right - self.left
    }
    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }
    pub fn holds(&self, (x, y): Spot) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }
    pub fn meets(&self, other: &Rect) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
    pub fn grown(&self, by: f64) -> Rect {
        Rect { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }
}

impl Label {
    pub fn new(text: impl Into<String>, at: Spot, size: f64, colour: Colour, anchor: Anchor) -> Self {
        Label { text: text.into(), at, size, colour, anchor, upright: false }
    }

    /// The space that the text needs, whichever font draws it.
    pub fn bounds(&self) -> Rect {
        let room = font::room(&self.text, self.size);
        let before = match self.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => room / 2.0,
            Anchor::End => room,
        };
        let (x, y) = self.at;
        let (up, down) = (ASCENT * self.size, DESCENT * self.size);
        if self.upright {
            return Rect { left: x - up, right: x + down, top: y + before - room, bottom: y + before };
        }
        Rect { left: x - before, right: x - before + room, top: y - up, bottom: y + down }
    }
}
