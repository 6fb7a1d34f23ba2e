//! Small multiples: how many panels stand side by side, and where.

use super::scene::Rect;
use super::sizes::{TICK, TICK_GAP};
use crate::plot::charts::chart::Panels;

/// Between panels that share an axis.
const GAP: f64 = 16.0;
/// The height of a panel's title.
const TITLE: f64 = TICK * 1.9;
/// The shape of panel, width to height, that the default number of columns comes nearest to.
const ASPECT: f64 = 1.35;

/// Panels in rows, from left to right and from top to bottom.
#[derive(Debug, Clone, Copy)]
pub struct PanelGrid {
    pub count: usize,
    pub columns: usize,
    pub column_gap: f64,
    row_gap: f64,
    title: f64,
}

impl PanelGrid {
    /// `labels` is the room of the tick labels at the left of a panel, `size` the space of all panels.
    pub fn of(panels: &Panels, labels: f64, (width, height): (f64, f64)) -> Self {
        let count = panels.names.len().max(1);
        let column_gap = if panels.shares_y { GAP } else { GAP + labels + TICK_GAP };
        let row_gap = if panels.shares_x { GAP * 0.6 } else { GAP * 0.6 + TICK + TICK_GAP };
        let title = if panels.names.is_empty() { 0.0 } else { TITLE };
        let grid = |columns: usize| PanelGrid { count, columns, column_gap, row_gap, title };
        let distance = |columns: &usize| {
            let one = grid(*columns).rect(0, &Rect { left: 0.0, top: 0.0, right: width, bottom: height });
            let shape = (one.width().max(1.0) / one.height().max(1.0) / ASPECT).ln().abs();
            // Cells without a panel waste room.
            shape + 0.15 * (columns * count.div_ceil(*columns) - count) as f64
        };
        let best = (1..=count).min_by(|one, two| distance(one).total_cmp(&distance(two)));
        grid(panels.columns.or(best).unwrap_or(1).clamp(1, count))
    }

    fn rows(&self) -> usize {
        self.count.div_ceil(self.columns)
    }

    /// The panel at `index`, without its title, in the space of all.
    pub fn rect(&self, index: usize, space: &Rect) -> Rect {
        let (columns, rows) = (self.columns as f64, self.rows() as f64);
        let width = (space.width() - self.column_gap * (columns - 1.0)) / columns;
        let height = (space.height() - self.row_gap * (rows - 1.0)) / rows;
        let left = space.left + (index % self.columns) as f64 * (width + self.column_gap);
        let top = space.top + (index / self.columns) as f64 * (height + self.row_gap);
        Rect { left, top: top + self.title, right: left + width, bottom: top + height }
    }

    pub fn is_first_column(&self, index: usize) -> bool {
        index.is_multiple_of(self.columns)
    }

    /// Is there no panel below?
    pub fn is_lowest(&self, index: usize) -> bool {
        index + self.columns >= self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_fill_their_space_in_rows() {
        let panels = Panels { names: vec!["panel".into(); 5], columns: Some(3), ..Panels::default() };
        let space = Rect { left: 10.0, top: 20.0, right: 610.0, bottom: 420.0 };
        let grid = PanelGrid::of(&panels, 30.0, (space.width(), space.height()));
        let rects: Vec<Rect> = (0..5).map(|index| grid.rect(index, &space)).collect();
        assert_eq!((rects[0].left, rects[2].right, rects[4].bottom), (10.0, 610.0, 420.0));
        assert!(rects.iter().enumerate().all(|(at, one)| rects[..at].iter().all(|other| !one.meets(other))));
        assert!(!grid.is_lowest(1) && grid.is_lowest(2) && grid.is_first_column(3));
    }

    #[test]
    fn the_default_columns_suit_the_space() {
        let columns = |count: usize, size: (f64, f64)| {
            PanelGrid::of(&Panels { names: vec![String::new(); count], ..Panels::default() }, 30.0, size).columns
        };
        assert_eq!((columns(3, (900.0, 260.0)), columns(3, (250.0, 600.0)), columns(4, (600.0, 440.0))), (3, 1, 2));
        assert_eq!(columns(0, (600.0, 440.0)), 1);
    }
}
