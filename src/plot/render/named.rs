//! Series with names: which have one, how each looks, and a name as a label.

use super::clean::CleanData;
use super::font;
use super::palette::{self, Colour, Look, Palette};
use super::scene::{Anchor, Label, Spot};
use crate::plot::charts::chart::Chart;
use std::collections::HashSet;

/// The size of a name, and the height of a row of the legend.
pub const SIZE: f64 = 12.0;
pub const ROW: f64 = 17.0;
/// The length of the piece of line in a legend, and its distance to the name.
pub const SAMPLE: f64 = 26.0;
pub const SAMPLE_GAP: f64 = 7.0;

/// The names, each with the index of its series in the chart.
#[derive(Debug)]
pub enum Names {
    None,
    /// The spot is the end of the series' line; a thin line connects it with the name.
    Ends {
        title: Option<Label>,
        names: Vec<(usize, Spot, Label)>,
    },
    /// The sample of each line begins at the spot.
    Side {
        texts: Vec<Label>,
        names: Vec<(usize, Spot, Label)>,
    },
}

pub fn name(text: &str, at: Spot, colour: Colour, limit: f64) -> Label {
    Label::new(font::elide_middle(&font::one_line(text), SIZE, limit), at, SIZE, colour, Anchor::Start)
}

/// The look of series `index`.
pub fn slot_look(chart: &Chart, index: usize) -> Look {
    palette_of(chart).look(chart.series.get(index).and_then(|series| series.slot).unwrap_or(index))
}

pub fn palette_of(chart: &Chart) -> &'static Palette {
    palette::of(chart.style.theme)
}

/// Series with a name and a point; of those with one name and look, in several panels, the first.
pub fn named(chart: &Chart, data: &CleanData) -> Vec<usize> {
    let mut seen = HashSet::new();
    let all = chart.series.iter().zip(&data.series).enumerate();
    all.filter(|(_, (series, clean))| !series.name.is_empty() && !clean.points.is_empty())
        .filter(|(_, (series, _))| series.slot.is_none_or(|slot| seen.insert((slot, &series.name))))
        .map(|(index, _)| index)
        .collect()
}
