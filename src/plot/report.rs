//! The report of a sweep: one HTML page that holds everything and loads nothing.
//!
//! Every value is text and is escaped by the template engine; only the charts, which we
//! draw ourselves, go in as they are. The look is in `report.html`, what the page answers to
//! in `report.js`.

use super::chart::Chart;
use super::page;
use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use std::path::Path;

/// What the page tells, in the order in which it stands there. Empty parts are left out.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub title: String,
    /// One sentence with the outcome.
    pub subtitle: String,
    /// The command line that made it.
    pub command: String,
    /// When and how long, e.g. "2026-03-04 17:05 UTC, 2 min 11 s".
    pub when: String,
    /// What a number means that has another meaning elsewhere.
    pub note: String,
    /// What the reader must know before believing the numbers.
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub figures: Vec<Figure>,
    /// Means and spreads over seeds.
    pub summary: Table,
    /// Differences between points of the grid, paired by seed.
    pub paired: Table,
    /// One row per trial.
    pub results: Table,
    pub trials: Vec<Trial>,
    pub settings: Vec<(String, String)>,
    /// Versions, device, dtype, threads.
    pub environment: Vec<(String, String)>,
    pub script: Option<Script>,
}

#[derive(Debug, Clone)]
pub struct Figure {
    pub caption: String,
    pub chart: Chart,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    pub caption: String,
    pub columns: Vec<String>,
    pub rows: Vec<TableRow>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct TableRow {
    pub cells: Vec<Cell>,
    /// The trials that it is of, by number: their curves light up along with it.
    pub trials: Vec<usize>,
}

/// A value as it is shown, and the number to sort it by if it is one.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    pub text: String,
    pub number: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    pub number: usize,
    pub name: String,
    pub outcome: Outcome,
    /// The error of a failed trial, or whatever else is worth a line.
    pub detail: String,
    /// Its folder, relative to the report.
    pub dir: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Finished,
    /// Finished by an earlier run and taken over.
    Kept,
    Failed,
    Stopped,
}

#[derive(Debug, Clone, Serialize)]
pub struct Script {
    pub path: String,
    pub text: String,
}

/// What the template sees.
#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    report: &'a Report,
    figures: Vec<Drawn<'a>>,
    tables: [&'a Table; 3],
    failed: usize,
    lines: Vec<&'a str>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    caption: &'a str,
    svg: String,
    /// What the pointer reads off the chart, as JSON.
    readings: String,
}

impl Figure {
    fn drawn(&self) -> Result<Drawn<'_>> {
        let place = format!("figure \"{}\"", self.caption);
        let (svg, readings) = self.chart.for_page().map_err(|error| error.context(place))?;
        let readings = serde_json::to_string(&readings);
        let readings = readings.map_err(|error| Error::bug(format!("cannot write a chart's numbers: {error}")))?;
        Ok(Drawn { caption: &self.caption, svg, readings })
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Cell { text: text.into(), number: None }
    }

    /// `text` is how `number` is shown.
    pub fn number(number: f64, text: impl Into<String>) -> Self {
        // NaN has no JSON and no order: such a cell sorts as text.
        Cell { text: text.into(), number: Some(number).filter(|value| value.is_finite()) }
    }
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// A chart that cannot be drawn, see [`Chart::to_svg`].
    pub fn to_html(&self) -> Result<String> {
        let figures: Result<Vec<Drawn>> = self.figures.iter().map(Figure::drawn).collect();
        let page = Page {
            report: self,
            figures: figures?,
            tables: [&self.summary, &self.paired, &self.results],
            failed: self.trials.iter().filter(|trial| trial.outcome == Outcome::Failed).count(),
            lines: self.script.as_ref().map_or(vec![], |script| script.text.lines().collect()),
        };
        page::render(include_str!("report.html"), &page)
    }

    /// Writes the page, whole or not at all.
    ///
    /// # Errors
    /// As [`Report::to_html`]; a folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_whole(path, self.to_html()?.as_bytes())
    }
}
