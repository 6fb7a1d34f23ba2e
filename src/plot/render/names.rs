//! The names of the series: at the ends of their lines, or in a legend beside the panels, above or below them.
//! They never cover data.

use super::clean::CleanData;
use super::font;
use super::name_rows::NameRows;
use super::named::{name, named, palette_of, slot_look, Names, ROW, SAMPLE, SAMPLE_GAP, SIZE};
use super::range::AxisRange;
use super::scene::{Rect, Spot};
use super::sizes::NARROW;
use crate::plot::charts::chart::{Chart, Legend};

/// From the panel to a name at the end of a line.
const END_GAP: f64 = 14.0;
/// From the panel to the legend.
const SIDE_GAP: f64 = 18.0;
/// The most lines that are named at their ends; the ends of more would be too close.
const MOST_ENDS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePlacement {
    None,
    Ends,
    Side,
    Top,
    Bottom,
}

pub fn choose(chart: &Chart, data: &CleanData, x: &AxisRange) -> NamePlacement {
    let named = named(chart, data);
    let is_one = chart.series.len() < 2 || (named.len() < 2 && !chart.panels.names.is_empty());
    let is_single = chart.legend == Legend::Auto && is_one;
    if named.is_empty() || chart.legend == Legend::Hidden || is_single {
        return NamePlacement::None;
    }
    let last = named.iter().filter_map(|index| data.series[*index].points.last());
    let ends: Vec<f64> = last.map(|end| x.position(end.x)).collect();
    let latest = ends.iter().copied().fold(0.0, f64::max);
    let end_together = ends.iter().all(|end| *end > latest - 0.1 && *end <= 1.0);
    let lines = named.iter().all(|index| chart.series[*index].mark.has_line());
    let has_ends = end_together && lines && chart.panels.names.is_empty();
    match chart.legend {
        Legend::Side => NamePlacement::Side,
        Legend::Top => NamePlacement::Top,
        Legend::Bottom => NamePlacement::Bottom,
        _ if has_ends && named.len() <= MOST_ENDS => NamePlacement::Ends,
        Legend::Auto if f64::from(chart.width) < NARROW => NamePlacement::Top,
        _ => NamePlacement::Side,
    }
}

/// The width to reserve at the right of the panel.
pub fn room(chart: &Chart, style: NamePlacement, width: f64) -> f64 {
    let limit = text_limit(width);
    let texts = chart.series.iter().map(|series| &series.name).chain([&chart.legend_title]);
    let widest = texts.map(|text| font::room(&font::one_line(text), SIZE).min(limit)).fold(0.0, f64::max);
    match style {
        NamePlacement::None | NamePlacement::Top | NamePlacement::Bottom => 0.0,
        NamePlacement::Ends => END_GAP + widest,
        NamePlacement::Side => SIDE_GAP + SAMPLE + SAMPLE_GAP + widest,
    }
}

/// Names take at most this much of the picture's width.
fn text_limit(width: f64) -> f64 {
    width * 0.26
}

/// `panel` is the space of all panels, `axes` the ranges of x and y, `size` the picture's width and height, `rows_top`
/// the top of a legend above or below the panels.
pub fn place(
    chart: &Chart,
    data: &CleanData,
    style: NamePlacement,
    panel: &Rect,
    axes: (&AxisRange, &AxisRange),
    (size, rows_top): ((f64, f64), f64),
) -> Names {
    let limit = text_limit(size.0);
    match style {
        NamePlacement::None => Names::None,
        NamePlacement::Top | NamePlacement::Bottom => NameRows::of(chart, data, size.0).place(chart, rows_top),
        NamePlacement::Ends => at_ends(chart, data, panel, axes, limit),
        NamePlacement::Side => beside(chart, data, panel, limit, size.1),
    }
}

fn at_ends(chart: &Chart, data: &CleanData, panel: &Rect, (x, y): (&AxisRange, &AxisRange), limit: f64) -> Names {
    let palette = palette_of(chart);
    let mut ends: Vec<(usize, Spot)> = vec![];
    for index in named(chart, data) {
        if let Some(end) = data.series[index].points.last() {
            let height = y.position(end.y).clamp(0.0, 1.0);
            let spot = (panel.left + x.position(end.x) * panel.width(), panel.bottom - height * panel.height());
            ends.push((index, spot));
        }
    }
    ends.sort_by(|(_, one), (_, two)| one.1.total_cmp(&two.1));
    let has_title = !chart.legend_title.is_empty();
    let top = panel.top + if has_title { ROW } else { 0.0 };
    let wanted: Vec<f64> = ends.iter().map(|(_, spot)| spot.1).collect();
    let heights = spread(&wanted, ROW - 2.0, top, panel.bottom);
    let left = panel.right + END_GAP;
    let names = ends.iter().zip(&heights).map(|((index, from), height)| {
        let colour = palette.for_text(slot_look(chart, *index).colour);
        (*index, *from, name(&chart.series[*index].name, (left, height + SIZE * 0.35), colour, limit))
    });
    let above = heights.first().filter(|_| has_title);
    let title = above.map(|height| name(&chart.legend_title, (left, height - ROW + SIZE * 0.35), palette.grey, limit));
    Names::Ends { title, names: names.collect() }
}

fn beside(chart: &Chart, data: &CleanData, panel: &Rect, limit: f64, height: f64) -> Names {
    let palette = palette_of(chart);
    let left = panel.right + SIDE_GAP;
    let (mut texts, mut top) = (vec![], panel.top);
    if !chart.legend_title.is_empty() {
        texts.push(name(&chart.legend_title, (left, top + SIZE * 0.75), palette.grey, limit + SAMPLE));
        top += ROW + 1.0;
    }
    let all = named(chart, data);
    let (bottom, least) = (height - 14.0, SIZE * 1.1);
    let row = ((bottom - top) / all.len().max(1) as f64).clamp(least, ROW);
    let rows = ((bottom - top) / row + 1e-6) as usize;
    let shown = if all.len() > rows { rows.saturating_sub(1) } else { all.len() };
    let mut names = vec![];
    for (row_index, index) in all.iter().take(shown).enumerate() {
        let middle = top + (row_index as f64 + 0.5) * row;
        let at = (left + SAMPLE + SAMPLE_GAP, middle + SIZE * 0.35);
        names.push((*index, (left, middle), name(&chart.series[*index].name, at, palette.ink, limit)));
    }
    if shown < all.len() {
        let at = (left, top + (shown as f64 + 0.5) * row + SIZE * 0.35);
        texts.push(name(&format!("… and {} more", all.len() - shown), at, palette.grey, limit + SAMPLE));
    }
    Names::Side { texts, names }
}

/// Heights near `wanted` (ascending), at least `apart` from each other and, where possible, within
/// `low`…`high`: neighbours that are too close become a block centred on their mean.
fn spread(wanted: &[f64], apart: f64, low: f64, high: f64) -> Vec<f64> {
    // (sum of the tops that the members want, their count)
    let mut blocks: Vec<(f64, usize)> = vec![];
    let top = |(sum, count): (f64, usize)| {
        let most = (high - apart * (count as f64 - 0.5)).max(low + apart / 2.0);
        (sum / count as f64).clamp(low + apart / 2.0, most)
    };
    for height in wanted {
        let mut block = (*height, 1);
        while let Some(before) = blocks.last().copied() {
            if top(before) + before.1 as f64 * apart <= top(block) {
                break;
            }
            blocks.pop();
            block = (before.0 + block.0 - (before.1 * block.1) as f64 * apart, before.1 + block.1);
        }
        blocks.push(block);
    }
    blocks.iter().flat_map(|block| (0..block.1).map(|member| top(*block) + member as f64 * apart)).collect()
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn names_keep_apart_near_their_lines() {
        assert_eq!(spread(&[20.0, 80.0], 15.0, 0.0, 100.0), [20.0, 80.0]);
        let close = spread(&[50.0, 51.0, 52.0], 15.0, 0.0, 100.0);
        assert_eq!(close, [36.0, 51.0, 66.0]);
        for wanted in [vec![0.0; 6], vec![100.0; 6], vec![10.0, 11.0, 12.0, 90.0, 99.0, 100.0]] {
            let heights = spread(&wanted, 15.0, 0.0, 100.0);
            assert!(heights.windows(2).all(|pair| pair[1] - pair[0] > 15.0 - 1e-9), "{wanted:?}: {heights:?}");
            assert!(heights[0] >= 7.5 - 1e-9 && heights[5] <= 92.5 + 1e-9, "{wanted:?}: {heights:?}");
        }
    }
}
