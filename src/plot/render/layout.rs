//! The layout of a chart: the panel, its axes with their ticks, and the texts around it.
//!
//! Texts are measured first and the panel takes the remaining space, so labels neither overlap
//! nor leave the picture, however long they are.

use super::axis_ticks::{self, AxisTicks};
use super::clean::CleanData;
use super::font;
use super::name_rows::NameRows;
use super::named::{palette_of, Names};
use super::names::{self, NamePlacement};
use super::panels::PanelGrid;
use super::ranges::{self, Ranges};
use super::scene::{Anchor, Label, Rect};
use super::shade::ShadeScale;
use super::sizes::{
    EDGE, LEAST, LEAST_OF_SEVERAL, LEAST_TEXT, NARROW, NARROW_TITLE, NOTE, TEXT, TICK, TICK_GAP, TITLE,
};
use crate::error::{Error, Result};
use crate::plot::charts::chart::{Axis, Chart};

#[derive(Debug)]
pub struct Layout {
    pub width: f64,
    pub height: f64,
    /// At least one.
    pub panels: Vec<PanelLayout>,
    /// The space of all panels.
    pub space: Rect,
    /// Title, subtitle, titles of axes and panels, notes.
    pub texts: Vec<Label>,
    pub names: Names,
    pub shades: Option<ShadeScale>,
}

#[derive(Debug)]
pub struct PanelLayout {
    pub panel: Rect,
    pub x: AxisTicks,
    pub y: AxisTicks,
}

impl PanelLayout {
    /// The position in the picture of a point of the data.
    pub fn spot(&self, x: f64, y: f64) -> (f64, f64) {
        let Rect { left, bottom, .. } = self.panel;
        (left + self.x.range.position(x) * self.panel.width(), bottom - self.y.range.position(y) * self.panel.height())
    }
}

/// # Errors
/// The texts leave no room for the panels.
pub fn lay_out(chart: &Chart, data: &CleanData, width: f64, height: f64) -> Result<Layout> {
    let ranges = ranges::of_panels(chart, data)?;
    let placement = names::choose(chart, data, &ranges[0].x);
    let rows = NameRows::of(chart, data, width).height();
    let mut texts = vec![];
    let mut top = header(chart, width, &mut texts);
    let mut rows_top = top - 6.0;
    if placement == NamePlacement::Top {
        top += rows;
    }
    let below = if placement == NamePlacement::Bottom { rows } else { 0.0 };
    let bottom = footer(chart, data, (width, height), below, &mut texts);
    if placement == NamePlacement::Bottom {
        rows_top = bottom + TICK + TICK_GAP + title_height(&chart.x) + 8.0;
    }
    let shades = ShadeScale::of(chart, data);
    let bar_room = shades.as_ref().map_or(0.0, |shades| shades.room(bottom - top));
    let right = width - EDGE - names::room(chart, placement, width) - bar_room;
    let mut space = Rect { left: EDGE, top, right, bottom };
    let panels = place_panels(chart, data, &ranges, &mut space, (width, height))?;
    titles(chart, &panels, &space, &mut texts);
    let first = &panels[0];
    let beside = Rect { right: space.right + bar_room, ..space };
    let axes = (&first.x.range, &first.y.range);
    let names = names::place(chart, data, placement, &beside, axes, ((width, height), rows_top));
    Ok(Layout { width, height, panels, space, texts, names, shades })
}

/// Places the panels, and makes `space` what they take without the labels of their ticks.
fn place_panels(
    chart: &Chart,
    data: &CleanData,
    ranges: &[Ranges],
    space: &mut Rect,
    (width, height): (f64, f64),
) -> Result<Vec<PanelLayout>> {
    let y_title = if chart.y.title.is_empty() { 0.0 } else { TEXT * 1.5 };
    // The labels depend on the height of a panel, and the columns on the room of the labels.
    let rough = PanelGrid::of(&chart.panels, 0.0, (space.width(), space.height())).rect(0, space).height();
    let y_axis = |ranges: &Ranges, height: f64| axis_ticks::y_axis(&chart.y, ranges.y, height, width);
    let labels = ranges.iter().map(|ranges| y_axis(ranges, rough).room()).fold(0.0, f64::max);
    space.left += y_title + labels + TICK_GAP;
    let grid = PanelGrid::of(&chart.panels, labels, (space.width(), space.height()));
    let x_axis =
        |index: usize, space: &Rect| axis_ticks::x_axis(chart, data, ranges[index].x, &grid.rect(index, space));
    check_room(&grid.rect(0, space), ranges.len(), width, height)?;
    let last_of_row = grid.columns - 1;
    space.right -= overhang(&x_axis(last_of_row, space), &grid.rect(last_of_row, space), width);
    check_room(&grid.rect(0, space), ranges.len(), width, height)?;
    let panel = |index: usize| {
        let rect = grid.rect(index, space);
        let (mut x, mut y) = (x_axis(index, space), y_axis(&ranges[index], rect.height()));
        if grid.columns > 1 {
            x.clear_beyond(rect.width(), grid.column_gap / 2.0 - 3.0);
        }
        if chart.panels.shares_x && !grid.is_lowest(index) {
            x.clear_labels();
        }
        if chart.panels.shares_y && !grid.is_first_column(index) {
            y.clear_labels();
        }
        PanelLayout { panel: rect, x, y }
    };
    Ok((0..ranges.len()).map(panel).collect())
}

/// Adds title and subtitle; returns the top of the panel.
fn header(chart: &Chart, width: f64, texts: &mut Vec<Label>) -> f64 {
    let (palette, mut top) = (palette_of(chart), EDGE - 2.0);
    let title_size = if width < NARROW { NARROW_TITLE } else { TITLE };
    for (text, size, colour, lines) in
        [(&chart.title, title_size, palette.ink, 2), (&chart.subtitle, TEXT, palette.grey, 2)]
    {
        for line in font::wrap(&font::one_line(text), size, width - 2.0 * EDGE, lines) {
            texts.push(Label::new(line, (EDGE, top + size), size, colour, Anchor::Start));
            top += size * 1.35;
        }
    }
    top + 12.0
}

/// Adds the notes; returns the bottom of the panels. `below` is the height of a legend below the axis.
fn footer(chart: &Chart, data: &CleanData, (width, height): (f64, f64), below: f64, texts: &mut Vec<Label>) -> f64 {
    let notes = data.notes.iter().flat_map(|note| font::wrap(&font::one_line(note), NOTE, width - 2.0 * EDGE, 2));
    let notes: Vec<String> = notes.collect();
    let mut bottom = height - EDGE;
    for note in notes.iter().rev() {
        texts.push(Label::new(note, (EDGE, bottom - 2.0), NOTE, palette_of(chart).grey, Anchor::Start));
        bottom -= NOTE * 1.4;
    }
    if !notes.is_empty() {
        bottom -= 4.0;
    }
    bottom - below - title_height(&chart.x) - TICK - TICK_GAP
}

/// The height of the title of a horizontal axis.
fn title_height(axis: &Axis) -> f64 {
    if axis.title.is_empty() {
        0.0
    } else {
        TEXT * 1.6
    }
}

/// Adds the titles of axes and panels.
fn titles(chart: &Chart, panels: &[PanelLayout], space: &Rect, texts: &mut Vec<Label>) {
    let palette = palette_of(chart);
    // A title that is too long is written smaller before it is cut.
    let title = |axis: &Axis, limit: f64| {
        let text = font::one_line(&axis.title);
        let size = (TEXT * limit / font::room(&text, TEXT).max(1.0)).clamp(LEAST_TEXT, TEXT);
        (font::elide_end(&text, size, limit), size)
    };
    if !chart.x.title.is_empty() {
        let at = ((space.left + space.right) / 2.0, space.bottom + TICK_GAP + TICK + TEXT * 1.4);
        let (title, size) = title(&chart.x, space.width());
        texts.push(Label::new(title, at, size, palette.ink, Anchor::Middle));
    }
    if !chart.y.title.is_empty() {
        let at = (EDGE + TEXT * 0.8, (space.top + space.bottom) / 2.0);
        let (title, size) = title(&chart.y, space.height());
        let label = Label::new(title, at, size, palette.ink, Anchor::Middle);
        texts.push(Label { upright: true, ..label });
    }
    for (name, PanelLayout { panel, .. }) in chart.panels.names.iter().zip(panels) {
        let name = font::elide_middle(&font::one_line(name), TEXT, panel.width());
        texts.push(Label::new(name, (panel.left, panel.top - 6.0), TEXT, palette.ink, Anchor::Start));
    }
}

/// How far the rightmost label of the x axis would extend beyond the picture.
fn overhang(x: &AxisTicks, panel: &Rect, width: f64) -> f64 {
    let right_ends = x
        .ticks
        .iter()
        .map(|(at, label)| panel.left + x.range.position(*at) * panel.width() + font::room(label, TICK) / 2.0);
    (right_ends.fold(0.0, f64::max) - (width - 4.0)).max(0.0)
}

fn check_room(panel: &Rect, count: usize, width: f64, height: f64) -> Result<()> {
    let least = if count > 1 { LEAST_OF_SEVERAL } else { LEAST };
    if panel.width() >= least && panel.height() >= least {
        return Ok(());
    }
    let (wide, high) = (panel.width(), panel.height());
    let panels = if count > 1 { format!("each of its {count} panels") } else { "its panel".to_owned() };
    let message = format!("a chart of {width} x {height} pixels leaves {wide:.0} x {high:.0} for {panels}");
    Err(Error::input(format!("{message}, expected at least {least} x {least}"))
        .with_hint("make it larger, or shorten its titles and notes"))
}
