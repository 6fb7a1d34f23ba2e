//! The results of a sweep: its table, its rows, the best setting, and the setting that is enough.

use crate::options::OptionSet;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_map;
use crate::script::values::options::Options;
use crate::sweep;
use crate::sweep::decide::DecideOptions;
use crate::sweep::table::TableOptions;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Map};
use std::path::Path;

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] =
    &[("sweepResult.table", TableOptions::table), ("sweepResult.decide", DecideOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// The trials of a sweep and their results.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;

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
    /// In experiments without losses it is that of the first metric by name.
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

    /// The first setting in the order of the grid that no other beats by a margin that matters, as a map.
    ///
    /// It answers "which rank is enough?". Write the axis from cheap to dear: of settings that are enough, the first is the
    /// answer. A setting is "enough" if the best one is better by less than `margin`, "worse" if by more, and "open" if the
    /// seeds so far do not tell; at least three are needed. All verdicts together are right with a probability of
    /// `confidence`, however often one looks (docs/experiments.md has the test).
    ///
    /// The map has the values of the answer by their names, if there is one, and `decided`, `metric`, `margin`,
    /// `confidence`, `settings` (their values, `verdict`, `difference` to the setting with the best mean, above 0 where
    /// it is worse, `interval` (half of it), `seeds`, and `seeds_needed` of those that are open), `left_out` (settings with a
    /// trial that failed), and `summary`: all of it in one sentence.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }])
    ///     .tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, data, #{ grid: #{ rank: [2, 4], seed: 3 }, train: #{ steps: 1 }, out: "runs/one" });
    /// let decision = result.decide(#{ margin: 0.01 });
    /// print(decision.summary);
    /// if decision.decided { print(`rank ${decision.rank}`); }
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn decide(result: &mut SweepResult, options: Map) -> RhaiResultOf<Map> {
        let options: DecideOptions = Options::read("decide", options)?;
        Ok(to_map(&result.read()?.decide(&options)?.fields()))
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
