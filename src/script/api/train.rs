//! `train`, which is made of the parts in `step`, and the loss on held-out rows.

use crate::files::FolderLock;
use crate::options;
use crate::options::{OptionSet, Refusal};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::json::to_map;
use crate::script::values::objects::{Tokenized, TokenizedSplit};
use crate::script::values::options::Options;
use crate::train::checkpoint::options::SaveStrategy;
use crate::train::checkpoint::{CheckpointOptions, Resume};
use crate::train::previous;
use crate::train::progress::Progress;
use crate::train::{TrainConfig, TrainRun};
use crate::{eval, lora, Result};
use rhai::plugin::*;
use rhai::Map;
use std::path::PathBuf;

options! {
    #[derive(Debug, Clone)]
    struct TrainOptions {
        config: TrainConfig = TrainConfig::default(), is set;
        /// A folder for `metrics.jsonl`, TensorBoard events, checkpoints and the adapter. A run that was cut off there
        /// goes on. The log of a finished one is replaced; its adapter is kept as `adapter.previous`, a fully trained
        /// model as `model.previous`.
        out: Option<PathBuf> = None;
        checkpoints: CheckpointOptions = CheckpointOptions::default(), is set;
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
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let data = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
    /// let result = train(model, data, #{ steps: 2, lr: 1e-3 });
    /// print(result.train_loss);
    /// ```
    #[rhai_fn(name = "train", return_raw, volatile)]
    pub fn train(context: NativeCallContext, model: Model, data: Tokenized, options: Map) -> RhaiResultOf<Map> {
        Ok(run_training(&State::of(&context)?, &model, &data, None, options)?)
    }

    /// Train on one half of a split, and measure on the other.
    ///
    /// ```rhai
    /// let model = load_model("scripts/tiny");
    /// model.add_lora(#{ r: 4 });
    /// let rows = [#{ prompt: "a", completion: " b" }, #{ prompt: "c", completion: " d" }];
    /// let data = dataset(rows).tokenize(model, #{}).split(#{ test: 1 });
    /// let result = train(model, data, #{ steps: 2, eval_every: 1, keep_best: true });
    /// print(result.eval_loss);
    /// ```
    #[rhai_fn(name = "train", return_raw, volatile)]
    pub fn train_split(
        context: NativeCallContext,
        model: Model,
        data: TokenizedSplit,
        options: Map,
    ) -> RhaiResultOf<Map> {
        Ok(run_training(&State::of(&context)?, &model, &data.train, Some(&data.test), options)?)
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
    state: &State,
    model: &Handle<lora::Model>,
    data: &Tokenized,
    test: Option<&Tokenized>,
    options: Map,
) -> Result<Map> {
    let TrainOptions { config, out, checkpoints } = Options::read("train", options)?;
    test.map_or(Ok(()), |test| eval::loss::ensure_labelled(&test.rows))?;
    let mut model = model.write()?;
    if test.is_none() && config.eval_every.is_on_the_way() {
        state.note("no rows are held out, so nothing is evaluated: split the data, as in data.split(#{ test: 0.1 })");
    }
    config.optim.note(model.adapted.trainable()?.count()).iter().for_each(|note| state.note(note));
    data.rows.length_warning(&model).iter().for_each(|warning| state.note(warning));
    if let Some(out) = &out {
        // In a rehearsal the run looks at another folder.
        FolderLock::ensure_free(out)?;
        previous::ensure_movable(out)?;
    }
    let folder = out.as_deref().map(|out| state.folder_to_write(out)).transpose()?;
    let origin = out.as_deref().map(|out| origin::of(state, &model, out)).transpose()?;
    let run = TrainRun {
        train: &data.rows,
        test: test.map(|test| &test.rows),
        config: &config,
        folder: folder.as_deref(),
        checkpoints: Some(&checkpoints),
        origin: origin.as_ref(),
    };
    if let Some(out) = out.as_deref() {
        let step = run.would_go_on_from(state.pace(), &model, out, &mut |line| state.note(line))?;
        step.iter().for_each(|step| state.note_for_summary(format!("{}: goes on from step {step}", out.display())));
    }
    let measure = &mut eval::loss::held_out_loss(config.eval_batch);
    let report = run.run(&mut model, measure, state.pace(), Progress::new(state.quiet()))?;
    state.note_run(out.as_deref(), &report, &model);
    Ok(to_map(&report.outcome.fields()))
}
