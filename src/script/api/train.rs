//! `train`, which is made of the parts in `step`, and the loss on held-out rows.

use crate::data::{Batch, Pace, TokenizedDataset};
use crate::files::FolderLock;
use crate::options;
use crate::options::{OptionSet, Refusal};
use crate::random::Key;
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_map;
use crate::script::values::objects::{Tokenized, TokenizedSplit};
use crate::script::values::options::Options;
use crate::script::values::reward_options::RewardOptions;
use crate::script::values::run_functions::{RunCallbacks, RunFunctions};
use crate::train::callbacks::Callbacks;
use crate::train::checkpoint::options::SaveStrategy;
use crate::train::checkpoint::{CheckpointOptions, Resume};
use crate::train::objective::Objective;
use crate::train::observer::{EvalReport, StepReport};
use crate::train::previous;
use crate::train::processes::Processes;
use crate::train::progress::Progress;
use crate::train::{TrainConfig, TrainRun};
use crate::{eval, lora, Result};
use rhai::plugin::*;
use rhai::Map;
use std::path::PathBuf;

options! {
    #[derive(Debug, Clone)]
    pub(super) struct TrainOptions {
        pub config: TrainConfig = TrainConfig::default(), is set;
        pub functions: RunFunctions = RunFunctions::default(), is set;
        pub rewards: RewardOptions = RewardOptions::default(), is set;
        /// A folder for `metrics.jsonl`, TensorBoard events, checkpoints and the adapter. A run that was cut off there
        /// goes on. The log of a finished one is replaced; its adapter is kept as `adapter.previous`, a fully trained
        /// model as `model.previous`.
        pub out: Option<PathBuf> = None;
        pub checkpoints: CheckpointOptions = CheckpointOptions::default(), is set;
    }
    rule TrainOptions::rule;
}

impl TrainOptions {
    fn rule(&self) -> Option<Refusal> {
        let CheckpointOptions { save_every, save_strategy, keep_last, resume } = &self.checkpoints;
        let asked = [
            ("save_every", save_every.is_some()),
            ("save_strategy", save_strategy.is_some_and(|strategy| strategy != SaveStrategy::No)),
            ("keep_last", keep_last.is_some()),
            ("resume", matches!(resume, Some(Resume::Yes | Resume::From(_)))),
        ];
        let (name, _) = asked.into_iter().find(|(_, is_set)| *is_set)?;
        let refusal = Refusal::new(name, "`out` with it", "no folder to save in");
        self.out.is_none().then(|| refusal.with_hint("checkpoints lie in the folder of the run: out: \"runs/one\""))
    }
}

options! {
    #[derive(Debug, Clone)]
    struct EvaluateOptions {
        /// Rows per batch.
        batch: usize = 8, alias ["batch_size"], range at_least(1.0);
    }
}

/// The options of the functions here.
pub const OPTIONS: &[OptionsOfFunction] = &[("train", TrainOptions::table), ("evaluate", EvaluateOptions::table)];

// The macro unwraps arguments whose number and types the engine has checked.
#[allow(clippy::unwrap_used)]
#[export_module(manifest)]
pub mod functions {
    /// A base model with its adapters and its tokenizer.
    pub type Model = Handle<crate::lora::Model>;

    /// Train the active adapter, or all weights after `train_all`, on tokenized rows.
    ///
    /// `data` is what `tokenize` returns, or a split of it: then the loss on the held-out rows is measured too.
    ///
    /// The result has `steps`, `train_loss`, `eval_loss`, `eval_perplexity`, `tokens`, `seconds`, `tokens_per_s`,
    /// `stopped_early`, `overfits_after` (the step of the best evaluation where held-out loss rose afterwards while
    /// training loss fell, else `()`), and `peak_memory`: the most bytes that were held during training and its
    /// evaluations, measured; on a CPU the resident memory of the whole process with the model in it, on a GPU
    /// what tensors take there; `()` where the system does not say.
    ///
    /// `objective` trains on preferences instead of examples, by DPO, ORPO, SimPO or KTO: docs/preferences.md. Then the
    /// result has the rewards too, such as `result["rewards/accuracies"]` and `result["eval_rewards/margins"]`, and
    /// `eval_perplexity` is `()`.
    ///
    /// `eval_loss` is the mean over all labels of the held-out rows. transformers and TRL report the mean of the
    /// batches' means, which weighs the labels of short batches more and depends on the batch size. docs/defaults.md
    /// has all defaults beside those of transformers and TRL.
    ///
    /// Functions may take part. `loss: |model, batch|` returns the loss of a micro-batch; the mean over the micro-batches
    /// of a step is trained on and logged. Its first `model.forward(batch)` has the dropout that the built-in loss would
    /// have. `metrics: |model|` measures the model at every evaluation. `on_step` and `on_eval` get a report: a map with
    /// `step`, `total_steps`, `epoch`, `loss`, `learning_rate`, `grad_norm`, `tokens`, `seconds` and `tokens_per_s`, or with
    /// `step`, `epoch`, `eval_loss`, `eval_perplexity`, `is_best` and the metrics. Where they return `"stop"`, the run ends
    /// as at its last step: it is evaluated, saved and finished, with `stopped_early`. An error in a function ends the run.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// let result = train(model, data, #{
    ///     steps: 2, lr: 1e-3,
    ///     loss: |model, batch| {
    ///         let output = model.forward(batch);
    ///         output.loss + 0.01 * output.hidden.pow(2).mean()
    ///     },
    ///     on_step: |report| if report.loss < 0.1 { "stop" },
    /// });
    /// print(result.train_loss);
    /// ```
    #[rhai_fn(name = "train", return_raw, volatile)]
    pub fn train(context: NativeCallContext, model: Model, data: Tokenized, options: Map) -> RhaiResultOf<Map> {
        run_training(&context, &model, &data, None, options)
    }

    /// Train on one half of a split, and measure on the other.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{}).split(#{ test: 1 });
    /// let result = train(model, data, #{
    ///     steps: 2, eval_every: 1, keep_best: true,
    ///     metrics: |model| #{ trained: evaluate(model, data.train, #{}).loss },
    /// });
    /// print(`${result.eval_loss} ${result.eval_trained}`);
    /// ```
    #[rhai_fn(name = "train", return_raw, volatile)]
    pub fn train_split(
        context: NativeCallContext,
        model: Model,
        data: TokenizedSplit,
        options: Map,
    ) -> RhaiResultOf<Map> {
        run_training(&context, &model, &data.train, Some(&data.test), options)
    }

    /// The mean loss and perplexity of the model on tokenized rows.
    ///
    /// The result has `loss` (nats per label: the mean over all labels, where Trainer's
    /// `eval_loss` is a mean of batch means), `perplexity`, `labels`.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// print(evaluate(model, data, #{ batch: 4 }).perplexity);
    /// ```
    #[rhai_fn(name = "evaluate", return_raw, volatile)]
    pub fn evaluate(context: NativeCallContext, model: Model, data: Tokenized, options: Map) -> RhaiResultOf<Map> {
        let EvaluateOptions { batch } = Options::read("evaluate", options)?;
        let (state, model) = (State::of(&context)?, model.read()?);
        data.rows.length_warning(&model).iter().for_each(|warning| state.note(warning));
        let rows = state.pace().rows(&data.rows);
        let eval = eval::loss::mean_loss(model.decoder(), &model.adapted.adapter_set(None), &rows, batch)?;
        Ok(to_map(&eval.fields()))
    }
}

fn run_training(
    context: &NativeCallContext,
    model: &Handle<lora::Model>,
    data: &Tokenized,
    test: Option<&Tokenized>,
    options: Map,
) -> RhaiResultOf<Map> {
    let options: TrainOptions = Options::read("train", options)?;
    if options.rewards.reward.is_some() {
        let refusal = Refusal::new("reward", "rows that are not tokenized with it", "tokenized rows");
        let hint = "give train the rows as they are: train(model, load_dataset(path), #{ objective: \"grpo\", … })";
        return Err(refusal.with_hint(hint).error("train").into());
    }
    let objective = options.config.objective.kind;
    if options.functions.loss.is_some() && objective != Objective::Sft {
        let refusal = Refusal::new("loss", "none beside an `objective`", "a function");
        return Err(refusal.with_hint("leave one of them out: `objective` names a loss").error("train").into());
    }
    let functions = RunCallbacks::new(context, model, options.functions.clone())?;
    let rows = RunRows { train: &data.rows, test: test.map(|test| &test.rows) };
    let state = State::of(context)?;
    let result = run_with((&state, state.pace()), model, rows, options, &functions, Callbacks::default());
    functions.settle(&[], result)
}

/// The rows of a run.
#[derive(Clone, Copy)]
pub(super) struct RunRows<'a> {
    pub train: &'a TokenizedDataset,
    pub test: Option<&'a TokenizedDataset>,
}

/// Trains a shallow clone of `model`, so that the functions can use the model itself. `callbacks` are those that the
/// library makes.
pub(super) fn run_with(
    (state, pace): (&State, Pace),
    model: &Handle<lora::Model>,
    RunRows { train, test }: RunRows,
    options: TrainOptions,
    functions: &RunCallbacks,
    callbacks: Callbacks,
) -> Result<Map> {
    let TrainOptions { config, functions: _, rewards: _, out, checkpoints } = options;
    test.map_or(Ok(()), eval::loss::ensure_labelled)?;
    let mut model = model.read()?.shallow_clone()?;
    if test.is_none() && config.eval_every.is_on_the_way() {
        state.note("no rows are held out, so nothing is evaluated: split the data, as in data.split(#{ test: 0.1 })");
    }
    config.optim.note(model.adapted.trainable()?.count()).iter().for_each(|note| state.note(note));
    train.length_warning(&model).iter().for_each(|warning| state.note(warning));
    let processes = state.processes();
    let processes = processes.as_deref();
    // One of several processes writes the folder of the run.
    let out = out.filter(|_| processes.is_none_or(Processes::is_first));
    if let Some(out) = &out {
        // In a rehearsal the run looks at another folder.
        FolderLock::ensure_free(out)?;
        previous::ensure_movable(out)?;
    }
    let folder = out.as_deref().map(|out| state.folder_to_write(out)).transpose()?;
    let origin = out.as_deref().map(|out| origin::of(state, Some(&model), out)).transpose()?;
    let loss = |batch: &Batch, key: Key| functions.loss(batch, key);
    let on_step = |report: &StepReport| functions.on_step(report);
    let on_eval = |report: &EvalReport| functions.on_eval(report);
    let metrics = || functions.metrics();
    let run = TrainRun {
        train,
        test,
        config: &config,
        folder: folder.as_deref(),
        checkpoints: Some(&checkpoints),
        origin: origin.as_ref(),
        callbacks: Callbacks {
            loss: if functions.loss.is_some() { Some(&loss) } else { callbacks.loss },
            on_step: functions.on_step.is_some().then_some(&on_step),
            on_eval: functions.on_eval.is_some().then_some(&on_eval),
            metrics: functions.metrics.is_some().then_some(&metrics),
            ..callbacks
        },
        processes,
    };
    if let Some(out) = out.as_deref() {
        let step = run.would_go_on_from(pace, &model, out, &mut |line| state.note(line))?;
        step.iter().for_each(|step| state.note_for_summary(format!("{}: goes on from step {step}", out.display())));
    }
    let measure = &mut eval::loss::held_out_loss(config.eval_batch);
    let report = run.run(&mut model, measure, pace, Progress::new(state.quiet()))?;
    state.note_run(out.as_deref(), &report, &model);
    Ok(to_map(&report.outcome.fields()))
}
