//! Sweeps: many trials over one base, their table, charts and report.

use crate::lora::LoraSpec;
use crate::options;
use crate::options::{OptionSet, Table};
use crate::plot::about::About;
use crate::plot::publish::{publish, REPORT};
use crate::script::api::tokens::TokenizedSplit;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::values_of_range;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_dynamic;
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::sweep::progress::SweepProgress;
use crate::sweep::table::TableOptions;
use crate::sweep::{self, Grid, LoraSweep, Point, SweepOptions, TrialSettings};
use crate::train::TrainConfig;
use crate::{Error, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, Map};
use serde_json::Value;
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
        let settings = settings(&grid, &call, &context)?;
        let origin = Some(origin::of(&state, &base, &options.out)?);
        let (train, test) = (&data.train.rows, &data.test.rows);
        let sweep = LoraSweep { base: &base, train, test, options, grid, settings, origin };
        let (folder, progress) = (state.folder_to_write(&options.out)?, SweepProgress::new(state.quiet()));
        let report = sweep.run(&folder, state.pace(), progress, &mut |line| state.note(line))?;
        if report.forecast.is_none() {
            state.count_trials(&options.out, report.result.failed().count(), report.result.rows().len());
        }
        state.planned_sweep(&options.out, report.forecast.as_ref(), base.decoder().device);
        if options.charts {
            let seconds = started.elapsed().as_secs_f64();
            let about = About::sweep(&report.result, &base, seconds, &report.deviations)?;
            let script = Some((state.script(), state.source()));
            publish(&report.result, &About { script, settings: script_settings(&state)?, ..about })?;
            if report.forecast.is_none() {
                state.note(&format!("report: {}", report.result.out.join(REPORT).display()));
            }
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
        match to_dynamic(&result.read()?.to_json()).into_array() {
            Ok(rows) => Ok(rows),
            Err(kind) => Err(Error::bug(format!("expected the results as an array, found {kind}")).into()),
        }
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
        Ok(best_map(&result, &result.best(metric)?))
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
        Ok(best_map(&result, &result.best(result.default_metric())?))
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
        Ok(row_map(&result, result.best_trial(metric)?))
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

fn row_map(result: &sweep::SweepResult, row: &sweep::TrialRow) -> Map {
    let columns = result.columns().into_iter();
    columns.map(|column| (column.into(), to_dynamic(&row.value(column)))).collect()
}

fn best_map(result: &sweep::SweepResult, best: &sweep::BestSetting) -> Map {
    let point = |point: &Point| -> Map {
        point.values.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect()
    };
    let or_unit = |number: Option<f64>| number.map_or(Dynamic::UNIT, Dynamic::from);
    let rival = |rival: &sweep::Rival| {
        let mut map = point(&rival.point);
        map.insert("difference".into(), rival.difference.mean.into());
        map.insert("interval".into(), or_unit(rival.difference.half_width()));
        Dynamic::from_map(map)
    };
    let mut map = point(&best.point);
    let rows = best.rows.iter().map(|row| Dynamic::from_map(row_map(result, row)));
    let seeds = best.seeds();
    let fields: [(&str, Dynamic); 10] = [
        (best.metric.as_str(), best.summary.mean.into()),
        ("metric", best.metric.clone().into()),
        ("mean", best.summary.mean.into()),
        ("spread", or_unit(best.summary.spread)),
        ("n", (best.summary.n as i64).into()),
        ("seeds", to_dynamic(&Value::Array(seeds))),
        ("trials", rows.collect::<Array>().into()),
        ("within_noise", best.within_noise.iter().map(rival).collect::<Array>().into()),
        ("unranked", best.unranked.iter().map(|one| Dynamic::from_map(point(one))).collect::<Array>().into()),
        ("summary", best.to_string().into()),
    ];
    map.extend(fields.into_iter().map(|(name, value)| (name.into(), value)));
    map
}

/// Resolves every point before the first trial starts, so that a mistake costs nothing.
fn settings(grid: &Grid, options: &SweepCall, context: &NativeCallContext) -> RhaiResultOf<Vec<TrialSettings>> {
    let points = grid.points().into_iter();
    points
        .map(|point| {
            let lora = at_point("lora", LoraSpec::table(), &options.lora.values, &point, context)?;
            let train = at_point("train", TrainConfig::table(), &options.train.values, &point, context)?;
            let spec = Options::read_inner("sweep", "lora", lora)?;
            let config = Options::read_inner("sweep", "train", train)?;
            Ok(TrialSettings { point, spec, config })
        })
        .collect()
}

/// Writes out ranges with steps among the values of axes, which only the engine can read.
fn list_ranges(options: &mut Map, engine: &Engine) {
    let Some(mut grid) = options.get_mut("grid").and_then(|grid| grid.write_lock::<Map>()) else { return };
    for values in grid.values_mut() {
        if let Some(listed) = values_of_range(values, engine) {
            *values = listed.into();
        }
    }
}

/// The options at one point: functions called with it, its own values put in.
fn at_point(
    group: &str,
    table: &'static Table,
    options: &Map,
    point: &Point,
    context: &NativeCallContext,
) -> RhaiResultOf<Map> {
    let values: Map = point.values.iter().map(|(key, value)| (key.as_str().into(), to_dynamic(value))).collect();
    let mut resolved = Map::new();
    for (name, value) in options {
        let value = match value.clone().try_cast::<FnPtr>() {
            None => value.clone(),
            Some(function) => {
                let callback = Callback::new(context, function);
                let called = callback.call::<Dynamic>([Dynamic::from_map(values.clone())]);
                callback.settle(called)?
            }
        };
        resolved.insert(name.clone(), value);
    }
    for (key, value) in &values {
        let Some(option) = table.find(key) else { continue };
        if let Some(twice) = resolved.keys().find(|name| option.is_called(name)) {
            let text = format!("sweep: `{key}` is an axis of the grid and `{group}.{twice}` is given too");
            return Err(Error::input(text).with_hint("leave one of them out").into());
        }
        resolved.insert(option.name.into(), value.clone());
    }
    Ok(resolved)
}

/// The settings that `args` resolved, for the report.
fn script_settings(state: &State) -> Result<Vec<(String, String)>> {
    Ok(match state.settings()? {
        Value::Object(settings) => settings.into_iter().map(|(key, value)| (key, plain(&value))).collect(),
        _ => Vec::new(),
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use crate::script::engine::session::printed_by;
    use std::path::Path;

    /// A sweep of one trial over `base` into `out`, as text of a script.
    fn sweep(base: &str, out: &Path) -> String {
        format!(
            r#"let base = {base};
            let rows = [#{{ prompt: "a", completion: " b" }}, #{{ prompt: "c", completion: " d" }}];
            let data = dataset(rows).tokenize(base, #{{}}).split(#{{ test: 1 }});
            let result = sweep(base, data, #{{ grid: #{{ rank: [2] }}, train: #{{ steps: 1 }}, charts: false,
                                               out: "{}" }});
            print(`${{result.trained}} ${{result.rows[0].eval_loss}}`);"#,
            out.display()
        )
    }

    #[test]
    fn a_trial_over_other_weights_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sweep");
        let bases = [
            r#"load_model("scripts/tiny", #{ dtype: "f32" })"#,
            r#"random_model("scripts/tiny", #{ seed: 1 })"#,
            r#"random_model("scripts/tiny", #{ seed: 2 })"#,
        ];
        let mut found = Vec::new();
        for base in bases {
            let script = sweep(base, &out);
            let (first, again) = (printed_by(&script).unwrap(), printed_by(&script).unwrap());
            assert!(first.starts_with("1 "), "{base} trained {first}");
            assert_eq!(again, first.replacen('1', "0", 1), "{base} once more");
            found.push(first);
        }
        found.dedup();
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn the_settings_of_a_loaded_model_stay_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sweep");
        printed_by(&sweep(r#"load_model("scripts/tiny")"#, &out)).unwrap();
        let settings = crate::files::read_json(&out.join("rank-2/config.json")).unwrap();
        let text = settings.to_string();
        assert!(text.contains("fingerprint") && !text.contains("random_seed"), "{text}");
    }

    #[test]
    fn a_base_that_is_trained_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (out, saved) = (folder.path().join("sweep"), folder.path().join("saved"));
        let trained = sweep(r#"load_model("scripts/tiny", #{ dtype: "f32" }); base.train_all()"#, &out);
        let error = printed_by(&trained).unwrap_err();
        assert!(error.contains("expected a frozen base") && error.contains("model.save(folder)"), "{error}");
        assert!(!out.exists());
        let kept = format!(
            r#"{{ let m = random_model("scripts/tiny", #{{}}); m.train_all(); m.save("{0}"); load_model("{0}") }}"#,
            saved.display()
        );
        assert!(printed_by(&sweep(&kept, &out)).unwrap().starts_with("1 "));
    }
}
