//! The choices that options of a chart of any data offer: kinds of marks, statistics, bins, limits.

use super::super::chart::{Legend, Spread};
use crate::choices;
use crate::options::{Mismatch, OptionType, Value};

/// The mark of some data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkKind {
    Line,
    Points,
    Bars,
    Histogram,
    Box,
    Strip,
    Heatmap,
}

choices!(
    MarkKind,
    [
        ("line", MarkKind::Line),
        ("points", MarkKind::Points),
        ("bars", MarkKind::Bars),
        ("histogram", MarkKind::Histogram),
        ("box", MarkKind::Box),
        ("strip", MarkKind::Strip),
        ("heatmap", MarkKind::Heatmap),
        ("scatter", MarkKind::Points),
        ("bar", MarkKind::Bars),
        ("hist", MarkKind::Histogram),
        ("boxplot", MarkKind::Box),
    ]
);

choices!(
    Legend,
    [
        ("auto", Legend::Auto),
        ("right", Legend::Side),
        ("ends", Legend::Ends),
        ("top", Legend::Top),
        ("bottom", Legend::Bottom),
        ("none", Legend::Hidden),
    ]
);

choices!(Spread, [("band", Spread::Band), ("bars", Spread::Bars)]);

/// Which way bars and boxes point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orient {
    Vertical,
    Horizontal,
}

choices!(Orient, [("v", Orient::Vertical), ("h", Orient::Horizontal)]);

/// What rows of the same x become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimator {
    None,
    Mean,
    Median,
}

choices!(Estimator, [("none", Estimator::None), ("mean", Estimator::Mean), ("median", Estimator::Median)]);

/// The interval around an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorBar {
    None,
    Sd,
    Se,
    Ci,
    Range,
}

choices!(
    ErrorBar,
    [
        ("sd", ErrorBar::Sd),
        ("se", ErrorBar::Se),
        ("ci", ErrorBar::Ci),
        ("range", ErrorBar::Range),
        ("none", ErrorBar::None),
    ]
);

/// What the height of a histogram's bar is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    Count,
    Probability,
    Density,
}

choices!(Stat, [("count", Stat::Count), ("probability", Stat::Probability), ("density", Stat::Density)]);

/// The bins of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub enum Bins {
    Auto,
    Count(usize),
    Edges(Vec<f64>),
}

/// More bins than this are narrower than a pixel.
const MOST_BINS: usize = 2000;

impl OptionType for Bins {
    fn type_name() -> String {
        "int or array of float".to_owned()
    }
    fn expected() -> String {
        format!("the number of bins, from 1 to {MOST_BINS}, or an array of ascending edges")
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let count = usize::from_value(value).ok().filter(|count| (1..=MOST_BINS).contains(count)).map(Bins::Count);
        let edges = || Vec::<f64>::from_value(value).ok().filter(|edges| (2..=MOST_BINS + 1).contains(&edges.len()));
        let ascending = |edges: &Vec<f64>| {
            edges.windows(2).all(|pair| pair[0] < pair[1]) && edges.iter().all(|edge| edge.is_finite())
        };
        let auto = (value.as_str() == Some("auto")).then_some(Bins::Auto);
        auto.or(count).or_else(|| edges().filter(ascending).map(Bins::Edges)).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        match self {
            Bins::Auto => Value::Text("auto".to_owned()),
            Bins::Count(count) => count.to_value(),
            Bins::Edges(edges) => edges.to_value(),
        }
    }
}

/// The ends of an axis; `None` for an end that follows from the data.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl OptionType for Limits {
    fn type_name() -> String {
        "array of float or `()`".to_owned()
    }
    fn expected() -> String {
        "[low, high], two finite numbers with the lower first, or () for an end that follows from the data".to_owned()
    }
    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let end = |value: &Value| match value {
            Value::Unit => Some(None),
            _ => value.as_f64().filter(|end| end.is_finite()).map(Some),
        };
        let limits = match value.as_array() {
            Some([low, high]) => end(low).zip(end(high)).map(|(low, high)| Limits { low, high }),
            _ => None,
        };
        let is_ordered = |limits: &Limits| limits.low.zip(limits.high).is_none_or(|(low, high)| low < high);
        limits.filter(is_ordered).ok_or_else(|| Mismatch::of::<Self>(value))
    }
    fn to_value(&self) -> Value {
        let end = |end: Option<f64>| end.map_or(Value::Unit, Value::Float);
        Value::Array(vec![end(self.low), end(self.high)])
    }
}
