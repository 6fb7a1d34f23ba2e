//! The report of a sweep: one HTML page that contains everything and loads nothing.
//!
//! The template engine escapes every value except the charts, which lorhai draws itself. The layout is in
//! `report.html`, the interaction in `report.js`.

use super::template;
use crate::error::{Error, Result};
use crate::files;
use crate::plot::charts::picture::Picture;
use serde::Serialize;
use std::path::Path;

/// The contents of the page, in its order. Empty parts are left out.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub title: String,
    /// The result in a sentence.
    pub conclusion: String,
    /// What else is to be said of it.
    pub subtitle: String,
    /// The command line of the sweep.
    pub command: String,
    /// When it ended and how long it took: "2026-03-04 17:05 UTC, 2 min 11 s".
    pub when: String,
    /// What numbers mean that could be mistaken for others.
    pub notes: Vec<String>,
    /// Reasons to doubt the numbers.
    pub warnings: Vec<String>,
    #[serde(skip)]
    pub figures: Vec<Figure>,
    /// Means and spreads over seeds.
    pub summary: Table,
    /// Differences between points of the grid, paired by seed.
    pub paired: Table,
    /// One row per trial.
    pub results: Table,
    pub trials: Vec<TrialEntry>,
    pub settings: Vec<(String, String)>,
    /// Versions, device, dtype, threads.
    pub environment: Vec<(String, String)>,
    pub script: Option<Script>,
}

#[derive(Debug, Clone)]
pub struct Figure {
    pub caption: String,
    pub picture: Picture,
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
    /// The numbers of its trials: their curves are highlighted with it.
    pub trials: Vec<usize>,
}

/// A value as text, and the number to sort it by if it is one.
#[derive(Debug, Clone, Serialize)]
pub struct Cell {
    pub text: String,
    pub number: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TrialEntry {
    pub number: usize,
    pub name: String,
    pub outcome: TrialOutcome,
    /// The error of a failed trial, or another remark.
    pub detail: String,
    /// Its folder, relative to the report.
    pub dir: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialOutcome {
    Finished,
    /// Finished by an earlier run, and kept.
    Kept,
    Failed,
    /// Stopped early, because it fell behind the others.
    Pruned,
    Stopped,
}

#[derive(Debug, Clone, Serialize)]
pub struct Script {
    pub path: String,
    pub text: String,
}

/// The values of the template.
#[derive(Serialize)]
struct Page<'a> {
    #[serde(flatten)]
    report: &'a Report,
    figures: Vec<DrawnFigure<'a>>,
    tables: [&'a Table; 3],
    failed: usize,
    lines: Vec<&'a str>,
}

#[derive(Serialize)]
struct DrawnFigure<'a> {
    caption: &'a str,
    svg: String,
    /// The data of the chart's tooltips, as JSON; `None` of a picture without any.
    readings: Option<String>,
}

impl Figure {
    fn draw(&self) -> Result<DrawnFigure<'_>> {
        let figure = format!("figure \"{}\"", self.caption);
        let (svg, readings) = self.picture.for_page().map_err(|error| error.context(figure))?;
        let readings = readings.map(|readings| serde_json::to_string(&readings)).transpose();
        let readings = readings.map_err(|error| Error::bug(format!("cannot write a chart's numbers: {error}")))?;
        Ok(DrawnFigure { caption: &self.caption, svg, readings })
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Cell { text: text.into(), number: None }
    }

    /// `text` is how `number` is shown.
    pub fn number(number: f64, text: impl Into<String>) -> Self {
        // JSON has no NaN, and NaN has no order: such a cell sorts as text.
        Cell { text: text.into(), number: Some(number).filter(|value| value.is_finite()) }
    }
}

impl Report {
    /// The page.
    ///
    /// # Errors
    /// A chart that cannot be drawn, see [`Chart::to_svg`].
    pub fn to_html(&self) -> Result<String> {
        let figures: Result<Vec<DrawnFigure>> = self.figures.iter().map(Figure::draw).collect();
        let page = Page {
            report: self,
            figures: figures?,
            tables: [&self.summary, &self.paired, &self.results],
            failed: self.trials.iter().filter(|trial| trial.outcome == TrialOutcome::Failed).count(),
            lines: self.script.as_ref().map_or(vec![], |script| script.text.lines().collect()),
        };
        template::render(include_str!("report.html"), &page)
    }

    /// Writes the page atomically.
    ///
    /// # Errors
    /// As [`Report::to_html`]; a folder that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, self.to_html()?.as_bytes())
    }
}
