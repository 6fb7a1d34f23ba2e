//! Sweeps: many trials over one base, their table, charts and report.

use crate::lora::LoraSpec;
use crate::options;
use crate::options::OptionSet;
use crate::plot::about::About;
use crate::plot::publish::publish_report;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::grid::{list_ranges, options_at};
use crate::script::values::handles::Handle;
use crate::script::values::json::to_map;
use crate::script::values::objects::TokenizedSplit;
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::sweep::progress::SweepProgress;
use crate::sweep::table::TableOptions;
use crate::sweep::{self, Grid, LoraSweep, SweepOptions, TrialSettings};
use crate::train::TrainConfig;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use std::path::Path;
use std::time::Instant;

options! {
    #[derive(Debug, Clone)]
    struct SweepCall {
        sweep: SweepOptions = SweepOptions::default(), is set;
        /// Options of the adapters. A function is called with the point, as in `alpha: |p| 2 * p.rank`.
        lora: OptionsOf<LoraSpec> = OptionsOf::default();
        /// Options of the training. A function is called with the point.
        train: OptionsOf<TrainConfig> = OptionsOf::default();
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("sweep", SweepCall::table), ("sweepResult.table", TableOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// The trials of a sweep and their results.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;

    /// Train one adapter per point of a grid over one base, and measure each on held-out rows.
    ///
    /// Trials train side by side over the one base, as many as fit into memory, each on its own rows. Results do not
    /// depend on which trials run together, except for rounding.
    ///
    /// Trials that are finished in `out` are not run again. One that fails is recorded, and the rest go on.
    ///
    /// Trials are paired by default: every rank sees the same data in the same order, and the A of a smaller rank is
    /// the first rows of the A of a larger one.
    ///
    /// Rows of the result also have `peak_memory`: the most bytes that were held while a trial and those beside it
    /// trained, by the whole process, or on a GPU by tensors.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = load_dataset("scripts/tiny/train.jsonl")
    ///     .map(|row| #{ prompt: row.instruction, completion: " " + row.output })
    ///     .take(40).tokenize(base, #{ max_length: 128 }).split(#{ test: 0.1 });
    /// let result = sweep(base, data, #{
    ///     grid:  #{ rank: [2, 4], seed: 2 },
    ///     lora:  #{ alpha: |p| 2 * p.rank, target_modules: "all-linear" },
    ///     train: #{ steps: 2, batch: 4, lr: 1e-3 },
    ///     out:   "runs/sweep" });
    /// print(result.table());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn sweep(
        context: NativeCallContext,
        base: Model,
        data: TokenizedSplit,
        mut options: Map,
    ) -> RhaiResultOf<SweepResult> {
        list_ranges(&mut options, context.engine());
        let call: SweepCall = Options::read("sweep", options)?;
        let options = &call.sweep;
        let (state, started) = (State::of(&context)?, Instant::now());
        let base = base.read()?;
        let grid = options.grid()?;
        let settings = settings_of_points(&grid, &call, &context)?;
        let origin = Some(origin::of(&state, Some(&base), &options.out)?);
        let (train, test) = (&data.train.rows, &data.test.rows);
        let sweep = LoraSweep { base: &base, train, test, options, grid, settings, origin };
        let (folder, progress) = (state.folder_to_write(&options.out)?, SweepProgress::new(state.quiet()));
        let report = sweep.run(&folder, state.pace(), progress, &mut |line| state.note(line))?;
        if report.forecast.is_none() {
            state.count_trials(&options.out, report.result.failed().count(), report.result.rows().len());
        }
        state.note_sweep(&options.out, report.forecast.as_ref(), base.decoder().device);
        if options.charts {
            let about = About::sweep(&report, &base, started.elapsed().as_secs_f64())?;
            let about = about.with_script(state.script(), state.source(), &state.settings()?);
            publish_report(&report, &about)?.iter().for_each(|note| state.note(note));
        }
        Ok(Handle::new(report.result))
    }

    /// Open the results of an earlier sweep by its folder, finished or not.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// sweep(base, data, #{ grid: #{ rank: [2] }, train: #{ steps: 1 }, out: "runs/one" });
    /// print(open_sweep("runs/one").rows.len());
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn open_sweep(context: NativeCallContext, out: &str) -> RhaiResultOf<SweepResult> {
        Ok(Handle::new(sweep::SweepResult::open(Path::new(&State::of(&context)?.to_read(out)))?))
    }

    /// The results as a table: mean and spread over seeds, paired differences to the first value.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// print(result.table());
    /// ```
    #[rhai_fn(name = "table", global, pure, return_raw)]
    pub fn table(result: &mut SweepResult) -> RhaiResultOf<String> {
        Ok(result.read()?.table())
    }

    /// The results as a table, compared with a baseline.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// print(result.table(#{ metric: "train_loss", baseline: #{ rank: 4 } }));
    /// ```
    #[rhai_fn(name = "table", global, pure, return_raw)]
    pub fn table_with(result: &mut SweepResult, options: Map) -> RhaiResultOf<String> {
        let options: TableOptions = Options::read("table", options)?;
        Ok(result.read()?.table_with(&options)?)
    }

    /// The trials as an array of maps, in the order of the grid.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// for row in result.rows {
    ///     print(`${row.rank}: ${row.eval_loss}`);
    /// }
    /// ```
    #[rhai_fn(get = "rows", global, pure, return_raw)]
    pub fn rows(result: &mut SweepResult) -> RhaiResultOf<Array> {
        let rows = result.read()?.rows_as_objects();
        Ok(rows.iter().map(|row| Dynamic::from_map(to_map(row))).collect())
    }

    /// The setting with the best mean of a metric over its seeds, as a map.
    ///
    /// A setting is a point of the grid without the seed. The map has its values by name, and `metric`, `mean`
    /// (also under the metric's name), `spread` (sample standard deviation; `()` for one seed), `n`, `seeds`,
    /// `trials` (its rows), `within_noise` (settings whose 95 % interval of the paired difference to it holds 0:
    /// their values, `difference` and `interval`), `unranked` (settings with fewer finished trials, which are not
    /// ranked), and `summary`: all of it in one sentence. One seed says nothing of spread. The folder of an
    /// adapter is that of a trial: `best_trial` gives the best one.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4], seed: 2 }, train: #{ steps: 1 }, out: "runs/one" });
    /// let best = result.best("eval_loss");
    /// print(`rank ${best.rank}: ${best.mean} ± ${best.spread}`);
    /// print(best.summary);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn best(result: &mut SweepResult, metric: &str) -> RhaiResultOf<Map> {
        let result = result.read()?;
        Ok(to_map(&result.best(metric)?.fields(&result)))
    }

    /// The setting with the best mean of `eval_loss`, or of `train_loss` where nothing was evaluated.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// print(result.best().summary);
    /// ```
    #[rhai_fn(name = "best", global, pure, return_raw)]
    pub fn best_by_default(result: &mut SweepResult) -> RhaiResultOf<Map> {
        let result = result.read()?;
        Ok(to_map(&result.best(result.default_metric())?.fields(&result)))
    }

    /// The single trial with the best value of a metric, as a map: its row, with its folder in `dir`.
    ///
    /// Of several seeds it is also the luckiest: `best` compares settings by their means.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// base.load_adapter("runs/one/" + result.best_trial("eval_loss").dir + "/adapter");
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn best_trial(result: &mut SweepResult, metric: &str) -> RhaiResultOf<Map> {
        let result = result.read()?;
        Ok(to_map(&result.object(result.best_trial(metric)?)))
    }

    /// How many trials this call trained; the others were finished before.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 1 }, out: "runs/one" });
    /// print(result.trained);
    /// ```
    #[rhai_fn(get = "trained", global, pure, return_raw)]
    pub fn trained(result: &mut SweepResult) -> RhaiResultOf<i64> {
        Ok(result.read()?.trained as i64)
    }
}

/// Resolves every point before the first trial starts, so that a mistake costs nothing.
fn settings_of_points(grid: &Grid, call: &SweepCall, context: &NativeCallContext) -> RhaiResultOf<Vec<TrialSettings>> {
    let settings = grid.points().into_iter().map(|point| {
        let spec = options_at(&call.lora, "lora", &point, context)?;
        let config = options_at(&call.train, "train", &point, context)?;
        Ok(TrialSettings { point, spec, config })
    });
    settings.collect()
}
