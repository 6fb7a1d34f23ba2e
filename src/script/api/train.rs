//! `train`, which is made of the parts in `step`, and the loss on held-out rows.

use crate::data::tokenized::TokenizedDataset;
use crate::model::Decoder;
use crate::options;
use crate::options::OptionSet;
use crate::script::api::tokens::{note_long, Tokenized, TokenizedSplit};
use crate::script::api::OptionsOfFunction;
use crate::script::engine::origin;
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::script::values::handles::Handle;
use crate::script::values::options::Options;
use crate::train::folder::RunRecord;
use crate::train::observer::{Observer, Several};
use crate::train::overfitting::OVERFITS_AFTER;
use crate::train::progress::Progress;
use crate::train::recorder::Recorder;
use crate::train::rehearsal::{self, ROWS};
use crate::train::tensorboard;
use crate::train::trainer::{Evaluate, PEAK_MEMORY};
use crate::train::{Outcome, TrainConfig};
use crate::{eval, lora, Result};
use rhai::plugin::*;
use rhai::Map;
use std::path::{Path, PathBuf};

options! {
    #[derive(Debug, Clone)]
    struct TrainOptions {
        config: TrainConfig = TrainConfig::default(), is set;
        /// A folder for `metrics.jsonl`, TensorBoard events and the adapter. What an earlier run left there is
        /// replaced.
        out: Option<PathBuf> = None;
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
        let model = model.read()?;
        note_long(&data.rows, &model, &State::of(&context)?);
        let rows = if State::of(&context)?.rehearsing() { data.rows.shortest(ROWS) } else { data.rows };
        let found = eval::loss::mean_loss(model.decoder(), &model.adapted.adapter_set(None), &rows, batch)?;
        let mut result = Map::new();
        result.insert("loss".into(), found.loss.into());
        result.insert("perplexity".into(), found.perplexity().into());
        result.insert("labels".into(), (found.labels as i64).into());
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
    let TrainOptions { config, out } = Options::read("train", options)?;
    test.map_or(Ok(()), |test| eval::loss::ensure_labelled(&test.rows))?;
    let mut model = model.write()?;
    if test.is_none() && config.eval_every.is_on_the_way() {
        state.note("no rows are held out, so nothing is evaluated: split the data, as in data.split(#{ test: 0.1 })");
    }
    config.optim.note(model.adapted.trainable()?.count()).iter().for_each(|note| state.note(note));
    note_long(&data.rows, &model, state);
    if state.rehearsing() {
        return rehearse_training(state, &mut model, data, test, &config, out.as_deref());
    }
    let place = place_of(state, &model, out.as_deref())?;
    let progress = Progress::new(state.quiet());
    Ok(outcome_map(&run(&mut model, data, test, &config, place.as_deref(), progress, &mut save_trained)?))
}

/// Where the files of a run go that the script calls `out`; what it comes from is there already.
fn place_of(state: &State, model: &lora::Model, out: Option<&Path>) -> Result<Option<PathBuf>> {
    let Some(out) = out else { return Ok(None) };
    let place = state.folder_to_write(out)?;
    origin::of(state, model, out)?.write(&place)?;
    Ok(Some(place))
}

/// Trains, with the run's own records in `out`.
fn run(
    model: &mut lora::Model,
    data: &Tokenized,
    test: Option<&Tokenized>,
    config: &TrainConfig,
    out: Option<&Path>,
    mut progress: Progress,
    save: &mut dyn FnMut(&mut lora::Model, &Path) -> Result<()>,
) -> Result<Outcome> {
    let settings = serde_json::json!({ "train": config });
    let mut recorder = None;
    let mut record = None;
    if let Some(folder) = out {
        // First of all: from here on the folder holds no finished run.
        record = Some(RunRecord::begin(folder, with_model(settings.clone(), model, data))?);
        tensorboard::remove_events(folder)?;
        recorder = Some(Recorder::create(folder, config.log_every, &settings)?);
    }
    let mut observers: Vec<&mut dyn Observer> = vec![&mut progress];
    observers.extend(recorder.as_mut().map(|recorder| recorder as &mut dyn Observer));
    let outcome = train_model(model, data, test, config, &mut Several(observers));
    drop(progress);
    // Its last steps are written however it ends.
    let logged = recorder.map_or(Ok(()), Recorder::finish);
    let saved = outcome.and_then(|outcome| {
        logged?;
        out.map_or(Ok(()), |folder| save(model, folder))?;
        Ok(outcome)
    });
    if let (Some(folder), Some(record)) = (out, record) {
        // Where the run itself failed, that is the error to tell.
        record.conclude(folder, &saved).or_else(|error| if saved.is_ok() { Err(error) } else { Ok(()) })?;
    }
    saved
}

/// Two tiny steps in the place of the run, whose files go where they vanish, and what the run would take.
///
/// The tiny steps stay in the weights in memory: what comes next in the script would not be rehearsed with an
/// adapter that changes nothing.
fn rehearse_training(
    state: &State,
    model: &mut lora::Model,
    data: &Tokenized,
    test: Option<&Tokenized>,
    config: &TrainConfig,
    out: Option<&Path>,
) -> Result<Map> {
    let place = place_of(state, model, out)?;
    let tiny = rehearsal::tiny_config(config, data.rows.len())?;
    let few = |rows: &Tokenized| Tokenized { rows: rows.rows.shortest(ROWS), tokenizer: rows.tokenizer.clone() };
    let mut save = |model: &mut lora::Model, place: &Path| {
        let path = out.map(|out| out.join("model").display().to_string()).unwrap_or_default();
        let is_whole = model.adapted.active_name().is_none();
        match is_whole && state.leaves_out(&path, &model.name, model.decoder().weight_bytes()) {
            true => Ok(()),
            false => save_trained(model, place),
        }
    };
    let (rows, held_out) = (few(data), test.map(few));
    let outcome = run(model, &rows, held_out.as_ref(), &tiny, place.as_deref(), Progress::Quiet, &mut save)?;
    let spec = model.adapted.adapter(None).ok().map(|adapter| adapter.spec.clone());
    let own = rehearsal::Run { train: &data.rows, test: test.map(|test| &test.rows), config, spec: spec.as_ref() };
    let mut measure = |decoder: &Decoder, trainables: &[&dyn lora::Trainable], rows: &TokenizedDataset| {
        let found = eval::loss::mean_losses(decoder, trainables, rows, config.eval_batch)?;
        Ok(found.into_iter().map(|found| found.loss).collect())
    };
    let (decoder, trainable) = model.adapted.split_for_training()?;
    let planned = rehearsal::plan(decoder, trainable, &own, &mut measure)?;
    state.planned_run(out, &planned, decoder.device);
    Ok(outcome_map(&planned.outcome(&outcome)))
}

/// The settings of a run with what they were applied to, for the record of the run.
fn with_model(mut settings: serde_json::Value, model: &lora::Model, data: &Tokenized) -> serde_json::Value {
    let lora = model.adapted.adapter(None).ok().map(|adapter| &adapter.spec);
    settings["lora"] = serde_json::json!(lora);
    settings["model"] = serde_json::json!({ "name": model.name });
    if let Some(template) = model.assigned_template() {
        settings["model"]["chat_template"] = template.into();
    }
    settings["data"] = serde_json::json!({ "train": data.rows.fingerprint() });
    settings
}

fn train_model(
    model: &mut lora::Model,
    data: &Tokenized,
    test: Option<&Tokenized>,
    config: &TrainConfig,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let mut measure = test.map(|test| eval::loss::evaluation(&test.rows, config.eval_batch));
    let evaluate = measure.as_mut().map(|measure| measure as &mut Evaluate);
    let (decoder, trainable) = model.adapted.split_for_training()?;
    crate::train::train(decoder, trainable, &data.rows, config, evaluate, observer)
}

/// The adapter goes into `adapter/`, a fully trained model into `model/`.
fn save_trained(model: &mut lora::Model, folder: &Path) -> Result<()> {
    if model.adapted.active_name().is_none() {
        return model.save(&folder.join("model"));
    }
    lora::peft::save(model.adapted.adapter(None)?, &model.name, &folder.join("adapter"))?;
    model.save_tokenizer(&folder.join("adapter"))
}

fn outcome_map(outcome: &Outcome) -> Map {
    let mut map = Map::new();
    map.insert("steps".into(), (outcome.steps as i64).into());
    map.insert("train_loss".into(), outcome.train_loss.into());
    map.insert("eval_loss".into(), outcome.eval_loss.map_or(rhai::Dynamic::UNIT, Into::into));
    map.insert("eval_perplexity".into(), outcome.eval_loss.map_or(rhai::Dynamic::UNIT, |loss| loss.exp().into()));
    map.insert("tokens".into(), (outcome.tokens as i64).into());
    map.insert("seconds".into(), outcome.seconds.into());
    map.insert("tokens_per_s".into(), (outcome.tokens as f64 / outcome.seconds.max(1e-9)).into());
    map.insert("stopped_early".into(), outcome.stopped_early.into());
    let overfits_after = outcome.overfitting.map(|found| (found.best_step as i64).into());
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
