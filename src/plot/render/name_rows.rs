//! A legend above or below the panels: the names in rows, from left to right.

use super::clean::CleanData;
use super::font;
use super::named::{self, Names, ROW, SAMPLE, SAMPLE_GAP, SIZE};
use super::picture::EDGE;
use crate::plot::charts::chart::Chart;

/// Between one name and the next sample.
const GAP: f64 = 18.0;
/// More rows would leave no room for the data.
const MOST_ROWS: usize = 4;
/// One name takes at most this part of the picture's width.
const MOST_NAME: f64 = 0.4;

/// The row and the left end of each name, by the index of its series.
#[derive(Debug)]
pub struct NameRows {
    names: Vec<(usize, usize, f64)>,
    limit: f64,
    /// The number of names for which there is no row, and where it is said.
    left_out: Option<(usize, usize, f64)>,
}

impl NameRows {
    pub fn of(chart: &Chart, data: &CleanData, width: f64) -> Self {
        let limit = width * MOST_NAME;
        let room = |text: &str| font::room(&font::one_line(text), SIZE).min(limit);
        let title = &chart.legend_title;
        let mut left = EDGE + if title.is_empty() { 0.0 } else { room(title) + GAP };
        let (mut row, mut names) = (0, vec![]);
        let all = named::named(chart, data);
        for index in &all {
            let wide = SAMPLE + SAMPLE_GAP + room(&chart.series[*index].name);
            let is_last_row = row + 1 == MOST_ROWS;
            // The end of the last row says how many are left out.
            let spare = if is_last_row { room("… and 999 more") + GAP } else { 0.0 };
            if left + wide + spare > width - EDGE && left > EDGE {
                if is_last_row {
                    let left_out = Some((all.len() - names.len(), row, left));
                    return NameRows { names, limit, left_out };
                }
                (row, left) = (row + 1, EDGE);
            }
            names.push((*index, row, left));
            left += wide + GAP;
        }
        NameRows { names, limit, left_out: None }
    }

    pub fn height(&self) -> f64 {
        let rows = self.names.iter().map(|(_, row, _)| row + 1).max().unwrap_or(0);
        rows as f64 * ROW + 8.0
    }

    pub fn place(&self, chart: &Chart, top: f64) -> Names {
        let palette = named::palette_of(chart);
        let middle = |row: usize| top + (row as f64 + 0.5) * ROW;
        let at = |row: usize, left: f64| (left, middle(row) + SIZE * 0.35);
        let named = self.names.iter().map(|(index, row, left)| {
            let spot = at(*row, left + SAMPLE + SAMPLE_GAP);
            let label = named::name(&chart.series[*index].name, spot, palette.ink, self.limit);
            (*index, (*left, middle(*row)), label)
        });
        let title = (!chart.legend_title.is_empty())
            .then(|| named::name(&chart.legend_title, at(0, EDGE), palette.grey, self.limit));
        let more = self.left_out.map(|(count, row, left)| {
            named::name(&format!("… and {count} more"), at(row, left), palette.grey, self.limit)
        });
        Names::Side { texts: title.into_iter().chain(more).collect(), names: named.collect() }
    }
}
