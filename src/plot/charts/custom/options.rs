//! The options of a chart of any data and of its marks. Names are those of matplotlib, seaborn and Vega-Lite, where they
//! have one.

use super::super::chart::{Legend, Spread};
use super::super::scale::Scale;
use super::super::style::{TextMode, Theme};
use super::choices::{Bins, ErrorBar, Estimator, Limits, Orient, Stat};
use super::columns::{Column, Rows};
use crate::options;
use crate::options::{OneOrMany, Value};

options! {
    /// Options of the whole chart.
    #[derive(Debug, Clone)]
    pub struct FigureOptions {
        /// Rows of all marks without their own `data`: an array of maps, a map of arrays, or a sweep's result.
        pub data: Option<Rows> = None, words "none: the marks hold arrays";
        /// A column, or an array: one colour for each of its values, in marks without their own.
        pub by: Option<Column> = None, alias ["color", "hue"], words "none";
        /// A column, or an array: a panel for each of its values, in marks without their own.
        pub facet: Option<Column> = None, alias ["col"], words "none: one panel";
        /// Panels side by side.
        pub columns: Option<usize> = None, alias ["col_wrap"], range at_least(1.0), words "what suits the size";
        /// Whether the panels have one range of x.
        pub share_x: bool = true, alias ["sharex"];
        /// Whether the panels have one range of y.
        pub share_y: bool = true, alias ["sharey"];
        /// The title of the chart.
        pub title: String = String::new();
        /// A line below the title.
        pub subtitle: String = String::new();
        /// The title of the x axis, with its unit: "time (s)".
        pub x_label: Option<String> = None, alias ["xlabel"], words "the name of the column";
        /// The title of the y axis, with its unit: "loss (nats per token)".
        pub y_label: Option<String> = None, alias ["ylabel"], words "the name of the column";
        /// The scale of the x axis.
        pub x_scale: Scale = Scale::Linear, alias ["xscale"];
        /// The scale of the y axis.
        pub y_scale: Scale = Scale::Linear, alias ["yscale"];
        /// The ends of the x axis, `[low, high]`; `()` for an end that follows from the data.
        pub x_limits: Limits = Limits::default(), alias ["xlim"], words "those of the data";
        /// The ends of the y axis, `[low, high]`.
        pub y_limits: Limits = Limits::default(), alias ["ylim"], words "those of the data";
        /// The values that the x axis names, such as the ranks that were run.
        pub x_ticks: Vec<f64> = Vec::new(), alias ["xticks"], words "round values";
        /// The values that the y axis names.
        pub y_ticks: Vec<f64> = Vec::new(), alias ["yticks"], words "round values";
        /// Where the names of the series are: "ends" is behind their lines.
        pub legend: Legend = Legend::Auto;
        /// The heading of the legend.
        pub legend_title: Option<String> = None, words "the column of `by`";
        /// What colours of values mean, with the unit.
        pub color_label: Option<String> = None, words "the column of `value`";
        /// The values of the first and the last colour.
        pub color_limits: Limits = Limits::default(), alias ["clim"], words "those of the data";
        /// The value of the neutral colour: colours diverge from it.
        pub color_center: Option<f64> = None, alias ["center"], words "none: colours go from light to dark";
        /// Lines of small text below the chart.
        pub notes: OneOrMany<String> = OneOrMany(Vec::new());
        /// Width and height in inches.
        pub size: Vec<f64> = vec![7.5, 4.6], alias ["figsize"];
        /// Pixels per inch of PNG.
        pub dpi: f64 = 192.0, range between(48.0, 768.0);
        /// The colours of page, axes and marks.
        pub theme: Theme = Theme::Light;
        /// How SVG and PDF hold texts: in the reader's fonts, as shapes, or with the font in the file.
        pub text: TextMode = TextMode::Text;
        /// A font file (.ttf, .otf, .ttc) for characters that the built-in font lacks, such as Chinese.
        pub font: Option<String> = None, words "none: the built-in font has Latin, Greek and Hangul";
    }
}

options! {
    /// Options that every mark has.
    #[derive(Debug, Clone)]
    pub struct CommonOptions {
        /// Rows of this mark alone.
        pub data: Option<Rows> = None, words "the chart's";
        /// Its name in the legend, where `by` is absent.
        pub name: String = String::new(), alias ["label"];
        /// A column, or an array: one colour for each of its values.
        pub by: Option<Column> = None, alias ["color", "hue"], words "the chart's";
        /// A column, or an array: a panel for each of its values.
        pub facet: Option<Column> = None, words "the chart's";
        /// The opacity of areas and points.
        pub alpha: Option<f64> = None, range between(0.0, 1.0), words "what suits the mark";
    }
}

options! {
    /// Ends of intervals, in units of the value.
    #[derive(Debug, Clone)]
    pub struct IntervalOptions {
        /// The lower ends of intervals: a column, or an array.
        pub lower: Option<Column> = None, words "none";
        /// The upper ends of intervals.
        pub upper: Option<Column> = None, words "none";
        /// Half the length of intervals around the values, instead of `lower` and `upper`.
        pub error: Option<Column> = None, alias ["yerr"], words "none";
    }
}

options! {
    /// A line through points in the order of x.
    #[derive(Debug, Clone)]
    pub struct LineOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// A column, or an array of numbers or names.
        pub x: Option<Column> = None, words "0, 1, 2, …";
        /// A column, or an array of numbers.
        pub y: Option<Column> = None, is required;
        pub interval: IntervalOptions = IntervalOptions::default(), is set;
        /// How intervals are drawn.
        pub interval_style: Spread = Spread::Band;
        /// What rows of the same x become: each its own point, or their mean or median with an interval.
        pub estimator: Estimator = Estimator::None;
        /// The interval around an estimate: standard deviation, standard error, 95 % confidence, or lowest to highest.
        pub errorbar: ErrorBar = ErrorBar::Sd;
        /// Whether points are marked.
        pub markers: Option<bool> = None, words "up to 30 points";
    }
}

options! {
    /// Points, as of a scatter plot.
    #[derive(Debug, Clone)]
    pub struct PointsOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// A column, or an array of numbers or names.
        pub x: Option<Column> = None, words "0, 1, 2, …";
        /// A column, or an array of numbers or names.
        pub y: Option<Column> = None, is required;
        pub interval: IntervalOptions = IntervalOptions::default(), is set;
        /// Numbers that the colours show, instead of `by`.
        pub value: Option<Column> = None, alias ["c"], words "none";
        /// A text beside each point, left out where it would hide data.
        pub text: Option<Column> = None, words "none";
        /// The diameter of the points, in pixels.
        pub size: Option<f64> = None, alias ["markersize"], range between(1.0, 60.0), words "what suits their number";
    }
}

options! {
    /// Bars from 0, one for each name and series.
    #[derive(Debug, Clone)]
    pub struct BarsOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// The names of the bars; lying bars have them in `y`.
        pub x: Option<Column> = None, words "0, 1, 2, …";
        /// The ends of the bars; lying bars have them in `x`.
        pub y: Option<Column> = None, words "0, 1, 2, …";
        pub interval: IntervalOptions = IntervalOptions::default(), is set;
        /// What rows of the same name become; rows of one name are refused without.
        pub estimator: Estimator = Estimator::None;
        /// The interval around an estimate: standard deviation, standard error, 95 % confidence, or lowest to highest.
        pub errorbar: ErrorBar = ErrorBar::Sd;
        /// "v" for upright bars, "h" for lying ones, which have room for long names.
        pub orient: Orient = Orient::Vertical;
    }
}

options! {
    /// How often values fall into each bin.
    #[derive(Debug, Clone)]
    pub struct HistogramOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// A column, or an array of numbers.
        pub x: Option<Column> = None, is required;
        /// The number of bins, or their edges.
        pub bins: Bins = Bins::Auto;
        /// What the height of a bar shows.
        pub stat: Stat = Stat::Count;
    }
}

options! {
    /// Median, quartiles, and the values within 1.5 times their distance; values beyond are points.
    #[derive(Debug, Clone)]
    pub struct BoxOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// The name of the box of each value.
        pub x: Option<Column> = None, words "one box";
        /// The values, as numbers.
        pub y: Option<Column> = None, words "one box";
        /// The reach of the whiskers, in distances of the quartiles.
        pub whis: f64 = 1.5, range at_least(0.0);
        /// "v" for upright boxes, "h" for lying ones, with the names in `y`.
        pub orient: Orient = Orient::Vertical;
    }
}

options! {
    /// Each value as a point over its name, spread a little so that points are told apart.
    #[derive(Debug, Clone)]
    pub struct StripOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// The name of each value.
        pub x: Option<Column> = None, words "one strip";
        /// The values, as numbers.
        pub y: Option<Column> = None, words "one strip";
        /// How far points are spread, as a fraction of their strip.
        pub jitter: f64 = 0.5, range between(0.0, 1.0);
        /// The diameter of the points, in pixels.
        pub size: f64 = 5.0, alias ["markersize"], range between(1.0, 60.0);
        /// "v" for upright strips, "h" for lying ones, with the names in `y`.
        pub orient: Orient = Orient::Vertical;
    }
}

options! {
    /// A cell for each pair of names, its colour showing a value.
    #[derive(Debug, Clone)]
    pub struct HeatmapOptions {
        pub common: CommonOptions = CommonOptions::default(), is set;
        /// The names of the columns.
        pub x: Option<Column> = None, words "0, 1, 2, …";
        /// The names of the rows, from the top.
        pub y: Option<Column> = None, words "0, 1, 2, …";
        /// A column, or an array: the value of each pair, or the rows of the heatmap as arrays.
        pub value: Option<Column> = None, is required;
        /// Whether cells with room for it show their value.
        pub annotate: bool = true, alias ["annot"];
    }
}

options! {
    /// A line over the whole panel: at an x, or at a y.
    #[derive(Debug, Clone)]
    pub struct ReferenceOptions {
        /// The value on the x axis.
        pub x: Option<Value> = None, words "none";
        /// The value on the y axis.
        pub y: Option<Value> = None, words "none";
        /// A text at its end.
        pub label: String = String::new();
    }
}

options! {
    /// A shaded range over the whole panel: of x, or of y.
    #[derive(Debug, Clone)]
    pub struct BandOptions {
        /// The ends on the x axis, `[low, high]`.
        pub x: Option<Vec<Value>> = None, words "none";
        /// The ends on the y axis, `[low, high]`.
        pub y: Option<Vec<Value>> = None, words "none";
        /// A text at its end.
        pub label: String = String::new();
    }
}

options! {
    /// A text beside a point of the data.
    #[derive(Debug, Clone)]
    pub struct AnnotationOptions {
        /// The value on the x axis.
        pub x: Value = Value::Unit, is required;
        /// The value on the y axis.
        pub y: Value = Value::Unit, is required;
        /// What is written there.
        pub text: String = String::new(), is required;
        /// The panel that shows it, by its value of `facet`.
        pub facet: Option<Value> = None, words "all";
    }
}
