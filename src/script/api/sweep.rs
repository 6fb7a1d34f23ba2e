//! Sweeps: many trials over one base, their table, charts and report.

use crate::data::python::strftime_now;
use crate::eval::loss::ensure_labelled;
use crate::lora::adapter::trainable_count;
use crate::lora::LoraSpec;
use crate::model::device;
use crate::plot::publish::{publish, About};
use crate::script::api::tokens::TokenizedSplit;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::from_script::values_of_range;
use crate::script::values::handles::Handle;
use crate::script::values::json::{to_dynamic, to_json};
use crate::script::values::options::Options;
use crate::script::values::settings::{self, LORA, TRAIN};
use crate::sweep::lora::{Shared, Task};
use crate::sweep::progress::SweepProgress;
use crate::sweep::rehearsal::rehearse;
use crate::sweep::table::TableOptions;
use crate::sweep::verify::{verify, Deviation};
use crate::sweep::{self, lanes, Event, Grid, Plan, Point};
use crate::train::TrainConfig;
use crate::{lora, Error, Result};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FnPtr, Map};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use std::time::Instant;

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;
    /// The trials of a sweep and what became of them.
    pub type SweepResult = Handle<crate::sweep::SweepResult>;

    /// Train one adapter per point of a grid over one base, and measure each on held-out rows.
    ///
    /// Options: `grid` (map from any option of `lora` or `train` to its values; `seed` may be a
    /// count), `lora` (the options of `add_lora` but `name` and `seed`; a function gets the point, as in
    /// `alpha: |p| 2 * p.rank`), `train` (the options of `train` but `out`), `out` (the folder of the sweep;
    /// required), `charts` (true: `charts/` and `report.html` in `out`), `verify` (false; true trains
    /// two trials again, each alone, and tells how far they lie from those in company).
    ///
    /// Trials train side by side over the one base, as many as fit into memory, each on its own
    /// rows: what a trial comes to does not depend on its company but for rounding.
    ///
    /// Rows of the result also have `peak_memory`: the most bytes held while a trial and those beside it trained,
    /// by the whole process, or on a GPU by tensors.
    ///
    /// Trials that are finished in `out` are not run again; one that failed is recorded and the
    /// rest go on. Paired by default: every rank sees the same data in the same order, and the A
    /// of a smaller rank is the first rows of the A of a larger one.
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
        options: Map,
    ) -> RhaiResultOf<SweepResult> {
        let mut options = Options::new("sweep", options);
        let asked = Asked::read(&mut options, context.engine())?;
        options.finish()?;
        let state = State::of(&context)?;
        let started = Instant::now();
        let base = base.read()?;
        let settings = asked.settings(&context)?;
        let plan = asked.plan(&base, &data, &settings, &state)?;
        note_optimizers(&base, &settings, &state);
        let (result, deviations) = run(&base, &data, &plan, &settings, &asked, &state)?;
        if asked.charts {
            let mut about = about(&base, &asked, &state, started.elapsed().as_secs_f64())?;
            about.environment.extend(deviations.iter().map(|found| ("verified".to_owned(), found.to_string())));
            for path in publish(&result, &about)? {
                if path.extension().is_some_and(|extension| extension == "html") && !state.rehearsing() {
                    state.note(&format!("report: {}", path.display()));
                }
            }
        }
        Ok(Handle::new(result))
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

    /// The results as a table.
    ///
    /// Options: `over` ("seed": the axis whose trials are taken together), `metric` ("eval_loss":
    /// compared with the baseline), `baseline` (the first value of every axis; a map of axis
    /// values).
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
        let mut options = Options::new("table", options);
        let baseline: Option<Map> = options.take_opt("baseline")?;
        let baseline = baseline.map(|map| to_json(&map.into())).transpose()?;
        let chosen = TableOptions {
            over: options.take_opt("over")?,
            metric: options.take_opt("metric")?,
            baseline: baseline.and_then(|value| value.as_object().cloned()),
        };
        options.finish()?;
        Ok(result.read()?.table_with(&chosen)?)
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
            Err(found) => Err(Error::bug(format!("the results are no array but {found}")).into()),
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

fn row_map(result: &sweep::SweepResult, row: &sweep::Row) -> Map {
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

/// The options of `sweep`, before the functions among them are called.
struct Asked {
    grid: Grid,
    lora: Map,
    train: Map,
    out: PathBuf,
    charts: bool,
    verify: bool,
}

/// The settings of every point, in the order of the grid.
type Settings = Vec<(Point, LoraSpec, TrainConfig)>;

impl Asked {
    fn read(options: &mut Options, engine: &Engine) -> Result<Self> {
        let grid: Map = options
            .take_required("grid")
            .map_err(|error| error.with_hint("name what varies, e.g. grid: #{ rank: [4, 8, 16] }"))?;
        let listed = |value: Dynamic| values_of_range(&value, engine).map_or(value, Dynamic::from);
        let grid: Map = grid.into_iter().map(|(key, value)| (key, listed(value))).collect();
        let grid = to_json(&grid.into())?;
        let names: Vec<&str> = [LORA, TRAIN]
            .concat()
            .into_iter()
            .flat_map(|(short, others)| [short].into_iter().chain(others.iter().copied()))
            .collect();
        Ok(Asked {
            grid: Grid::from_json(grid.as_object().unwrap_or(&serde_json::Map::new()), &names)?,
            lora: options.take("lora", Map::new())?,
            train: options.take("train", Map::new())?,
            out: options.take_required("out")?,
            charts: options.take("charts", true)?,
            verify: options.take("verify", false)?,
        })
    }

    /// Resolves every point before the first trial starts, so that a mistake costs nothing.
    fn settings(&self, context: &NativeCallContext) -> RhaiResultOf<Settings> {
        let points = self.grid.points().into_iter();
        points
            .map(|point| {
                let lora = at_point("lora", LORA, &self.lora, &point, context)?;
                let train = at_point("train", TRAIN, &self.train, &point, context)?;
                let mut lora = Options::new("sweep: lora", lora);
                let spec = settings::lora_spec(&mut lora).and_then(|spec| lora.finish().map(|()| spec));
                let mut train = Options::new("sweep: train", train);
                let config = settings::train_config(&mut train).and_then(|config| train.finish().map(|()| config));
                Ok((point, spec?, config?))
            })
            .collect()
    }

    fn plan(&self, base: &lora::Model, data: &TokenizedSplit, settings: &Settings, state: &State) -> Result<Plan> {
        base.adapted.ensure_unmerged()?;
        base.adapted.ensure_base_frozen()?;
        ensure_labelled(&data.test.rows)?;
        let decoder = base.decoder();
        let mut shared = json!({
            "model": { "name": base.name, "fingerprint": base.fingerprint()? },
            "dtype": device::dtype_name(decoder.dtype),
            "device": device::device_name(decoder.device),
            "data": { "train": data.train.rows.fingerprint(), "test": data.test.rows.fingerprint() },
            "lorhai": env!("CARGO_PKG_VERSION"),
        });
        // Only where there is one, so that sweeps over loaded models stay as finished as they are.
        if let Some(seed) = base.random_seed {
            shared["model"]["random_seed"] = seed.into();
        }
        if let Some(count) = base.resized {
            shared["model"]["vocab_size"] = count.into();
        }
        // It goes into what every trial saves.
        if let Some(template) = base.assigned_template() {
            shared["model"]["chat_template"] = template.into();
        }
        if let Some(quantization) = decoder.config.quantization {
            shared["quantization"] = quantization.to_json(decoder.dtype);
        }
        // A rehearsal looks at the true folder, and moves the plan by itself.
        let out = if state.rehearsing() { self.out.clone() } else { state.folder_to_write(&self.out)? };
        let mut plan = Plan::new(out, self.grid.clone(), json!({ "model": base.name }), |point| {
            let found = settings.iter().find(|(known, _, _)| known == point);
            let (_, spec, config) = found.ok_or_else(|| Error::bug("a point without settings"))?;
            config.check()?;
            check_targets(spec, base)?;
            let mut complete = json!({ "lora": spec, "train": config });
            if let (Value::Object(complete), Value::Object(shared)) = (&mut complete, shared.clone()) {
                complete.extend(shared);
            }
            Ok(complete)
        })?;
        plan.origin = Some(origin::of(state, base, &self.out)?);
        Ok(plan)
    }
}

/// What is told of each name of AdamW, with the states of the largest adapter.
fn note_optimizers(base: &lora::Model, settings: &Settings, state: &State) {
    let count = |spec: &LoraSpec| trainable_count(spec, &base.decoder().config).unwrap_or(0);
    let most = settings.iter().map(|(_, spec, _)| count(spec)).max().unwrap_or(0);
    let mut notes: Vec<String> = settings.iter().filter_map(|(_, _, config)| config.optim.note(most)).collect();
    notes.sort();
    notes.dedup();
    notes.iter().for_each(|note| state.note(note));
}

/// A misspelt target or a rank that cannot be is the same mistake in every trial: refused
/// before the first.
fn check_targets(spec: &LoraSpec, base: &lora::Model) -> Result<()> {
    lora::adapter::trainable_count(spec, &base.decoder().config).map(|_| ())
}

/// The options at one point: functions called with it, its own values put in.
fn at_point(
    group: &str,
    table: settings::Names,
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
        let Some(short) = settings::short_name(table, key) else { continue };
        if let Some(twice) = resolved.keys().find(|name| settings::short_name(table, name) == Some(short)) {
            let text = format!("sweep: `{key}` is an axis of the grid and `{group}.{twice}` is given too");
            return Err(Error::input(text).with_hint("leave one of them out").into());
        }
        resolved.insert(short.into(), value.clone());
    }
    Ok(resolved)
}

fn run(
    base: &lora::Model,
    data: &TokenizedSplit,
    plan: &Plan,
    settings: &Settings,
    asked: &Asked,
    state: &State,
) -> Result<(sweep::SweepResult, Vec<Deviation>)> {
    let (decoder, rows) = (base.decoder(), &data.train.rows);
    let shared =
        Shared { base: &base.name, tokenizer: base.tokenizer().ok(), train: rows, test: Some(&data.test.rows) };
    // Settings and trials are both in the order of the grid.
    let all: Vec<Task> =
        plan.trials.iter().zip(settings).map(|(trial, (_, spec, config))| Task { trial, spec, config }).collect();
    if state.rehearsing() {
        let mut observer = |event: &Event| state.note(&event.to_string());
        let place = state.folder_to_write(&plan.out)?;
        let found = rehearse(plan, &place, decoder, shared, &all, &mut observer)?;
        state.planned_sweep(&plan.out, &found, decoder.device);
        return Ok((found.result, Vec::new()));
    }
    // Its bars leave the screen before anything else is told.
    let result = lanes::run_sweep(plan, decoder, shared, &all, &SweepProgress::new(state.quiet()))?;
    let deviations = match asked.verify {
        true => verify(decoder, shared, &all, &result)?,
        false => Vec::new(),
    };
    deviations.iter().for_each(|found| state.note(&found.to_string()));
    Ok((result, deviations))
}

fn about(base: &lora::Model, asked: &Asked, state: &State, seconds: f64) -> Result<About> {
    let decoder = base.decoder();
    let settings = match state.settings()? {
        Value::Object(settings) => settings.into_iter().map(|(key, value)| (key, plain(&value))).collect(),
        _ => Vec::new(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let environment = [
        ("lorhai", env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch", env!("LORHAI_LIBTORCH_VERSION").to_owned()),
        ("model", base.name.clone()),
        ("parameters", crate::format::thousands(decoder.config.parameter_count())),
        ("dtype", decoder.weights_dtype()),
        ("device", device::device_name(decoder.device)),
        ("threads", format!("{} of {cores} cores", tch::get_num_threads())),
    ];
    Ok(About {
        title: format!(
            "Sweep over {}",
            asked.grid.axes().iter().map(|axis| axis.key.as_str()).collect::<Vec<_>>().join(", ")
        ),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        when: format!("{}, {}", strftime_now("%Y-%m-%d %H:%M %Z").map_err(Error::bug)?, took(seconds)),
        script: Some((state.script(), state.source())),
        settings,
        environment: environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    })
}

/// "took 2 min 11 s"
fn took(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("took {seconds} s"),
        (0, minutes, seconds) => format!("took {minutes} min {seconds} s"),
        (hours, minutes, _) => format!("took {hours} h {minutes} min"),
    }
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
