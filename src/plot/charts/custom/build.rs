//! A chart from its options: columns, then axes, then series, then what stands beside the data.

use super::super::chart::{Chart, Panels, Series, Shades, Ticks};
use super::super::style::{FontFile, Style};
use super::axes::{Positions, Side};
use super::choices::{Limits, Stat};
use super::columns::Cell;
use super::estimate;
use super::groups::{groups, with_missing, Slots};
use super::marks::{ColumnNames, Mark, MarkOptions};
use super::options::{
    AnnotationOptions, BandOptions, FigureOptions, HeatmapOptions, HistogramOptions, ReferenceOptions,
};
use super::references;
use super::series::{series, Context};
use crate::bail;
use crate::error::{Kind, Result};

/// CSS pixels to an inch.
const PIXELS_PER_INCH: f64 = 96.0;
/// More panels are too small to read.
const MOST_PANELS: usize = 64;

/// What is drawn beside the data.
#[derive(Debug, Default)]
pub struct References {
    pub lines: Vec<ReferenceOptions>,
    pub bands: Vec<BandOptions>,
    pub annotations: Vec<AnnotationOptions>,
}

/// A chart of these marks; `font` is the file that the options name.
///
/// # Errors
/// Data that does not fit together, each with what to do about it.
pub fn build(
    figure: &FigureOptions,
    marks: Vec<MarkOptions>,
    references: &References,
    font: Option<FontFile>,
) -> Result<Chart> {
    if marks.is_empty() {
        bail!(Kind::Input, "chart: expected at least one mark, found none";
            hint: "as in chart(#{{ line: #{{ x: [1, 2, 4], y: [2.5, 2.1, 1.9] }} }}); marks: line, points, bars, histogram, box, strip, heatmap")
    }
    let marks: Vec<Mark> = marks.into_iter().map(|mark| Mark::read(mark, figure)).collect::<Result<_>>()?;
    let (x, y) = (Positions::of(&marks, Side::X), Positions::of(&marks, Side::Y));
    ensure_values_on_numbers(&marks, (&x, &y))?;
    let panels = panel_names(&marks)?;
    let context = Context { x: &x, y: &y, x_scale: figure.x_scale, y_scale: figure.y_scale };
    let (mut slots, mut all) = (Slots::default(), vec![]);
    for mark in &marks {
        all.extend(series(mark, &groups(mark, &panels, &mut slots)?, &context)?);
    }
    let both = (&x, &y);
    let (width, height) = size(figure)?;
    let mut chart = Chart {
        title: figure.title.clone(),
        subtitle: figure.subtitle.clone(),
        x: x.axis(figure, figure.x_label.clone().unwrap_or_else(|| default_label(&marks, Side::X)))?,
        y: y.axis(figure, figure.y_label.clone().unwrap_or_else(|| default_label(&marks, Side::Y)))?,
        lines: references.lines.iter().map(|line| references::line(line, both)).collect::<Result<_>>()?,
        bands: references.bands.iter().map(|band| references::band(band, both)).collect::<Result<_>>()?,
        annotations: references
            .annotations
            .iter()
            .map(|note| references::annotation(note, both, &panels))
            .collect::<Result<_>>()?,
        panels: Panels {
            names: titles(&panels, &marks),
            columns: figure.columns,
            shares_x: figure.share_x,
            shares_y: figure.share_y,
        },
        shades: shades(figure, &marks),
        style: Style { theme: figure.theme, dpi: Some(figure.dpi), text: figure.text, font, requires_glyphs: true },
        legend: figure.legend,
        legend_title: figure.legend_title.clone().unwrap_or_else(|| common(&marks, |names| &names.by)),
        notes: notes(figure, &marks, &all)?,
        series: all,
        width,
        height,
    };
    counts_have_integers(&mut chart, &marks);
    Ok(chart)
}

/// # Errors
/// Values on an axis that another mark gives names, where they would have no place.
fn ensure_values_on_numbers(marks: &[Mark], (x, y): (&Positions, &Positions)) -> Result<()> {
    for mark in marks {
        let on_x = mark.options.is_horizontal() || matches!(mark.options, MarkOptions::Histogram(_));
        let has_numbers = on_x || (mark.options.is_categorical() && !matches!(mark.options, MarkOptions::Heatmap(_)));
        let (axis, side) = if on_x { (x, "x") } else { (y, "y") };
        if has_numbers && axis.has_names() {
            bail!(Kind::Input, "{}: expected numbers on the {side} axis, found the names of another mark", mark.title;
                hint: "draw them in two charts, or give both marks the same `orient`")
        }
    }
    Ok(())
}

/// The names of the panels; none without facets.
fn panel_names(marks: &[Mark]) -> Result<Vec<String>> {
    let cells: Vec<Cell> = marks.iter().filter_map(|mark| mark.facet.as_ref()).flatten().cloned().collect();
    let names = with_missing(&cells);
    if names.len() > MOST_PANELS {
        bail!(Kind::Input, "chart: option `facet`: expected at most {MOST_PANELS} different values, found {}", names.len();
            hint: "facet by a key with few values, or keep fewer rows")
    }
    Ok(names)
}

/// Numbers say of what they are: "rank = 8".
fn titles(panels: &[String], marks: &[Mark]) -> Vec<String> {
    let key = common(marks, |names| &names.facet);
    let has_numbers = marks.iter().filter_map(|mark| mark.facet.as_ref()).flatten().any(|cell| cell.number().is_some());
    if key.is_empty() || !has_numbers {
        return panels.to_vec();
    }
    panels.iter().map(|panel| format!("{key} = {panel}")).collect()
}

/// The name of a column that all marks with one have in common.
fn common(marks: &[Mark], name: impl Fn(&ColumnNames) -> &Option<String>) -> String {
    let mut names = marks.iter().filter_map(|mark| name(&mark.names).as_ref());
    let Some(first) = names.next() else { return String::new() };
    if names.all(|name| name == first) {
        first.clone()
    } else {
        String::new()
    }
}

fn default_label(marks: &[Mark], side: Side) -> String {
    let is_along = |mark: &Mark| (side == Side::X) != mark.options.is_horizontal();
    let names: Vec<String> = marks
        .iter()
        .filter_map(|mark| if is_along(mark) { mark.names.along.clone() } else { values_label(mark) })
        .collect();
    match names.split_first() {
        Some((first, rest)) if rest.iter().all(|name| name == first) => first.clone(),
        _ => String::new(),
    }
}

fn values_label(mark: &Mark) -> Option<String> {
    match &mark.options {
        MarkOptions::Histogram(HistogramOptions { stat, .. }) => Some(
            match stat {
                Stat::Count => "count",
                Stat::Probability => "probability",
                Stat::Density => "density",
            }
            .to_owned(),
        ),
        _ => mark.names.values.clone(),
    }
}

fn size(figure: &FigureOptions) -> Result<(u32, u32)> {
    let (least, most) = (Chart::SIZES.start(), Chart::SIZES.end());
    let (least, most) = (f64::from(*least) / PIXELS_PER_INCH, f64::from(*most) / PIXELS_PER_INCH);
    match figure.size[..] {
        [width, height] if [width, height].iter().all(|side| (least..=most).contains(side)) => {
            Ok(((width * PIXELS_PER_INCH).round() as u32, (height * PIXELS_PER_INCH).round() as u32))
        }
        _ => {
            let found: Vec<String> = figure.size.iter().map(|side| Cell::Number(*side).name()).collect();
            bail!(Kind::Input, "chart: option `size`: expected [width, height] in inches, each from {least:.1} to {most:.0}, found [{}]", found.join(", ");
                hint: "96 pixels of a screen are an inch: 800 by 600 pixels are size: [8.3, 6.25]")
        }
    }
}

fn shades(figure: &FigureOptions, marks: &[Mark]) -> Shades {
    let Limits { low, high } = figure.color_limits;
    let annotates = |mark: &Mark| matches!(mark.options, MarkOptions::Heatmap(HeatmapOptions { annotate: true, .. }));
    Shades {
        title: figure.color_label.clone().unwrap_or_else(|| common(marks, |names| &names.shades)),
        low,
        high,
        center: figure.color_center,
        shows_numbers: marks.iter().any(annotates),
    }
}

/// The caller's notes, what intervals are, and what histograms and boxes leave out.
fn notes(figure: &FigureOptions, marks: &[Mark], series: &[Series]) -> Result<Vec<String>> {
    let mut notes = figure.notes.0.clone();
    for mark in marks {
        let note = match &mark.options {
            MarkOptions::Line(line) => estimate::note(line.estimator, line.errorbar),
            MarkOptions::Bars(bars) => estimate::note(bars.estimator, bars.errorbar),
            _ => None,
        };
        notes.extend(note.filter(|note| !notes.contains(note)));
        notes.extend(left_out(mark, figure, series)?);
    }
    Ok(notes)
}

/// Points that cannot be drawn are counted when the chart is drawn; these are never points.
fn left_out(mark: &Mark, figure: &FigureOptions, series: &[Series]) -> Result<Option<String>> {
    let is_histogram = matches!(mark.options, MarkOptions::Histogram(_));
    if !is_histogram && !matches!(mark.options, MarkOptions::Box(_)) {
        return Ok(None);
    }
    let on_x = is_histogram || mark.options.is_horizontal();
    let scale = if on_x { figure.x_scale } else { figure.y_scale };
    let values = mark.numbers()?;
    let lost = values.iter().filter(|value| !scale.shows(**value)).count();
    if lost == values.len() {
        let title = &mark.title;
        bail!(Kind::Data, "{title}: expected at least one value that can be drawn, found {lost} that cannot";
            hint: "NaN and infinite values are left out, and values of at most 0 on a logarithmic axis")
    }
    let own = |series: &&Series| series.is_horizontal == mark.options.is_horizontal();
    if series.iter().filter(own).all(|series| series.points.is_empty()) {
        bail!(Kind::Data, "{}: no value lies in the bins", mark.title; hint: "choose edges around the values")
    }
    let one = if lost == 1 { "1 value" } else { &format!("{lost} values") };
    Ok((lost > 0).then(|| format!("Not drawn: {one} (NaN or infinite, or not above 0 on a log axis).")))
}

/// Counts are whole, and so are the ticks of an axis that shows nothing else.
fn counts_have_integers(chart: &mut Chart, marks: &[Mark]) {
    let counts =
        |mark: &Mark| matches!(mark.options, MarkOptions::Histogram(HistogramOptions { stat: Stat::Count, .. }));
    let highest = chart.series.iter().flat_map(|series| &series.points).map(|point| point.y).fold(0.0, f64::max);
    if marks.iter().all(counts) && highest < 8.0 && matches!(chart.y.ticks, Ticks::Round) {
        chart.y.ticks = Ticks::At((0..=highest as u32 + 1).map(f64::from).collect());
    }
}
