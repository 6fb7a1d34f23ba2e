//! Marks with their columns read: every column has a value for each row.

use super::choices::Orient;
use super::columns::{ensure_equal_lengths, Cell, Column, Rows, Source};
use super::options::{
    BarsOptions, BoxOptions, CommonOptions, FigureOptions, HeatmapOptions, HistogramOptions, IntervalOptions,
    LineOptions, PointsOptions, StripOptions,
};
use crate::bail;
use crate::error::{Kind, Result};
use crate::options::Value;

/// A mark as the caller asks for it.
#[derive(Debug, Clone)]
pub enum MarkOptions {
    Line(LineOptions),
    Points(PointsOptions),
    Bars(BarsOptions),
    Histogram(HistogramOptions),
    Box(BoxOptions),
    Strip(StripOptions),
    Heatmap(HeatmapOptions),
}

impl MarkOptions {
    pub fn name(&self) -> &'static str {
        match self {
            MarkOptions::Line(_) => "line",
            MarkOptions::Points(_) => "points",
            MarkOptions::Bars(_) => "bars",
            MarkOptions::Histogram(_) => "histogram",
            MarkOptions::Box(_) => "box",
            MarkOptions::Strip(_) => "strip",
            MarkOptions::Heatmap(_) => "heatmap",
        }
    }

    pub fn common(&self) -> &CommonOptions {
        match self {
            MarkOptions::Line(LineOptions { common, .. })
            | MarkOptions::Points(PointsOptions { common, .. })
            | MarkOptions::Bars(BarsOptions { common, .. })
            | MarkOptions::Histogram(HistogramOptions { common, .. })
            | MarkOptions::Box(BoxOptions { common, .. })
            | MarkOptions::Strip(StripOptions { common, .. })
            | MarkOptions::Heatmap(HeatmapOptions { common, .. }) => common,
        }
    }

    fn columns(&self) -> (Option<&Column>, Option<&Column>) {
        match self {
            MarkOptions::Line(LineOptions { x, y, .. })
            | MarkOptions::Points(PointsOptions { x, y, .. })
            | MarkOptions::Bars(BarsOptions { x, y, .. })
            | MarkOptions::Box(BoxOptions { x, y, .. })
            | MarkOptions::Strip(StripOptions { x, y, .. })
            | MarkOptions::Heatmap(HeatmapOptions { x, y, .. }) => (x.as_ref(), y.as_ref()),
            MarkOptions::Histogram(HistogramOptions { x, .. }) => (x.as_ref(), None),
        }
    }

    fn interval(&self) -> Option<&IntervalOptions> {
        match self {
            MarkOptions::Line(LineOptions { interval, .. })
            | MarkOptions::Points(PointsOptions { interval, .. })
            | MarkOptions::Bars(BarsOptions { interval, .. }) => Some(interval),
            _ => None,
        }
    }

    /// Do its values lie on the x axis, with names on the y axis?
    pub fn is_horizontal(&self) -> bool {
        let orient = match self {
            MarkOptions::Bars(BarsOptions { orient, .. })
            | MarkOptions::Box(BoxOptions { orient, .. })
            | MarkOptions::Strip(StripOptions { orient, .. }) => *orient,
            _ => Orient::Vertical,
        };
        orient == Orient::Horizontal
    }

    /// Does it have a name for each place along its axis?
    pub fn is_categorical(&self) -> bool {
        matches!(self, MarkOptions::Bars(_) | MarkOptions::Box(_) | MarkOptions::Strip(_) | MarkOptions::Heatmap(_))
    }
}

/// The columns of a mark, all of one length.
#[derive(Debug)]
pub struct Mark {
    pub options: MarkOptions,
    /// As errors name it: "chart: line".
    pub title: String,
    pub len: usize,
    /// Along the axis of names or of x.
    pub along: Vec<Cell>,
    /// The values; empty for a histogram, whose values lie along the axis.
    pub values: Vec<Cell>,
    pub spreads: Option<Vec<(f64, f64)>>,
    /// What colours show.
    pub shades: Option<Vec<f64>>,
    pub texts: Option<Vec<String>>,
    pub by: Option<Vec<Cell>>,
    pub facet: Option<Vec<Cell>>,
    /// Names of the columns.
    pub names: ColumnNames,
}

#[derive(Debug, Default)]
pub struct ColumnNames {
    pub along: Option<String>,
    pub values: Option<String>,
    pub shades: Option<String>,
    pub by: Option<String>,
    pub facet: Option<String>,
}

impl Mark {
    /// # Errors
    /// A column that the rows lack, columns of different lengths, values of another type.
    pub fn read(options: MarkOptions, figure: &FigureOptions) -> Result<Self> {
        let title = format!("chart: {}", options.name());
        let rows: Option<Rows> = options.common().data.clone().or_else(|| figure.data.clone());
        let source = Source { rows: rows.as_ref(), mark: &title };
        if let MarkOptions::Heatmap(heatmap) = &options {
            if heatmap.common.by.is_some() {
                bail!(Kind::Input, "{title}: option `by`: expected none, found one: a heatmap's colours are its values";
                    hint: "facet: \"column\" draws a heatmap for each value")
            }
            if let Some(mark) = matrix(heatmap, &source)? {
                return Ok(mark);
            }
        }
        let (x, y) = options.columns();
        let (along_column, value_column) = if options.is_horizontal() { (y, x) } else { (x, y) };
        let (along_name, value_name) = if options.is_horizontal() { ("y", "x") } else { ("x", "y") };
        let cells = |name: &str, column: Option<&Column>| column.map(|column| source.cells(name, column)).transpose();
        let (along, values) = (cells(along_name, along_column)?, cells(value_name, value_column)?);
        let is_heatmap = matches!(options, MarkOptions::Heatmap(_));
        let needs_values = !matches!(options, MarkOptions::Histogram(_)) && !is_heatmap;
        if needs_values && values.is_none() {
            bail!(Kind::Input, "{title}: option `{value_name}`: expected the values, found nothing";
                hint: "write {value_name}: [1, 2, 3], or {value_name}: \"column\" with data: rows")
        }
        let common = options.common().clone();
        let inherited = |own: Option<Column>, of_chart: &Option<Column>| {
            // A column of the chart's rows means nothing to a mark of arrays.
            own.or_else(|| of_chart.clone().filter(|column| column.name().is_none() || rows.is_some()))
        };
        let by = inherited(common.by, &figure.by).filter(|_| !is_heatmap);
        let facet = inherited(common.facet, &figure.facet);
        let (by_cells, facet_cells) = (cells("by", by.as_ref())?, cells("facet", facet.as_ref())?);
        let shade_column = match &options {
            MarkOptions::Points(points) => points.value.clone(),
            MarkOptions::Heatmap(heatmap) => heatmap.value.clone(),
            _ => None,
        };
        let shades = shade_column.as_ref().map(|column| source.numbers("value", column)).transpose()?;
        let text_column = match &options {
            MarkOptions::Points(points) => points.text.as_ref(),
            _ => None,
        };
        let texts = cells("text", text_column)?.map(|cells| cells.iter().map(label).collect::<Vec<_>>());
        let spreads = match (options.interval(), &values) {
            (Some(interval), Some(values)) => spreads(interval, values, &source)?,
            _ => None,
        };
        let len = |cells: &Option<Vec<Cell>>| cells.as_ref().map(Vec::len);
        let len = ensure_equal_lengths(
            &title,
            &[
                (along_name, len(&along)),
                (value_name, len(&values)),
                ("value", shades.as_ref().map(Vec::len)),
                ("text", texts.as_ref().map(Vec::len)),
                ("by", len(&by_cells)),
                ("facet", len(&facet_cells)),
            ],
        )?;
        let is_single = matches!(options, MarkOptions::Box(_) | MarkOptions::Strip(_));
        let counted = || (0..len).map(|at| if is_single { Cell::Text(String::new()) } else { Cell::Number(at as f64) });
        let named = |column: Option<&Column>| column.and_then(Column::name).map(str::to_owned);
        let names = ColumnNames {
            along: named(along_column),
            values: named(value_column),
            shades: named(shade_column.as_ref()),
            by: named(by.as_ref()),
            facet: named(facet.as_ref()),
        };
        Ok(Mark {
            along: along.unwrap_or_else(|| counted().collect()),
            values: values.unwrap_or_else(|| if is_heatmap { counted().collect() } else { vec![] }),
            options,
            title,
            len,
            spreads,
            shades,
            texts,
            by: by_cells,
            facet: facet_cells,
            names,
        })
    }

    /// The values as numbers.
    ///
    /// # Errors
    /// A value that is a name.
    pub fn numbers(&self) -> Result<Vec<f64>> {
        let is_histogram = matches!(self.options, MarkOptions::Histogram(_));
        let cells = if is_histogram { &self.along } else { &self.values };
        let option = if is_histogram || self.options.is_horizontal() { "x" } else { "y" };
        let number = |(at, cell): (usize, &Cell)| match cell {
            Cell::Number(number) => Ok(*number),
            Cell::Missing => Ok(f64::NAN),
            Cell::Text(text) => {
                let title = &self.title;
                bail!(Kind::Input, "{title}: `{option}`: expected numbers, found string \"{text}\" at index {at}";
                    hint: "names lie along the other axis: `orient` says which")
            }
        };
        cells.iter().enumerate().map(number).collect()
    }
}

/// The text beside a point.
fn label(cell: &Cell) -> String {
    if *cell == Cell::Missing {
        String::new()
    } else {
        cell.name()
    }
}

/// Ends of intervals; an interval with a missing end is NaN.
fn spreads(interval: &IntervalOptions, values: &[Cell], source: &Source) -> Result<Option<Vec<(f64, f64)>>> {
    let numbers = |name: &str, column: &Option<Column>| -> Result<Option<Vec<f64>>> {
        let numbers = column.as_ref().map(|column| source.numbers(name, column)).transpose()?;
        ensure_equal_lengths(source.mark, &[("y", Some(values.len())), (name, numbers.as_ref().map(Vec::len))])?;
        Ok(numbers)
    };
    let (lower, upper) = (numbers("lower", &interval.lower)?, numbers("upper", &interval.upper)?);
    let error = numbers("error", &interval.error)?;
    match (lower, upper, error) {
        (None, None, None) => Ok(None),
        (Some(lower), Some(upper), None) => Ok(Some(lower.into_iter().zip(upper).collect())),
        (None, None, Some(error)) => {
            if let Some(negative) = error.iter().find(|error| **error < 0.0) {
                bail!(Kind::Input, "{}: `error`: expected numbers of at least 0, found {negative}", source.mark;
                    hint: "`error` is half the length of the interval; write `lower` and `upper` for its ends")
            }
            let around = |(cell, error): (&Cell, f64)| {
                let value = cell.number().unwrap_or(f64::NAN);
                (value - error, value + error)
            };
            Ok(Some(values.iter().zip(error).map(around).collect()))
        }
        (_, _, Some(_)) => {
            bail!(Kind::Input, "{}: expected `error`, or `lower` and `upper`, found both", source.mark; hint: "leave one of them out")
        }
        _ => {
            bail!(Kind::Input, "{}: expected `lower` and `upper`, found one of them", source.mark; hint: "write both, or `error`")
        }
    }
}

/// A heatmap whose value is an array of rows.
fn matrix(options: &HeatmapOptions, source: &Source) -> Result<Option<Mark>> {
    let Some(Column::Values(rows)) = &options.value else { return Ok(None) };
    if rows.is_empty() || !rows.iter().all(|row| row.as_array().is_some()) {
        return Ok(None);
    }
    let title = source.mark;
    if options.common.facet.is_some() {
        bail!(Kind::Input, "{title}: option `facet`: expected none beside an array of rows, found one";
            hint: "write x, y and value as columns of one length")
    }
    let rows: Vec<&[Value]> = rows.iter().filter_map(Value::as_array).collect();
    let width = rows[0].len();
    for (at, row) in rows.iter().enumerate() {
        if row.len() != width {
            bail!(
                Kind::Input,
                "{title}: `value`: expected rows of one length, found {width} values in row 0 and {} in row {at}",
                row.len()
            )
        }
    }
    let names = |option: &str, column: &Option<Column>, count: usize| -> Result<Vec<Cell>> {
        let Some(column) = column else { return Ok((0..count).map(|at| Cell::Number(at as f64)).collect()) };
        let cells = source.cells(option, column)?;
        if cells.len() != count {
            bail!(Kind::Input, "{title}: `{option}`: expected {count} names, as `value` has, found {}", cells.len())
        }
        Ok(cells)
    };
    let (columns, lines) = (names("x", &options.x, width)?, names("y", &options.y, rows.len())?);
    let flat = Column::Values(rows.iter().flat_map(|row| row.iter().cloned()).collect());
    let len = ensure_equal_lengths(title, &[("value", Some(rows.len() * width))])?;
    Ok(Some(Mark {
        options: MarkOptions::Heatmap(options.clone()),
        title: title.to_owned(),
        len,
        along: lines.iter().flat_map(|_| columns.clone()).collect(),
        values: lines.iter().flat_map(|line| vec![line.clone(); width]).collect(),
        spreads: None,
        shades: Some(source.numbers("value", &flat)?),
        texts: None,
        by: None,
        facet: None,
        names: ColumnNames::default(),
    }))
}
