//! One of the kinds of charts, where any of them may stand.

use super::chart::Chart;
use super::heat::Heat;
use super::parallel::Parallel;
use super::rows::RowChart;
use super::style::Style;

/// Drawn and saved by `render/figure.rs`.
#[derive(Debug, Clone)]
pub enum Picture {
    Chart(Box<Chart>),
    Rows(RowChart),
    Heat(Heat),
    Parallel(Parallel),
}

impl Picture {
    pub fn title(&self) -> &str {
        match self {
            Picture::Chart(chart) => &chart.title,
            Picture::Rows(rows) => &rows.title,
            Picture::Heat(heat) => &heat.title,
            Picture::Parallel(parallel) => &parallel.title,
        }
    }

    pub fn title_mut(&mut self) -> &mut String {
        match self {
            Picture::Chart(chart) => &mut chart.title,
            Picture::Rows(rows) => &mut rows.title,
            Picture::Heat(heat) => &mut heat.title,
            Picture::Parallel(parallel) => &mut parallel.title,
        }
    }

    pub fn style_mut(&mut self) -> &mut Style {
        match self {
            Picture::Chart(chart) => &mut chart.style,
            Picture::Rows(rows) => &mut rows.style,
            Picture::Heat(heat) => &mut heat.style,
            Picture::Parallel(parallel) => &mut parallel.style,
        }
    }

    pub fn subtitle_mut(&mut self) -> &mut String {
        match self {
            Picture::Chart(chart) => &mut chart.subtitle,
            Picture::Rows(rows) => &mut rows.subtitle,
            Picture::Heat(heat) => &mut heat.subtitle,
            Picture::Parallel(parallel) => &mut parallel.subtitle,
        }
    }
}

impl From<Chart> for Picture {
    fn from(chart: Chart) -> Self {
        Picture::Chart(Box::new(chart))
    }
}

impl From<RowChart> for Picture {
    fn from(rows: RowChart) -> Self {
        Picture::Rows(rows)
    }
}

impl From<Heat> for Picture {
    fn from(heat: Heat) -> Self {
        Picture::Heat(heat)
    }
}

impl From<Parallel> for Picture {
    fn from(parallel: Parallel) -> Self {
        Picture::Parallel(parallel)
    }
}
