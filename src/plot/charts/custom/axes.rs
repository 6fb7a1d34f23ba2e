//! The axes of a chart of any data: numbers at their values, names at whole positions.

use super::super::chart::{Axis, Ticks};
use super::super::scale::Scale;
use super::choices::Limits;
use super::columns::Cell;
use super::groups::in_order;
use super::marks::{Mark, MarkOptions};
use super::options::FigureOptions;
use crate::bail;
use crate::error::{Kind, Result};
use std::collections::HashMap;

/// More names than this have less than a pixel each.
const MOST_NAMES: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    X,
    Y,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::X => "x",
            Side::Y => "y",
        }
    }
}

/// Where values lie on an axis.
#[derive(Debug)]
pub struct Positions {
    side: Side,
    /// By name, where the axis has names.
    names: Option<(Vec<String>, HashMap<String, usize>)>,
}

impl Positions {
    /// Names wherever a mark has names, or needs them: bars, boxes, strips and heatmaps.
    pub fn of(marks: &[Mark], side: Side) -> Self {
        let columns = || marks.iter().filter_map(|mark| column(mark, side));
        let is_named = |(cells, needs_names): (&[Cell], bool)| {
            needs_names || cells.iter().any(|cell| matches!(cell, Cell::Text(_)))
        };
        if !columns().any(is_named) {
            return Positions { side, names: None };
        }
        let names = in_order(columns().flat_map(|(cells, _)| cells));
        let places = names.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        Positions { side, names: Some((names, places)) }
    }

    pub fn has_names(&self) -> bool {
        self.names.is_some()
    }

    /// NaN for a missing value, or a name that the axis lacks.
    pub fn at(&self, cell: &Cell) -> f64 {
        let Some((names, places)) = &self.names else { return cell.number().unwrap_or(f64::NAN) };
        let place = if *cell == Cell::Missing { None } else { places.get(&cell.name()) };
        place.map_or(f64::NAN, |place| self.position(names, *place))
    }

    /// Names on the y axis read from the top.
    fn position(&self, names: &[String], place: usize) -> f64 {
        match self.side {
            Side::X => place as f64,
            Side::Y => (names.len() - 1 - place) as f64,
        }
    }

    /// The positions of all names; none of an axis of numbers.
    pub fn all(&self) -> Vec<f64> {
        let names = self.names.as_ref().map_or(&[][..], |(names, _)| names);
        (0..names.len()).map(|place| self.position(names, place)).collect()
    }

    /// # Errors
    /// A scale, limits or ticks of numbers on an axis of names; limits that a logarithmic axis lacks.
    pub fn axis(&self, figure: &FigureOptions, title: String) -> Result<Axis> {
        let side = self.side.name();
        let (scale, limits, ticks) = match self.side {
            Side::X => (figure.x_scale, &figure.x_limits, &figure.x_ticks),
            Side::Y => (figure.y_scale, &figure.y_limits, &figure.y_ticks),
        };
        let Limits { low, high } = *limits;
        let axis = Axis { title, scale, low, high, ..Axis::default() };
        let Some((names, _)) = &self.names else {
            ensure_on_scale(&format!("{side}_limits"), scale, &[low, high])?;
            return Ok(Axis { ticks: if ticks.is_empty() { Ticks::Round } else { Ticks::At(ticks.clone()) }, ..axis });
        };
        let is_set =
            [("scale", scale != Scale::Linear), ("limits", *limits != Limits::default()), ("ticks", !ticks.is_empty())];
        if let Some((option, _)) = is_set.iter().find(|(_, is_set)| *is_set) {
            bail!(Kind::Input, "chart: option `{side}_{option}`: expected an axis of numbers, found one of names";
                hint: "bars, boxes, strips and heatmaps have a name for each place; leave {side}_{option} out")
        }
        if names.len() > MOST_NAMES {
            bail!(Kind::Input, "chart: expected at most {MOST_NAMES} names on the {side} axis, found {}", names.len();
                hint: "a histogram counts values that differ; points and lines take numbers")
        }
        let mut named: Vec<(f64, String)> = self.all().into_iter().zip(names.iter().cloned()).collect();
        named.sort_by(|one, two| one.0.total_cmp(&two.0));
        let (low, high) = (Some(-0.5), Some(names.len() as f64 - 0.5));
        Ok(Axis { ticks: Ticks::Named(named), low, high, ..axis })
    }
}

/// What a mark has on an axis, and whether it needs names there.
fn column(mark: &Mark, side: Side) -> Option<(&[Cell], bool)> {
    let along = if mark.options.is_horizontal() { Side::Y } else { Side::X };
    if side == along {
        return Some((&mark.along, mark.options.is_categorical()));
    }
    // Values of a line or of points may be names as well; those of bars and boxes are numbers.
    match mark.options {
        MarkOptions::Line(_) | MarkOptions::Points(_) => Some((&mark.values, false)),
        MarkOptions::Heatmap(_) => Some((&mark.values, true)),
        _ => None,
    }
}

fn ensure_on_scale(option: &str, scale: Scale, ends: &[Option<f64>]) -> Result<()> {
    match ends.iter().flatten().find(|end| !scale.shows(**end)) {
        Some(end) => {
            bail!(Kind::Input, "chart: option `{option}`: expected ends above 0 on a logarithmic axis, found {end}")
        }
        None => Ok(()),
    }
}
