//! Sweeps: many trials over one base, with their charts and report. Their results are in `sweep_result`.

use crate::error::{Error, Result};
use crate::lora::{self, Adapter, LoraSpec};
use crate::options;
use crate::options::OptionSet;
use crate::plot::about::About;
use crate::plot::publish::publish_report;
use crate::script::api::loops::identity_of;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::callback::Callback;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::function_identity;
use crate::script::values::grid::{list_ranges, options_at, NamedValues};
use crate::script::values::handles::Handle;
use crate::script::values::json::to_json;
use crate::script::values::objects::{ScriptRun, TokenizedSplit};
use crate::script::values::option_value::OptionsOf;
use crate::script::values::options::Options;
use crate::script::values::run_functions;
use crate::script::values::sweep_functions::{LossOfTrial, SweepFunctions, TrialTraining};
use crate::script::values::sweep_inputs::{RowsOption, SweepArguments, SweepInputs};
use crate::sweep::decide::DecideOptions;
use crate::sweep::grid::{BASE, DATA, LOSS};
use crate::sweep::lora::TrialFunctions;
use crate::sweep::options::of_all_points;
use crate::sweep::progress::SweepProgress;
use crate::sweep::rounds::{run_in_rounds, Round};
use crate::sweep::{
    LoraSweep, Measurements, Point, SweepOptions, SweepReport, SweepResult, Trial, TrialSettings, TrialSweep,
};
use crate::train::checkpoint::CheckpointOptions;
use crate::train::loop_run::{LoopRun, LoopRunOptions};
use crate::train::origin::Origin;
use crate::train::progress::Progress;
use crate::train::settings_diff;
use rhai::plugin::*;
use rhai::{Dynamic, FnPtr, Map};
use serde_json::{json, Value};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

options! {
    #[derive(Debug, Clone)]
    struct SweepCall {
        sweep: SweepOptions = SweepOptions::default(), is set;
        /// Add seeds to the settings that may still be the answer, until it is known which setting is the first that is enough:
        /// `#{ margin: 0.01 }`, with the options of `decide`. Without an axis `seed` there are three to begin with.
        decide: Option<OptionsOf<DecideOptions>> = None;
        /// Options of the adapters. A function is called with the point, as in `alpha: |p| 2 * p.rank`.
        lora: OptionsOf<LoraSpec> = OptionsOf::default();
        /// Options of the training. A function is called with the point, except for `loss`, which is one itself.
        train: OptionsOf<TrialTraining> = OptionsOf::default();
        /// The rows of every trial, where they are no argument and no axis: a split of tokenized rows, or `|p|`, which makes
        /// one of `p.base`, and of `p.data` where the data is an axis.
        data: Option<RowsOption> = None;
        /// Measures each trained adapter: `|model, point|` returns a map of numbers, which are columns of the results.
        metrics: Option<FnPtr> = None;
        /// An experiment of your own for each point, instead of training an adapter: `|point, run|` returns a map of numbers.
        trial: Option<FnPtr> = None;
        /// With `trial`: what the results depend on beside the point. Trials that finished with other settings run again.
        settings: Map = Map::new();
    }
}

impl SweepCall {
    /// The options of the sweep, with what it decides.
    fn options(&self) -> Result<SweepOptions> {
        let decide = self.decide.as_ref().map(|decide| Options::read_inner("sweep", "decide", decide.values.clone()));
        Ok(SweepOptions { decide: decide.transpose()?, ..self.sweep.clone() })
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("sweep", SweepCall::table)];

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
    /// `metrics: |model, point|` measures each trained adapter: a map of numbers, which are columns of results, table, charts
    /// and `best`. Trials that finished before it was given have none.
    ///
    /// `prune` stops trials early that fall behind: docs/experiments.md, "Stop the losers early".
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
    #[rhai_fn(name = "sweep", return_raw, volatile)]
    pub fn sweep(
        context: NativeCallContext,
        base: Model,
        data: TokenizedSplit,
        options: Map,
    ) -> RhaiResultOf<SweepResult> {
        run_lora_sweep(&context, Some(&base), Some(&data), options)
    }

    /// Train one adapter per point of a grid in which the data is an axis.
    ///
    /// `data` in the grid is a map of splits by their names, which stand for them in tables, charts and folder names. Any
    /// axis may be such a map. Trials on the same rows train side by side.
    ///
    /// The option `data` has the rows where they are no axis.
    ///
    /// ```rhai
    /// let base = load_model("scripts/tiny");
    /// let rows = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }]);
    /// let small = rows.tokenize(base, #{}).split(#{ test: 1 });
    /// let all = rows.concatenate(rows).tokenize(base, #{}).split(#{ test: 1 });
    /// let result = sweep(base, #{
    ///     grid:  #{ data: #{ small: small, all: all }, rank_pattern: #{ flat: #{}, deep: #{ down_proj: 4 } } },
    ///     lora:  #{ r: 2, target_modules: "all-linear" },
    ///     train: #{ steps: 1 },
    ///     out:   "runs/data",
    ///     metrics: |model, point| #{ held_out: evaluate(model, point.data.test, #{}).loss } });
    /// print(result.table());
    /// ```
    #[rhai_fn(name = "sweep", return_raw, volatile)]
    pub fn sweep_over_data(context: NativeCallContext, base: Model, options: Map) -> RhaiResultOf<SweepResult> {
        run_lora_sweep(&context, Some(&base), None, options)
    }

    /// Run an experiment of your own at each point of a grid, or train adapters of several bases.
    ///
    /// `trial: |point, run|` gets the values of the point as a map and a run in the trial's folder, with `run.log`,
    /// `run.checkpoint`, `run.resume` and `run.folder` as after `start_run`. It returns a map of numbers, the columns of the
    /// results; true counts as 1, and `()` is left out. Trials run one after the other. Those that are finished in `out` are
    /// not run again; one that was cut off begins again, and goes on where it calls `run.resume`. One that fails is recorded,
    /// and the rest go on.
    ///
    /// Without `trial`, the grid has an axis `base`: a map of models by their names. Each trial trains an adapter of its model,
    /// as `sweep(base, data, options)` does; those of one model train side by side. The option `data` has the rows, or makes
    /// them for each model: `data: |p| rows.tokenize(p.base, #{ … }).split(#{ test: 0.1 })`. docs/experiments.md has an example.
    ///
    /// ```rhai
    /// let result = sweep(#{
    ///     grid: #{ slope: [1, 2], seed: 2 },
    ///     out: "runs/slopes",
    ///     trial: |point, run| {
    ///         let y = 0.0;
    ///         for step in 1..=3 {
    ///             y += point.slope + 0.1 * point.seed;
    ///             run.log(step, #{ y: y });
    ///         }
    ///         #{ score: y }
    ///     } });
    /// print(result.best("score").slope);
    /// ```
    #[rhai_fn(name = "sweep", return_raw, volatile)]
    pub fn sweep_of_trials(context: NativeCallContext, options: Map) -> RhaiResultOf<SweepResult> {
        let has_bases =
            options.get("grid").and_then(|grid| grid.read_lock::<Map>()).is_some_and(|grid| grid.contains_key(BASE));
        if has_bases && !options.contains_key("trial") {
            return run_lora_sweep(&context, None, None, options);
        }
        run_trial_sweep(&context, options)
    }
}

/// Axes whose values need names in a LoRA sweep: what they are, and how they are written.
const NAMED_AXES: [(&str, &str, &str); 3] = [
    (BASE, "models", "base: #{ small: m1, large: m2 }"),
    (DATA, "rows", "data: #{ small: d1, all: d2 }"),
    (LOSS, "functions", "loss: #{ built_in: (), smooth: |model, batch| … }"),
];

/// As a script calls it: base and data are arguments, axes of the grid, or the option `data`.
fn run_lora_sweep(
    context: &NativeCallContext,
    base: Option<&Handle<lora::Model>>,
    data: Option<&TokenizedSplit>,
    mut options: Map,
) -> RhaiResultOf<Handle<SweepResult>> {
    State::of(context)?.ensure_alone("sweep")?;
    list_ranges(&mut options, context.engine());
    NamedValues::ensure_named(&options, &NAMED_AXES)?;
    let named = NamedValues::take(&mut options);
    let call: SweepCall = Options::read("sweep", options)?;
    if call.trial.is_some() || !call.settings.is_empty() {
        return Err(Error::input("sweep: `trial` and `settings` are for experiments without a base and data")
            .with_hint("write sweep(#{ grid: …, out: …, trial: |point, run| … })")
            .into());
    }
    let (options, state, started) = (call.options()?, State::of(context)?, Instant::now());
    let mut about: Option<About> = None;
    let mut run_round = |round: &Round| -> RhaiResultOf<SweepReport> {
        let points = round.grid.points();
        let arguments = SweepArguments { base, data, rows: call.data.as_ref() };
        let inputs = SweepInputs::resolve(&points, &named, arguments, context)?;
        let (settings, losses) = settings_of_points(&points, &call, &named, &inputs, context)?;
        let metrics = call.metrics.clone().map(|function| {
            Callback::new(context, function)
                .with_arity_hint("metrics takes the model and the point: |model, point| #{ … }")
        });
        let functions = SweepFunctions { context, inputs: &inputs, named: &named, metrics, losses };
        let measure = |trial: &Trial, adapter: Adapter| functions.measure(trial, adapter);
        let loss = |trial: &Trial, adapter: Adapter| functions.loss(trial, adapter);
        let out = &round.options.out;
        let sweep = LoraSweep {
            options: &round.options,
            settings,
            inputs: inputs.of_trials(),
            origins: origins(&state, &inputs, points.len(), out)?,
            functions: TrialFunctions {
                metrics: functions.metrics.is_some().then_some(&measure),
                losses: functions.losses.iter().any(Option::is_some).then_some(&loss),
            },
            grid: round.grid.clone(),
            round: round.number,
            keeps_pruned: round.number.is_some_and(|number| number > 0),
            is_shared: state.is_shared(),
        };
        let (folder, progress) = (state.folder_to_write(out)?, SweepProgress::new(state.quiet()));
        let report = sweep.run(&folder, state.pace(), progress, &mut |line| state.note(line))?;
        if report.forecast.is_none() {
            state.count_trials(out, report.result.failed().count(), report.result.rows().len());
        }
        state.note_sweep(out, report.forecast.as_ref(), inputs.base(0)?.decoder().device);
        if options.charts {
            let of_round = About::sweep(&report, inputs.single_base(), started.elapsed().as_secs_f64())?;
            let bases = inputs.bases().filter(|_| inputs.single_base().is_none());
            about = Some(of_round.with_bases(bases));
        }
        Ok(report)
    };
    let names = SweepOptions::axis_names();
    let report = run_in_rounds(&options, Some(&names), state.pace(), &mut run_round, &mut |line| state.note(line))?;
    if let Some(about) = about {
        publish(&state, &report, about)?;
    }
    Ok(Handle::new(report.result))
}

/// Where the trials come from, each with its base.
fn origins(state: &State, inputs: &SweepInputs, points: usize, out: &Path) -> Result<Vec<Arc<Origin>>> {
    let mut known: Vec<(*const lora::Model, Arc<Origin>)> = Vec::new();
    let of_point = |point: usize| {
        let base: *const lora::Model = inputs.base(point)?;
        if let Some((_, origin)) = known.iter().find(|(other, _)| *other == base) {
            return Ok(origin.clone());
        }
        let origin = Arc::new(origin::of(state, Some(inputs.base(point)?), out)?);
        known.push((base, origin.clone()));
        Ok(origin)
    };
    (0..points).map(of_point).collect()
}

fn publish(state: &State, report: &SweepReport, about: About) -> Result<()> {
    if !report.result.writes_report {
        return Ok(());
    }
    let about = about.with_script(state.script(), state.source(), &state.settings()?);
    let note = publish_report(report, &about)?.filter(|_| state.pace().is_full());
    note.iter().for_each(|note| state.note(note));
    Ok(())
}

fn run_trial_sweep(context: &NativeCallContext, mut options: Map) -> RhaiResultOf<Handle<SweepResult>> {
    State::of(context)?.ensure_alone("sweep")?;
    list_ranges(&mut options, context.engine());
    let named = NamedValues::take(&mut options);
    let call: SweepCall = Options::read("sweep", options)?;
    let (state, started) = (State::of(context)?, Instant::now());
    let Some(function) = call.trial.clone() else {
        return Err(Error::input("sweep: expected `trial`, found no experiment and no base model")
            .with_hint(
                "trial: |point, run| #{ … }; to train adapters sweep(base, data, #{ … }), or grid: #{ base: #{ … } }",
            )
            .into());
    };
    ensure_trial_options(&call)?;
    let options = call.options()?;
    let settings = |point: &Point| trial_settings(&state, &named, &call.settings, point);
    let callback = Callback::new(context, function)
        .with_arity_hint("a trial takes the values of its point and a run: |point, run| #{ score: 1.0 }");
    let mut run_round = |round: &Round| -> RhaiResultOf<SweepReport> {
        let out = &round.options.out;
        let sweep = TrialSweep {
            grid: round.grid.clone(),
            settings: &settings,
            origin: Some(origin::of(&state, None, out)?),
            decide: round.options.decide.clone(),
            tuned: round.options.tune.as_ref().map(|tune| tune.option.clone()),
            round: round.number,
            is_shared: state.is_shared(),
        };
        let mut run_trial = |trial: &Trial| run_one(&state, &named, &callback, out, trial);
        let (folder, progress) = (state.folder_to_write(out)?, SweepProgress::lines(state.quiet()));
        let report = sweep.run(out, &folder, state.pace(), progress, &mut run_trial, &mut |line| state.note(line))?;
        let failed = report.result.failed();
        if state.pace().is_full() {
            state.count_trials(out, failed.count(), report.result.rows().len());
        } else {
            state.note_failing(failed.map(|row| format!("{} would fail: {}", row.point, row.value("error"))));
        }
        Ok(report)
    };
    let report = run_in_rounds(&options, None, state.pace(), &mut run_round, &mut |line| state.note(line))?;
    if options.charts {
        publish(&state, &report, About::sweep(&report, None, started.elapsed().as_secs_f64())?)?;
    }
    Ok(Handle::new(report.result))
}

/// Refuses what has no effect in experiments of the script's own.
fn ensure_trial_options(call: &SweepCall) -> Result<()> {
    let CheckpointOptions { save_every, save_strategy, keep_last, resume } = &call.sweep.checkpoints;
    let without_effect = [
        ("lora", !call.lora.values.is_empty()),
        ("train", !call.train.values.is_empty()),
        ("data", call.data.is_some()),
        ("metrics", call.metrics.is_some()),
        ("verify", call.sweep.verify),
        ("prune", call.sweep.prune.0.is_some()),
        ("save_every", save_every.is_some()),
        ("save_strategy", save_strategy.is_some()),
        ("keep_last", keep_last.is_some()),
        ("resume", resume.is_some()),
    ];
    let Some((name, _)) = without_effect.into_iter().find(|(_, is_set)| *is_set) else { return Ok(()) };
    Err(Error::input(format!("sweep: `{name}` has no effect with `trial`"))
        .with_hint("the function does all of that itself"))
}

/// What the results of a trial depend on, as far as it shows: the function itself does not.
fn trial_settings(state: &State, named: &NamedValues, settings: &Map, point: &Point) -> Result<Value> {
    let mut complete = json!({
        "point": point.values,
        "settings": to_json(&Dynamic::from_map(settings.clone())).map_err(|error| error.context("sweep: `settings`"))?,
        "args": state.settings()?,
        "lorhai": env!("CARGO_PKG_VERSION"),
    });
    for (axis, values) in named.axes() {
        let value = point.get(axis).and_then(Value::as_str).and_then(|name| values.get(name));
        complete["values"][axis] = value.map_or(Ok(Value::Null), identity_of)?;
    }
    Ok(complete)
}

/// Runs the experiment of a point with a run in its folder.
fn run_one(state: &State, named: &NamedValues, callback: &Callback, out: &Path, trial: &Trial) -> Result<Measurements> {
    let started = Instant::now();
    let run = LoopRun::in_trial(&trial.dir, LoopRunOptions::default(), Progress::Quiet);
    // A worker of a shared sweep trains in a folder of its own.
    let folder = if state.is_shared() { trial.dir.clone() } else { out.join(&trial.name) };
    let run = Handle::new(ScriptRun { out: folder, run, has_model: true });
    let point = Dynamic::from_map(named.values_at(&trial.point));
    let results = callback.call_for_map([point, Dynamic::from(run.clone())]).map_err(|error| {
        // The record of a trial has no place in a script.
        let line = callback.failed_line().map_or(String::new(), |line| format!(", line {line}"));
        error.context(format!("trial{line}"))
    });
    let results = results.and_then(|results| run_functions::results("trial", &results));
    let run = &mut run.write()?.run;
    match results {
        Ok(results) => {
            run.finish(None, &mut |line| state.note(line))?;
            Ok(Measurements::of(results, started.elapsed().as_secs_f64()))
        }
        Err(error) => {
            run.fail(&error)?;
            Err(error)
        }
    }
}

/// Resolves every point before the first trial starts, so that a mistake costs nothing.
fn settings_of_points(
    points: &[Point],
    call: &SweepCall,
    named: &NamedValues,
    inputs: &SweepInputs,
    context: &NativeCallContext,
) -> RhaiResultOf<(Vec<TrialSettings>, Vec<Option<LossOfTrial>>)> {
    let mut all = Vec::new();
    for (number, point) in points.iter().enumerate() {
        let values = inputs.values_at(named, number, point);
        let spec = options_at(&call.lora, "lora", &values, context)?;
        let training = options_at(&call.train, "train", &values, context)?;
        all.push(spec.and_then(|spec| settings_at(point, spec, training?, context)));
    }
    Ok(of_all_points(points, all)?.into_iter().unzip())
}

fn settings_at(
    point: &Point,
    spec: LoraSpec,
    TrialTraining { config, loss }: TrialTraining,
    context: &NativeCallContext,
) -> Result<(TrialSettings, Option<LossOfTrial>)> {
    let identity = loss.as_ref().map(|function| identity_of_loss(context, function)).transpose()?;
    let loss = loss.map(|function| LossOfTrial::new(context, function)).transpose()?;
    let settings = TrialSettings { point: point.clone(), spec, config, loss: identity.unwrap_or_default() };
    Ok((settings, loss))
}

/// For the settings of a trial: changes where the function does, or a value that it captures.
fn identity_of_loss(context: &NativeCallContext, function: &FnPtr) -> Result<Value> {
    let script = State::of(context).map(|state| state.source()).unwrap_or_default();
    let text = |arguments: usize| function_identity::identity(context, function, arguments, &script);
    let Some(text) = text(2).or_else(|| text(3)) else { return Ok(json!("function")) };
    let captured: Vec<Value> =
        function.iter_curry().map(|value| identity_of(&value.flatten_clone())).collect::<Result<_>>()?;
    if captured.is_empty() {
        return Ok(json!({ "function": text }));
    }
    Ok(json!({ "function": text, "captured": settings_diff::fingerprint(&json!(captured)) }))
}
