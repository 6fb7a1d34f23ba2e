//! Charts of a sweep by their names, and the speed of a sweep.

use crate::options::{OptionSet, OptionType};
use crate::plot::sweeps::{sweep_chart, SweepChart, SweepChartOptions};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::Result;
use rhai::plugin::*;
use rhai::{Dynamic, Map};

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("sweepResult.plot", SweepChartOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The trials of a sweep and their results.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;
    /// A chart of a sweep, to be saved as SVG or PNG.
    pub type Picture = crate::plot::Picture;

    /// A chart of a sweep by its name, with its options.
    ///
    /// | name | shows |
    /// |---|---|
    /// | `"settings"` | settings in the order of their means, with their trials and 95 % intervals |
    /// | `"differences"` | settings against the best one within the same seeds; with the verdicts, where the sweep decides |
    /// | `"heat"` | the mean at each pair of values of two axes, `x` and `y` |
    /// | `"parallel"` | all axes and the metric as parallel coordinates |
    /// | `"importance"` | the share of the variance that each axis explains |
    /// | `"tokens"`, `"seconds"` | the loss against the tokens trained on, or the time |
    /// | `"grad_norm"`, `"learning_rate"` | what was logged, over the steps |
    /// | `"pareto"` | the metric against a cost `x`, such as `"seconds"` or `"peak_memory"`, and the settings that nothing beats in both |
    ///
    /// The report of a sweep has those of which it has the numbers. `chart` shows one metric against one axis.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let grid = #{ rank: [2, 4], lr: [1e-3, 1e-2] };
    /// let result = sweep(base, data, #{ grid: grid, train: #{ steps: 1 }, out: "runs/one" });
    /// result.plot("heat", #{ x: "lr", y: "rank" }).save("runs/heat.svg");
    /// ```
    #[rhai_fn(name = "plot", global, pure, return_raw)]
    pub fn plot_with(result: &mut SweepResult, kind: &str, options: Map) -> RhaiResultOf<Picture> {
        let options: SweepChartOptions = Options::read("plot", options)?;
        Ok(picture(result, kind, &options)?)
    }

    /// A chart of a sweep by its name.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// result.plot("settings").save("runs/settings.png");
    /// ```
    #[rhai_fn(name = "plot", global, pure, return_raw)]
    pub fn plot(result: &mut SweepResult, kind: &str) -> RhaiResultOf<Picture> {
        Ok(picture(result, kind, &SweepChartOptions::default())?)
    }

    /// Write a chart of a sweep to a file that ends in `.svg`, `.png` or `.pdf`, whole or not at all.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// result.plot("settings").save("runs/settings.svg");
    /// ```
    #[rhai_fn(name = "save", global, pure, return_raw, volatile)]
    pub fn save_picture(context: NativeCallContext, picture: &mut Picture, path: &str) -> RhaiResultOf<()> {
        Ok(picture.save(&State::of(&context)?.file_to_write(path)?)?)
    }

    /// The speed of the sweep as a whole: `tokens`, `seconds` and `tokens_per_s`, or `()` if it is not known.
    ///
    /// `tokens_per_s` of a trial is the speed of its worker, whose time trials side by side share. All workers together are
    /// faster: the tokens of all steps that the sweep took, by the wall time of training with evaluations and saving. The
    /// runs of a sweep that was cut off add up. It is kept in `throughput.json`, and not known of `trial` functions.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// print(`${result.throughput.tokens_per_s} tokens per second`);
    /// ```
    #[rhai_fn(get = "throughput", global, pure, return_raw)]
    pub fn throughput(result: &mut SweepResult) -> RhaiResultOf<Dynamic> {
        let Some(throughput) = result.read()?.throughput else { return Ok(Dynamic::UNIT) };
        let mut fields = Map::new();
        fields.insert("tokens".into(), (throughput.tokens as i64).into());
        fields.insert("seconds".into(), throughput.seconds.into());
        fields.insert("tokens_per_s".into(), throughput.tokens_per_s().into());
        Ok(fields.into())
    }
}

fn picture(
    result: &Handle<crate::sweep::SweepResult>,
    kind: &str,
    options: &SweepChartOptions,
) -> Result<crate::plot::Picture> {
    let value = crate::options::Value::Text(kind.to_owned());
    let kind =
        SweepChart::from_value(&value).map_err(|mismatch| mismatch.error("plot: the chart", &value.describe()))?;
    sweep_chart(&*result.read()?, kind, options)
}
