//! Sizes of texts and distances that layout and drawing have in common, in CSS pixels.

pub const TITLE: f64 = 17.0;
pub const TEXT: f64 = 12.5;
pub const TICK: f64 = 11.5;
pub const NOTE: f64 = 10.5;
/// The smallest title of an axis.
pub const LEAST_TEXT: f64 = 9.5;
/// A narrower picture, such as a column of a paper, has no room for a legend beside its panels, and a smaller title.
pub const NARROW: f64 = 400.0;
pub const NARROW_TITLE: f64 = 14.0;
/// The margin of the picture.
pub const EDGE: f64 = 14.0;
/// Between axis and tick labels, and between neighbouring tick labels.
pub const TICK_GAP: f64 = 8.0;
pub const LABEL_GAP: f64 = 9.0;
/// The smallest width and height of a panel that shows anything, and of one of several.
pub const LEAST: f64 = 60.0;
pub const LEAST_OF_SEVERAL: f64 = 40.0;
