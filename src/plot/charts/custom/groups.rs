//! The rows of a mark by panel and series, and the looks of series.

use super::columns::Cell;
use super::marks::Mark;
use crate::bail;
use crate::error::{Kind, Result};
use std::collections::{HashMap, HashSet};

const MOST_SERIES: usize = 500;

/// The names of cells, each once: numbers ascending, or else in the order of the rows. Missing cells have none.
pub fn in_order<'a>(cells: impl Iterator<Item = &'a Cell>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut names: Vec<(&Cell, String)> = vec![];
    for cell in cells.filter(|cell| **cell != Cell::Missing) {
        let name = cell.name();
        if seen.insert(name.clone()) {
            names.push((cell, name));
        }
    }
    if names.iter().all(|(cell, _)| cell.number().is_some()) {
        let number = |cell: &Cell| cell.number().unwrap_or(f64::NAN);
        names.sort_by(|(one, _), (two, _)| number(one).total_cmp(&number(two)));
    }
    names.into_iter().map(|(_, name)| name).collect()
}

/// As [`in_order`], and a name for missing cells at the end, so that their rows are shown.
pub fn with_missing(cells: &[Cell]) -> Vec<String> {
    let is_missing = cells.contains(&Cell::Missing);
    in_order(cells.iter()).into_iter().chain(is_missing.then(|| Cell::Missing.name())).collect()
}

/// The rows of one series in one panel.
#[derive(Debug)]
pub struct Group {
    pub panel: usize,
    pub name: String,
    /// Index in the palette.
    pub slot: usize,
    /// Its place among the series of the mark, and their number.
    pub place: usize,
    pub count: usize,
    pub rows: Vec<usize>,
}

/// Looks by name: the same name has one look in all marks and panels.
#[derive(Debug, Default)]
pub struct Slots {
    known: HashMap<String, usize>,
    next: usize,
}

impl Slots {
    /// A name that is empty gets a look of its own.
    fn slot(&mut self, name: &str) -> usize {
        if let Some(slot) = self.known.get(name) {
            return *slot;
        }
        let slot = self.next;
        self.next += 1;
        if !name.is_empty() {
            self.known.insert(name.to_owned(), slot);
        }
        slot
    }
}

/// The groups of a mark by panel and then by series. A mark without facets is in every panel.
///
/// # Errors
/// More series than anybody tells apart.
pub fn groups(mark: &Mark, panels: &[String], slots: &mut Slots) -> Result<Vec<Group>> {
    let names = match &mark.by {
        Some(cells) => with_missing(cells),
        None => vec![mark.options.common().name.clone()],
    };
    if names.len() > MOST_SERIES {
        bail!(Kind::Input, "{}: option `by`: expected at most {MOST_SERIES} different values, found {}", mark.title, names.len();
            hint: "points show numbers as colours by value: \"column\"")
    }
    let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    let panel_places: HashMap<&str, usize> = panels.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let slots: Vec<usize> = names.iter().map(|name| slots.slot(name)).collect();
    let mut rows: Vec<Vec<Vec<usize>>> = vec![vec![vec![]; names.len()]; panels.len().max(1)];
    for row in 0..mark.len {
        let place = match &mark.by {
            Some(cells) => places.get(cells[row].name().as_str()).copied(),
            None => Some(0),
        };
        let own_panel = mark.facet.as_ref().map(|cells| panel_places.get(cells[row].name().as_str()).copied());
        let Some(place) = place else { continue };
        match own_panel {
            Some(Some(panel)) => rows[panel][place].push(row),
            Some(None) => {}
            None => rows.iter_mut().for_each(|panel| panel[place].push(row)),
        }
    }
    let mut groups = vec![];
    for (panel, series) in rows.into_iter().enumerate() {
        for (place, rows) in series.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let (name, slot, count) = (names[place].clone(), slots[place], names.len());
            groups.push(Group { panel, name, slot, place, count, rows });
        }
    }
    Ok(groups)
}
