//! Charts of sweeps, of runs by their folders, and of points that a script gathered.

use crate::options;
use crate::options::{OptionSet, OptionType, Refusal};
use crate::plot::sweep::ChartOptions;
use crate::plot::{self, Scale};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::to_value;
use crate::script::values::handles::Handle;
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::Result;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use std::path::PathBuf;

options! {
    #[derive(Debug, Clone)]
    struct RunChartOptions {
        /// The scale of the losses.
        y_scale: Scale = Scale::Linear;
        /// The title of the chart.
        title: Option<String> = None, words "\"Loss over steps\"";
    }
}

options! {
    #[derive(Debug, Clone)]
    struct LineChartOptions {
        /// One line each: an array of maps with `name` and `points`, an array of `[x, y]`.
        series: Vec<OptionsOf<SeriesOptions>> = Vec::new(), is required;
        /// The title of the chart.
        title: String = String::new();
        /// The title of the x axis.
        x: String = "x".to_owned();
        /// The title of the y axis.
        y: String = "y".to_owned();
        /// The scale of the x axis.
        x_scale: Scale = Scale::Linear;
        /// The scale of the y axis.
        y_scale: Scale = Scale::Linear;
    }
}

options! {
    #[derive(Debug, Clone)]
    struct SeriesOptions {
        /// What the legend calls it.
        name: String = String::new();
        /// Pairs `[x, y]`.
        points: Vec<Vec<f64>> = Vec::new(), is required;
    }
    rule SeriesOptions::rule;
}

impl SeriesOptions {
    fn rule(&self) -> Option<Refusal> {
        let point = self.points.iter().find(|point| point.len() != 2)?;
        Some(Refusal::new("points", "pairs [x, y]", format!("{} in `{}`", point.to_value().describe(), self.name)))
    }

    fn series(self) -> plot::Series {
        let points = self.points.iter().filter_map(|point| Some(plot::Point::new(*point.first()?, *point.get(1)?)));
        plot::Series { points: points.collect(), name: self.name, ..plot::Series::default() }
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[
    ("sweepResult.chart", ChartOptions::table),
    ("run_chart", RunChartOptions::table),
    ("line_chart", LineChartOptions::table),
];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The trials of a sweep and what became of them.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;
    /// A chart, to be saved as SVG, PNG or PDF.
    pub type Chart = crate::plot::Chart;

    /// A chart of one metric against one key of the grid.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// result.chart(#{ x: "rank", y: "eval_loss", x_scale: "log2" }).save("runs/rank.svg");
    /// ```
    #[rhai_fn(name = "chart", global, pure, return_raw)]
    pub fn chart(result: &mut SweepResult, options: Map) -> RhaiResultOf<Chart> {
        let options: ChartOptions = Options::read("chart", options)?;
        Ok(plot::sweep::chart(&*result.read()?, &options)?)
    }

    /// A chart of the losses that runs logged over their steps, by their folders.
    ///
    /// A folder is the `out` of `train`, or that of a trial in a sweep. It may also be that of a sweep, or the result of one:
    /// the chart then has a curve for each of its best eight settings, the mean over seeds.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{}).split(#{ test: 1 });
    /// train(model, data, #{ steps: 4, log_every: 1, eval_every: 2, out: "runs/try" });
    /// run_chart(["runs/try"], #{ title: "A try" }).save("runs/try/loss.svg");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn run_chart(context: NativeCallContext, folders: Array, options: Map) -> RhaiResultOf<Chart> {
        let RunChartOptions { y_scale, title } = Options::read("run_chart", options)?;
        let folders: Array = folders.into_iter().map(folder_of).collect::<Result<_>>()?;
        let folders = to_value(&folders.into());
        let folders: Vec<String> = Vec::from_value(&folders)
            .map_err(|mismatch| mismatch.error("run_chart: the folders", &folders.describe()))?;
        let state = State::of(&context)?;
        let folders: Vec<PathBuf> = folders.iter().map(|folder| state.to_read(folder).into()).collect();
        let mut chart = plot::run::run_chart(&folders, y_scale)?;
        if let Some(title) = title {
            chart.title = title;
        }
        Ok(chart)
    }

    /// A chart of points that a script gathered itself.
    ///
    /// ```rhai
    /// let measured = #{ name: "measured", points: [[1, 2.5], [2, 2.1], [4, 1.9]] };
    /// line_chart(#{ series: [measured], x: "rank", y: "loss", x_scale: "log2" }).save("runs/line.svg");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn line_chart(options: Map) -> RhaiResultOf<Chart> {
        let LineChartOptions { series, title, x, y, x_scale, y_scale } = Options::read("line_chart", options)?;
        let series = series.into_iter().map(|options| {
            let options: SeriesOptions = Options::read_inner("line_chart", "series", options.values)?;
            Ok(options.series())
        });
        let (x, y) = (plot::Axis::new(x, x_scale), plot::Axis::new(y, y_scale));
        Ok(Chart { title, x, y, series: series.collect::<Result<_>>()?, ..Chart::default() })
    }

    /// Write a chart to a file that ends in `.svg`, `.png` or `.pdf`, whole or not at all.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// result.chart(#{}).save("runs/rank.png");
    /// ```
    #[rhai_fn(name = "save", global, pure, return_raw, volatile)]
    pub fn save_chart(context: NativeCallContext, chart: &mut Chart, path: &str) -> RhaiResultOf<()> {
        Ok(chart.save(&State::of(&context)?.file_to_write(path)?)?)
    }
}

/// The folder of a sweep, where its result stands for it.
fn folder_of(value: Dynamic) -> Result<Dynamic> {
    match value.read_lock::<functions::SweepResult>().map(|result| result.clone()) {
        Some(result) => Ok(result.read()?.out.display().to_string().into()),
        None => Ok(value),
    }
}
