//! A chart as text for a terminal: braille dots on a grid of characters, two by four to each.
//!
//! Axes, ticks and numbers are chosen as for the other formats. Error bars, bands, reference lines and
//! annotations are left out, bars and boxes are dots at their values, and panels lie over each other.

use super::clean::{self, CleanData};
use super::range::AxisRange;
use super::{number, palette, ticks};
use crate::error::{Error, Result};
use crate::foreign;
use crate::plot::charts::chart::{Axis, Chart, Mark, Point, Series, Ticks};
use crate::table::{pad, truncate, width, Align};
use anstyle::{AnsiColor, RgbColor};

/// Letters that the panel takes at least.
const SMALLEST: (usize, usize) = (16, 4);

impl Chart {
    /// The chart in lines of at most `columns` characters, its panel `rows` lines high.
    ///
    /// # Errors
    /// No point can be drawn.
    pub fn to_text(&self, columns: usize, rows: usize, colours: bool) -> Result<String> {
        let data = clean::clean(self)?;
        let points = || self.series.iter().zip(&data.series).flat_map(|(series, clean)| spots(series, &clean.points));
        let x = range(&self.x, points().map(|(x, _)| x))?;
        let y = range(&self.y, points().map(|(_, y)| y))?;
        let rows = rows.max(SMALLEST.1);
        let y_ticks = marked(&self.y, &y, rows / 3);
        let margin = y_ticks.iter().map(|(_, label)| width(label)).max().unwrap_or(0);
        let across = columns.saturating_sub(margin + 2).max(SMALLEST.0);
        let mut panel = Panel::new(across, rows);
        self.fill(&mut panel, &data, (&x, &y));
        let mut lines = vec![shown(&self.title), shown(&self.y.title)];
        lines.extend(panel.lines(margin, &tick_rows(&y_ticks, &y, rows), colours));
        lines.extend(x_axis_lines(&marked(&self.x, &x, across / 12), &x, across, margin));
        lines.push(format!("{:margin$}  {:^across$}", "", shown(&self.x.title)).trim_end().to_string());
        lines.retain(|line| !line.trim().is_empty());
        lines.extend(self.legend_lines(colours));
        lines.extend(data.notes.iter().map(|note| truncate(&shown(note), columns)));
        Ok(lines.join("\n") + "\n")
    }

    fn fill(&self, panel: &mut Panel, data: &CleanData, (x, y): (&AxisRange, &AxisRange)) {
        for (index, (clean, series)) in data.series.iter().zip(&self.series).enumerate() {
            let drawn = spots(series, &clean.points).filter(|(at_x, at_y)| x.holds(*at_x) && y.holds(*at_y));
            let dots: Vec<(i64, i64)> =
                drawn.map(|(at_x, at_y)| panel.dot(x.position(at_x), y.position(at_y))).collect();
            let slot = series.slot.unwrap_or(index);
            let raw = clean.raw.iter().filter(|(at_x, at_y)| x.holds(*at_x) && y.holds(*at_y));
            raw.for_each(|(at_x, at_y)| panel.set(panel.dot(x.position(*at_x), y.position(*at_y)), FAINT));
            if series.mark.has_line() {
                dots.windows(2).for_each(|pair| panel.line(pair[0], pair[1], slot));
            }
            if series.mark != Mark::Line {
                dots.iter().for_each(|dot| panel.cross(*dot, slot));
            }
        }
    }

    fn legend_lines(&self, colours: bool) -> Vec<String> {
        let named = self.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty());
        let line = |(at, series): (usize, &Series)| {
            format!("  {} {}", painted("■", series.slot.unwrap_or(at), colours), shown(&series.name))
        };
        named.map(line).collect()
    }
}

/// Names of files and settings may be in it.
fn shown(text: &str) -> String {
    foreign::line(text).into_owned()
}

/// The points of a series as they lie on the axes: of bars their ends, of boxes their medians.
fn spots<'a>(series: &'a Series, points: &'a [Point]) -> impl Iterator<Item = (f64, f64)> + 'a {
    points.iter().map(|point| if series.is_horizontal { (point.y, point.x) } else { (point.x, point.y) })
}

fn range(axis: &Axis, values: impl Iterator<Item = f64>) -> Result<AxisRange> {
    let range = AxisRange::around(axis.scale, values, 0.03).map(|range| range.fixed(axis.low, axis.high));
    range.ok_or_else(|| Error::bug("a chart with points has no range"))
}

/// The ticks of an axis on its range, with their labels.
fn marked(axis: &Axis, range: &AxisRange, wanted: usize) -> Vec<(f64, String)> {
    let wanted = wanted.max(2);
    let values = match &axis.ticks {
        Ticks::Named(named) => {
            let within = named.iter().filter(|(at, _)| range.holds(*at));
            return within.map(|(at, name)| (*at, shown(name))).collect();
        }
        Ticks::At(values) => values.iter().copied().filter(|value| range.holds(*value)).collect(),
        Ticks::Round if axis.scale.is_log() => ticks::logarithmic(range, wanted),
        Ticks::Round => ticks::linear(range, wanted, false),
    };
    let labels = number::labels(&values, axis.numbers, axis.scale.is_log());
    values.into_iter().zip(labels).collect()
}

/// The row, from the top, of each tick of the y axis.
fn tick_rows(ticks: &[(f64, String)], range: &AxisRange, rows: usize) -> Vec<(usize, String)> {
    let line = |value: f64| ((1.0 - range.position(value)) * (rows - 1) as f64).round().max(0.0) as usize;
    ticks.iter().map(|(value, label)| (line(*value).min(rows - 1), label.clone())).collect()
}

/// The x axis and its labels; a label that would touch the one before it is left out.
fn x_axis_lines(ticks: &[(f64, String)], range: &AxisRange, across: usize, margin: usize) -> [String; 2] {
    let mut axis = vec!['─'; across];
    let mut labels = String::new();
    for (value, label) in ticks {
        let at = ((range.position(*value) * (across - 1) as f64).round().max(0.0) as usize).min(across - 1);
        let start = at.saturating_sub(width(label) / 2);
        if start > width(&labels) || labels.is_empty() {
            axis[at] = '┴';
            labels.push_str(&" ".repeat(start.saturating_sub(width(&labels))));
            labels.push_str(label);
        }
    }
    [format!("{:margin$} └{}", "", String::from_iter(axis)), format!("{:margin$}  {labels}", "")]
}

/// Stands for a slot: the curve before smoothing, of any series.
const FAINT: usize = usize::MAX;

fn painted(text: &str, slot: usize, colours: bool) -> String {
    if !colours {
        return text.to_string();
    }
    let style = match slot {
        FAINT => AnsiColor::BrightBlack.on_default(),
        _ => RgbColor::from(palette::look(slot).colour.rgb).on_default(),
    };
    format!("{style}{text}{style:#}")
}

/// A grid of characters; each holds eight dots and the series that set the last of them.
struct Panel {
    across: usize,
    rows: usize,
    cells: Vec<(u8, usize)>,
}

/// The bit of each dot in a braille character, by line and column (Unicode block U+2800).
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

impl Panel {
    fn new(across: usize, rows: usize) -> Panel {
        Panel { across, rows, cells: vec![(0, 0); across * rows] }
    }

    /// The dot at a position from 0 to 1 on both axes.
    fn dot(&self, x: f64, y: f64) -> (i64, i64) {
        let on = |position: f64, dots: usize| (position.clamp(0.0, 1.0) * (dots - 1) as f64).round() as i64;
        (on(x, 2 * self.across), on(1.0 - y, 4 * self.rows))
    }

    fn set(&mut self, (x, y): (i64, i64), slot: usize) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x < 2 * self.across && y < 4 * self.rows {
            let cell = &mut self.cells[y / 4 * self.across + x / 2];
            *cell = (cell.0 | DOTS[y % 4][x % 2], slot);
        }
    }

    fn line(&mut self, from: (i64, i64), to: (i64, i64), slot: usize) {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        for step in 0..=steps {
            let between = |a: i64, b: i64| a + ((b - a) as f64 * step as f64 / steps as f64).round() as i64;
            self.set((between(from.0, to.0), between(from.1, to.1)), slot);
        }
    }

    fn cross(&mut self, (x, y): (i64, i64), slot: usize) {
        for (right, down) in [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)] {
            self.set((x + right, y + down), slot);
        }
    }

    fn lines(&self, margin: usize, labels: &[(usize, String)], colours: bool) -> Vec<String> {
        let line = |(row, cells): (usize, &[(u8, usize)])| {
            let label = labels.iter().find(|(at, _)| *at == row).map_or("", |(_, label)| label.as_str());
            let edge = if label.is_empty() { '│' } else { '┤' };
            let dots: String = cells.iter().map(|cell| braille(*cell, colours)).collect();
            format!("{} {edge}{}", pad(label, margin, Align::Right), dots.trim_end())
        };
        self.cells.chunks(self.across).enumerate().map(line).collect()
    }
}

fn braille((dots, slot): (u8, usize), colours: bool) -> String {
    match char::from_u32(0x2800 + u32::from(dots)) {
        Some(character) if dots > 0 => painted(&character.to_string(), slot, colours),
        _ => " ".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::Scale;

    fn rising() -> Chart {
        let points = (0..=10).map(|x| Point::new(f64::from(x), f64::from(x))).collect();
        let series = Series { name: "rising".into(), points, mark: Mark::Line, ..Series::default() };
        let x = Axis::new("step", Scale::Linear);
        Chart { title: "A line".into(), x, series: vec![series], ..Chart::default() }
    }

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let text = rising().to_text(40, 8, false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "A line");
        let panel = &lines[1..9];
        let first_dot = |line: &str| line.chars().position(|character| ('\u{2801}'..='\u{28ff}').contains(&character));
        let starts: Vec<usize> = panel.iter().map(|line| first_dot(line).unwrap()).collect();
        assert!(starts.windows(2).all(|pair| pair[0] > pair[1]), "{text}");
        assert!(lines.iter().all(|line| width(line) <= 40), "{text}");
        assert!(lines[9].contains('└') && lines[11].trim() == "step" && lines[12] == "  ■ rising", "{text}");
        assert!(panel[0].trim_start().starts_with("10 ┤") || panel[1].trim_start().starts_with("10 ┤"), "{text}");
    }

    #[test]
    fn a_chart_without_points_is_refused_and_a_narrow_terminal_is_not() {
        assert!(Chart::default().to_text(80, 12, false).is_err());
        assert!(rising().to_text(1, 1, true).unwrap().contains("\x1b[38;2;"));
    }
}
