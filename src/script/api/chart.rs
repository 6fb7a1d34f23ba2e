//! Charts: of sweeps, of runs by their folders, and of points that a script gathered.

use crate::plot::sweep::ChartOptions;
use crate::plot::{self, Scale};
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::{Error, Result};
use rhai::plugin::*;
use rhai::{Array, Map};
use std::path::PathBuf;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The trials of a sweep and what became of them.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;
    /// A chart, to be saved as SVG or PNG.
    pub type Chart = crate::plot::Chart;

    /// A chart of one metric against one key of the grid.
    ///
    /// Options: `x` (the first axis), `y` ("eval_loss"), `over` ("seed": means and error bars are
    /// taken over it), `group` (a second key: one line each), `x_scale`, `y_scale` ("linear",
    /// "log2", "log10"), `title`.
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
        let mut options = Options::new("chart", options);
        let chosen = chart_options(&mut options)?;
        options.finish()?;
        Ok(plot::sweep::chart(&*result.read()?, &chosen)?)
    }

    /// A chart of the losses that runs logged over their steps, by their folders.
    ///
    /// The folders are those given to `train` as `out`, or trials of a sweep. Options: `y_scale`
    /// ("linear", "log2", "log10"), `title`.
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
        let mut options = Options::new("run_chart", options);
        let y_scale = scale(&mut options, "y_scale")?.unwrap_or_default();
        let title: Option<String> = options.take_opt("title")?;
        options.finish()?;
        let mut folders = Options::new("run_chart", Map::from([("folders".into(), folders.into())]));
        let folders: Vec<String> = folders.take_required("folders")?;
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
    /// Options: `series` (required: an array of maps with `name` and `points`, an array of `[x, y]`),
    /// `title`, `x`, `y` (the titles of the axes), `x_scale`, `y_scale` ("linear", "log2", "log10").
    ///
    /// ```rhai
    /// let measured = #{ name: "measured", points: [[1, 2.5], [2, 2.1], [4, 1.9]] };
    /// line_chart(#{ series: [measured], x: "rank", y: "loss", x_scale: "log2" }).save("runs/line.svg");
    /// ```
    #[rhai_fn(return_raw)]
    pub fn line_chart(options: Map) -> RhaiResultOf<Chart> {
        let mut options = Options::new("line_chart", options);
        let series: Vec<Map> = options.take_required("series")?;
        let series = series.into_iter().map(line_series).collect::<Result<_>>()?;
        let title = options.take("title", String::new())?;
        let mut axis = |name: &str, scale_name: &str| -> Result<plot::Axis> {
            let title = options.take(name, name.to_owned())?;
            Ok(plot::Axis::new(title, scale(&mut options, scale_name)?.unwrap_or_default()))
        };
        let (x, y) = (axis("x", "x_scale")?, axis("y", "y_scale")?);
        options.finish()?;
        Ok(Chart { title, x, y, series, ..Chart::default() })
    }

    /// Write a chart to a file that ends in `.svg` or `.png`, whole or not at all.
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

fn chart_options(options: &mut Options) -> Result<ChartOptions> {
    let (x_scale, y_scale) = (scale(options, "x_scale")?, scale(options, "y_scale")?);
    Ok(ChartOptions {
        x: options.take_opt("x")?,
        y: options.take_opt("y")?,
        over: options.take_opt("over")?,
        group: options.take_opt("group")?,
        x_scale,
        y_scale,
        title: options.take("title", String::new())?,
    })
}

/// A series of `line_chart`.
fn line_series(map: Map) -> Result<plot::Series> {
    let mut options = Options::new("line_chart: series", map);
    let name = options.take("name", String::new())?;
    let points: Vec<Vec<f64>> = options.take_required("points")?;
    options.finish()?;
    let point = |pair: &Vec<f64>| match pair.as_slice() {
        [x, y] => Ok(plot::Point::new(*x, *y)),
        other => Err(Error::input(format!("line_chart: a point of `{name}`: expected [x, y], found {other:?}"))),
    };
    Ok(plot::Series { points: points.iter().map(point).collect::<Result<_>>()?, name, ..plot::Series::default() })
}

fn scale(options: &mut Options, name: &str) -> Result<Option<Scale>> {
    let text: Option<String> = options.take_opt(name)?;
    text.map(|text| Scale::parse(name, &text)).transpose()
}
