//! `train`, which is made of the parts in `step`, and the loss on held-out rows.

use crate::files::FolderLock;
use crate::options;
use crate::options::{OptionSet, Refusal};
use crate::script::api::tokens::{note_long, Tokenized, TokenizedSplit};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::train::checkpoint::options::SaveStrategy;
use crate::train::checkpoint::{CheckpointOptions, Resume};
use crate::train::overfitting::OVERFITS_AFTER;
use crate::train::previous;
use crate::train::progress::Progress;
use crate::train::run::MODEL;
use crate::train::trainer::PEAK_MEMORY;
use crate::train::{TrainConfig, TrainOutcome, TrainRun};
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
        note_long(&data.rows, &model, &state);
        let rows = state.pace().rows(&data.rows);
        let eval = eval::loss::mean_loss(model.decoder(), &model.adapted.adapter_set(None), &rows, batch)?;
        let mut result = Map::new();
        result.insert("loss".into(), eval.loss.into());
        result.insert("perplexity".into(), eval.perplexity().into());
        result.insert("labels".into(), (eval.labels as i64).into());
        Ok(result)
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
    note_long(&data.rows, &model, state);
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
    let measure = &mut eval::loss::held_out_loss(config.eval_batch);
    let report = run.run(&mut model, measure, state.pace(), Progress::new(state.quiet()))?;
    state.planned_run(out.as_deref(), report.planned.as_ref(), model.decoder().device);
    if let (Some(bytes), Some(out)) = (report.unsaved, &out) {
        state.leave_out(&out.join(MODEL), &model.name, bytes);
    }
    Ok(outcome_map(&report.outcome))
}

fn outcome_map(outcome: &TrainOutcome) -> Map {
    let mut map = Map::new();
    map.insert("steps".into(), (outcome.steps as i64).into());
    map.insert("train_loss".into(), outcome.train_loss.into());
    map.insert("eval_loss".into(), outcome.eval_loss.map_or(rhai::Dynamic::UNIT, Into::into));
    map.insert("eval_perplexity".into(), outcome.eval_loss.map_or(rhai::Dynamic::UNIT, |loss| loss.exp().into()));
    map.insert("tokens".into(), (outcome.tokens as i64).into());
    map.insert("seconds".into(), outcome.seconds.into());
    map.insert("tokens_per_s".into(), (outcome.tokens as f64 / outcome.seconds.max(1e-9)).into());
    map.insert("stopped_early".into(), outcome.stopped_early.into());
    let overfits_after = outcome.overfitting.map(|overfitting| (overfitting.best_step as i64).into());
    map.insert(OVERFITS_AFTER.into(), overfits_after.unwrap_or(rhai::Dynamic::UNIT));
    let peak_memory = outcome.peak_memory.map_or(rhai::Dynamic::UNIT, |bytes| (bytes as i64).into());
    map.insert(PEAK_MEMORY.into(), peak_memory);
    map
}

#[cfg(test)]
mod tests {
    use crate::script::engine::session::printed_by;

    const ROWS: &str = r#"
        let model = load_model("scripts/tiny", #{ device: "cpu" });
        model.add_lora(#{ r: 2 });
        let rows = [];
        for length in 1..17 { let text = "the small fox"; for i in 0..length { text += " sees"; } rows.push(#{ text: text }); }
        let data = dataset(rows).tokenize(model, #{}).split(#{ test: 4 });"#;

    /// The steps after which a run of two epochs of three steps is evaluated.
    fn evaluated_at(options: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        printed_by(&format!("{ROWS} train(model, data, #{{ epochs: 2, batch: 4, out: {out:?}, {options} }});"))
            .unwrap();
        let log = crate::train::metrics::read_metrics(&out.join("metrics.jsonl")).unwrap();
        let steps = log.iter().filter(|row| row.eval_loss.is_some()).map(|row| row.step.to_string());
        steps.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn runs_are_evaluated_by_steps_fractions_and_epochs() {
        assert_eq!(evaluated_at("eval_strategy: \"epoch\""), "3 6");
        assert_eq!(evaluated_at("eval_steps: 0.3"), "2 4 6");
        assert_eq!(evaluated_at("evals_per_epoch: 3"), "1 2 3 4 5 6");
        assert_eq!(evaluated_at("eval_strategy: \"steps\", log_every: 4"), "4 6");
        assert_eq!(evaluated_at("eval_strategy: \"no\""), "6");
        assert_eq!(evaluated_at("eval_strategy: \"epoch\", keep_best: true, group_by_length: true"), "3 6");
    }

    #[test]
    fn the_most_memory_held_is_in_the_results() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("sweep");
        let printed = printed_by(&format!(
            r#"{ROWS}
            print(train(model, data, #{{ steps: 2 }}).peak_memory);
            model.delete_adapter("default");
            let result = sweep(model, data, #{{ grid: #{{ rank: [2, 4] }}, train: #{{ steps: 2 }}, out: {out:?}, charts: false }});
            for row in result.rows {{ print(row.peak_memory); }}"#
        ));
        let printed = printed.unwrap();
        let numbers: Vec<&str> = printed.split_whitespace().collect();
        if numbers == ["()"; 3] || numbers.is_empty() {
            println!("not measured: this system does not say what a process holds");
            return;
        }
        // The weights alone take 2.9 MB, libtorch far more.
        let all: Vec<u64> = numbers.iter().map(|number| number.parse().unwrap()).collect();
        assert!(all.len() == 3 && all.iter().all(|bytes| (10_000_000..100_000_000_000).contains(bytes)), "{printed}");
    }

    #[test]
    fn held_out_rows_without_a_label_are_refused_before_the_first_step() {
        let folder = tempfile::tempdir().unwrap();
        let begin = r#"
            let model = load_model("scripts/tiny");
            let rows = dataset([#{ text: "the small fox" }]).tokenize(model, #{});
            let cut = dataset([#{ prompt: "the small fox sees a bridge", completion: " yes" }])
                .tokenize(model, #{ max_length: 4, audit: false });"#;
        let ends = [
            r#"model.add_lora(#{ r: 2 }); train(model, splits(rows, cut), #{ steps: 2, out: OUT });"#,
            r#"sweep(model, splits(rows, cut), #{ grid: #{ rank: [2, 4] }, train: #{ steps: 2 }, out: OUT });"#,
        ];
        for (number, end) in ends.into_iter().enumerate() {
            let out = folder.path().join(number.to_string());
            let script = format!("{begin}{}", end.replace("OUT", &format!("{out:?}")));
            let error = printed_by(&script).unwrap_err();
            assert!(error.contains("no label to measure") && error.contains("max_length"), "{error}");
            assert!(!out.exists(), "{end}");
        }
    }
}
