//! The names of the charts of a sweep, and what can be said of one.

use super::super::style::Theme;
use crate::options;

/// The charts of a sweep by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepChart {
    Settings,
    Differences,
    Heat,
    Parallel,
    Importance,
    Tokens,
    Seconds,
    GradNorm,
    LearningRate,
    Pareto,
}

crate::choices!(
    SweepChart,
    [
        ("settings", SweepChart::Settings),
        ("differences", SweepChart::Differences),
        ("heat", SweepChart::Heat),
        ("parallel", SweepChart::Parallel),
        ("importance", SweepChart::Importance),
        ("tokens", SweepChart::Tokens),
        ("seconds", SweepChart::Seconds),
        ("grad_norm", SweepChart::GradNorm),
        ("learning_rate", SweepChart::LearningRate),
        ("pareto", SweepChart::Pareto),
    ]
);

options! {
    /// What a chart of a sweep shows; everything has a default that follows from the sweep.
    #[derive(Debug, Clone)]
    pub struct SweepChartOptions {
        /// The metric that settings are compared by.
        pub metric: Option<String> = None, words "\"eval_loss\", or \"train_loss\" where nothing was evaluated";
        /// The axis that repeats a setting.
        pub over: Option<String> = None, words "\"seed\"";
        /// The axis of the columns ("heat"), or the cost ("pareto"): a metric such as "seconds" or "peak_memory".
        pub x: Option<String> = None, words "the first axis that varies, or \"seconds\"";
        /// The axis of the rows ("heat").
        pub y: Option<String> = None, words "the next axis that varies";
        /// The most settings that are shown, the best ones; the rest are counted.
        pub most: Option<usize> = None, range at_least(1.0), words "30, or 8 curves";
        /// The title of the chart.
        pub title: String = String::new();
        /// Dark on light, or light on dark.
        pub theme: Theme = Theme::Light;
    }
}
