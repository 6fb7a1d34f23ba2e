//! Runs that were cut off after each of their steps. One run keeps a checkpoint of every step; for each of them a folder
//! is made as a process that was killed after it would leave it, and a new model trains on in it.

use super::common::files::tiny_folder;
use super::common::models::open;
use super::logs::{content, difference};
use lorhai::data::{self, Dataset, TokenizeOptions, TokenizedDataset};
use lorhai::eval::loss::held_out_loss;
use lorhai::lora::{Init, LoraSpec, Model, NestedLoss, NestedOptions, Targets, Trainable};
use lorhai::model::{Decoder, Quantization};
use lorhai::train::checkpoint::options::SaveStrategy;
use lorhai::train::checkpoint::{folder, Checkpoint, CheckpointOptions, Resume, SaveInterval};
use lorhai::train::grouping::Grouping;
use lorhai::train::objective::{Objective, ObjectiveOptions};
use lorhai::train::progress::Progress;
use lorhai::train::rehearsal::Pace;
use lorhai::train::{AdamWConfig, Callbacks, EvalInterval, TrainConfig, TrainOutcome, TrainRun};
use lorhai::{Error, Kind};
use std::fs;
use std::path::Path;

/// What is trained, and how.
#[derive(Clone)]
pub struct Case {
    pub dtype: &'static str,
    pub quantization: Option<Quantization>,
    /// `None` trains all weights.
    pub spec: Option<LoraSpec>,
    pub config: TrainConfig,
    pub packing: bool,
}

pub fn spec() -> LoraSpec {
    LoraSpec { r: 4, alpha: 8.0, dropout: 0.1, target_modules: Targets::AllLinear, ..LoraSpec::default() }
}

/// Dropout, accumulation, an epoch that ends in the middle of the run, logs of several steps, held-out rows.
pub fn config() -> TrainConfig {
    TrainConfig {
        steps: 12,
        batch: 2,
        accumulation: 2,
        log_every: 5,
        eval_every: EvalInterval::Steps(4),
        optimizer: AdamWConfig { lr: 1e-2, weight_decay: 0.01, ..AdamWConfig::default() },
        warmup: 3.0,
        ..TrainConfig::default()
    }
}

pub fn case() -> Case {
    Case { dtype: "f32", quantization: None, spec: Some(spec()), config: config(), packing: false }
}

/// A model as a script makes it, with 25 rows to train on and 6 held out.
pub struct Loaded {
    pub model: Model,
    train: TokenizedDataset,
    test: TokenizedDataset,
}

impl Case {
    pub fn load(&self) -> Loaded {
        let mut model = open(&tiny_folder(), self.dtype, self.quantization).unwrap();
        match &self.spec {
            Some(spec) => model.adapted.add("default", spec.clone(), 7).unwrap(),
            None => model.adapted.train_all().unwrap(),
        }
        let is_preference = self.config.objective.is_preference();
        let path = tiny_folder().join(if is_preference { "preferences.jsonl" } else { "pretrain.jsonl" });
        let rows = Dataset::load(path.to_str().unwrap()).unwrap().take(if self.packing { 120 } else { 31 });
        let max_length = Some(if self.packing { 96 } else { 64 });
        let options = TokenizeOptions { cache: false, packing: self.packing, max_length, ..TokenizeOptions::default() };
        let rows = data::tokenize(&rows, model.tokenizer().unwrap(), &options).unwrap();
        let rows = rows.take(31);
        assert_eq!(rows.len(), 31);
        let (train, test) = rows.split(6.0, 0).unwrap();
        Loaded { model, train, test }
    }
}

/// `save_every: every`, and all of them kept.
pub fn saving(every: u64) -> CheckpointOptions {
    CheckpointOptions {
        save_every: Some(SaveInterval::Steps(every)),
        keep_last: Some(1000),
        ..CheckpointOptions::default()
    }
}

type Measure<'a> = dyn FnMut(&Decoder, &[&dyn Trainable], &TokenizedDataset) -> lorhai::Result<Vec<f64>> + 'a;

impl Loaded {
    pub fn train(
        &mut self,
        case: &Case,
        out: &Path,
        options: Option<&CheckpointOptions>,
    ) -> lorhai::Result<TrainOutcome> {
        self.train_measured(case, out, options, &mut held_out_loss(4))
    }

    pub fn train_measured(
        &mut self,
        case: &Case,
        out: &Path,
        options: Option<&CheckpointOptions>,
        measure: &mut Measure,
    ) -> lorhai::Result<TrainOutcome> {
        let run = TrainRun {
            train: &self.train,
            test: Some(&self.test),
            config: &case.config,
            folder: Some(out),
            checkpoints: options,
            origin: None,
            callbacks: Callbacks::default(),
            processes: None,
        };
        Ok(run.run(&mut self.model, measure, Pace::Full, Progress::Quiet)?.outcome)
    }
}

/// Copies the files below `from`.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Makes `to` the folder of the finished run `from` as it was when a process was killed between step `step` and the next
/// checkpoint: some of its log is later than the checkpoint.
pub fn cut(from: &Path, to: &Path, step: u64) {
    copy(from, to);
    fs::remove_dir_all(to.join("adapter")).or_else(|_| fs::remove_dir_all(to.join("model"))).unwrap();
    for entry in fs::read_dir(to).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix("checkpoint-").is_some_and(|other| other.parse::<u64>().unwrap() > step) {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(to.join("run.json")).unwrap()).unwrap();
    record["status"] = "unfinished".into();
    record.as_object_mut().unwrap().remove("metrics");
    fs::write(to.join("run.json"), record.to_string()).unwrap();
}

/// The files of a run without its checkpoints.
fn without_checkpoints(out: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    content(out).into_iter().filter(|(name, _)| !name.starts_with("checkpoint-")).collect()
}

/// Trains `case` whole, and again from each of its checkpoints: all files must be the same.
fn compare_cuts(case: &Case) {
    let scratch = tempfile::tempdir().unwrap();
    let (plain, whole) = (scratch.path().join("plain"), scratch.path().join("whole"));
    let expected = case.load().train(case, &plain, None).unwrap();
    let outcome = case.load().train(case, &whole, Some(&saving(1))).unwrap();
    assert_eq!(timeless(&outcome), timeless(&expected));
    assert_eq!(difference(&without_checkpoints(&whole), &content(&plain)), None, "saving changes the run");
    let files = content(&whole);
    let steps = expected.steps;
    assert!(steps > 8 && (1..steps).all(|step| whole.join(format!("checkpoint-{step}")).is_dir()));
    for step in 1..steps {
        let out = scratch.path().join(step.to_string());
        cut(&whole, &out, step);
        let outcome = case.load().train(case, &out, Some(&saving(1))).unwrap();
        assert_eq!(timeless(&outcome), timeless(&expected), "cut after step {step}");
        assert_eq!(difference(&content(&out), &files), None, "cut after step {step}");
    }
}

fn timeless(outcome: &TrainOutcome) -> TrainOutcome {
    TrainOutcome { seconds: 0.0, peak_memory: None, ..outcome.clone() }
}

#[test]
fn an_adapter_with_dropout_and_accumulation() {
    compare_cuts(&case());
}

#[test]
fn nested_ranks() {
    for loss in [NestedLoss::Rows, NestedLoss::Sampled] {
        let nested = NestedOptions { ranks: vec![1, 2, 4], loss, ..NestedOptions::default() };
        compare_cuts(&Case { spec: Some(LoraSpec { nested, ..spec() }), ..case() });
    }
}

#[test]
fn in_bf16() {
    compare_cuts(&Case { dtype: "bf16", ..case() });
}

#[test]
fn over_four_bits() {
    compare_cuts(&Case { quantization: Some(Quantization { double_quant: true }), ..case() });
}

#[test]
fn packed_rows() {
    compare_cuts(&Case { packing: true, ..case() });
}

#[test]
fn rows_grouped_by_length_over_epochs() {
    let grouping = Grouping { group_by_length: true };
    let eval_every = EvalInterval::PerEpoch { evals_per_epoch: 2 };
    compare_cuts(&Case { config: TrainConfig { steps: 0, epochs: 1.6, grouping, eval_every, ..config() }, ..case() });
}

#[test]
fn the_best_adapter_is_kept_and_the_run_stops_early() {
    // A rate at which the loss soon rises.
    let optimizer = AdamWConfig { lr: 0.08, ..AdamWConfig::default() };
    let config = TrainConfig {
        steps: 40,
        keep_best: true,
        early_stopping: 4,
        eval_every: EvalInterval::Steps(2),
        optimizer,
        ..config()
    };
    compare_cuts(&Case { config, ..case() });
}

/// The names of the checkpoints in `out`.
fn checkpoints(out: &Path) -> String {
    let entries = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.starts_with("checkpoint-")).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    names.join(" ")
}

#[test]
fn the_best_evaluations_are_saved() {
    let out = tempfile::tempdir().unwrap();
    let options = CheckpointOptions {
        save_strategy: Some(SaveStrategy::Best),
        keep_last: Some(9),
        ..CheckpointOptions::default()
    };
    let case = Case { config: TrainConfig { eval_every: EvalInterval::Steps(2), ..config() }, ..case() };
    let mut losses = [5.0, 4.0, 4.5, 4.0, 3.0, 2.0].into_iter();
    let mut measure = |_: &Decoder, _: &[&dyn Trainable], _: &TokenizedDataset| Ok(vec![losses.next().unwrap()]);
    case.load().train_measured(&case, out.path(), Some(&options), &mut measure).unwrap();
    // After steps 2, 4 and 10; the last step, 12, is in the adapter.
    assert_eq!(checkpoints(out.path()), "checkpoint-2 checkpoint-4 checkpoint-10");
    let at_the_end = Case { config: TrainConfig { eval_every: EvalInterval::Steps(0), ..config() }, ..case };
    let folder = out.path().join("other");
    let error = at_the_end.load().train(&at_the_end, &folder, Some(&options)).unwrap_err();
    assert!(error.message.contains("save_strategy: \"best\""), "{error}");
}

#[test]
fn dora_with_residual_start_and_lora_plus() {
    let spec = LoraSpec { use_dora: true, init: Init::Pissa, ..spec() };
    let mut config = config();
    config.optimizer.loraplus_lr_ratio = Some(4.0);
    compare_cuts(&Case { spec: Some(spec), config, ..case() });
}

/// The reference is computed again; with PiSSA it is a frozen copy of the start.
#[test]
fn preferences_with_both_kinds_of_reference() {
    let objective = ObjectiveOptions { kind: Objective::Dpo, beta: Some(0.3), ..ObjectiveOptions::default() };
    let config = TrainConfig { objective, keep_best: true, eval_every: EvalInterval::Steps(3), ..config() };
    compare_cuts(&Case { config: config.clone(), ..case() });
    compare_cuts(&Case { spec: Some(LoraSpec { init: Init::Pissa, ..spec() }), config, ..case() });
}

#[test]
fn all_weights() {
    compare_cuts(&Case { spec: None, config: TrainConfig { steps: 9, ..config() }, ..case() });
}

#[test]
fn a_stop_between_a_step_and_its_evaluation() {
    let case = case();
    let scratch = tempfile::tempdir().unwrap();
    let whole = scratch.path().join("whole");
    case.load().train(&case, &whole, None).unwrap();
    let expected = content(&whole);
    for stopped_at in 1..=3 {
        let out = scratch.path().join(stopped_at.to_string());
        let (mut count, mut measure) = (0, held_out_loss(4));
        let mut stopping = |decoder: &Decoder, trainables: &[&dyn Trainable], rows: &TokenizedDataset| {
            count += 1;
            if count == stopped_at {
                Err(Error::stopped())
            } else {
                measure(decoder, trainables, rows)
            }
        };
        let options = CheckpointOptions::default();
        let error = case.load().train_measured(&case, &out, Some(&options), &mut stopping).unwrap_err();
        assert_eq!(error.kind, Kind::Stopped);
        // The evaluation after step 4, 8 or 12 was stopped.
        assert!(out.join(format!("checkpoint-{}", 4 * stopped_at)).is_dir());
        assert!(!out.join("adapter").exists());
        case.load().train(&case, &out, Some(&options)).unwrap();
        assert_eq!(difference(&content(&out), &expected), None, "evaluation {stopped_at}");
    }
}

#[test]
fn at_a_prompt_the_trained_adapter_goes_on() {
    let case = case();
    let scratch = tempfile::tempdir().unwrap();
    let (whole, out) = (scratch.path().join("whole"), scratch.path().join("out"));
    case.load().train(&case, &whole, None).unwrap();
    let mut loaded = case.load();
    let mut stopping = |_: &Decoder, _: &[&dyn Trainable], _: &TokenizedDataset| Err(Error::stopped());
    let options = CheckpointOptions::default();
    loaded.train_measured(&case, &out, Some(&options), &mut stopping).unwrap_err();
    // The same model in memory, whose weights have moved.
    loaded.train(&case, &out, Some(&options)).unwrap();
    assert_eq!(difference(&content(&out), &content(&whole)), None);
}

/// A run that is stopped after step 4.
fn stopped(case: &Case, out: &Path) {
    let mut stopping = |_: &Decoder, _: &[&dyn Trainable], _: &TokenizedDataset| Err(Error::stopped());
    case.load().train_measured(case, out, Some(&CheckpointOptions::default()), &mut stopping).unwrap_err();
}

fn resuming(resume: Resume) -> CheckpointOptions {
    CheckpointOptions { resume: Some(resume), ..CheckpointOptions::default() }
}

#[test]
fn changed_settings_are_refused_and_named() {
    let (case, scratch) = (case(), tempfile::tempdir().unwrap());
    let out = scratch.path().join("out");
    stopped(&case, &out);
    let before = content(&out);
    let mut other = case.clone();
    other.config.optimizer.lr = 5e-3;
    let error = other.load().train(&other, &out, Some(&CheckpointOptions::default())).unwrap_err();
    assert!(
        error.message.contains("train.optimizer.lr: 0.01 → 0.005") && error.message.contains("saved at step 4"),
        "{error}"
    );
    assert!(error.hint.unwrap().contains("resume: true goes on under the new settings"));
    let ranked = Case { spec: Some(LoraSpec { r: 5, ..spec() }), ..case.clone() };
    let packed = Case { packing: true, ..case.clone() };
    let four_bits = Case { quantization: Some(Quantization { double_quant: false }), ..case.clone() };
    for (other, expected) in
        [(&ranked, "lora.r: 4 → 5"), (&packed, "the training rows differ"), (&four_bits, "model.quantization")]
    {
        for resume in [None, Some(Resume::Yes)] {
            let options = CheckpointOptions { resume: resume.clone(), ..CheckpointOptions::default() };
            let error = other.load().train(other, &out, Some(&options)).unwrap_err();
            assert!(error.message.contains(expected), "{resume:?}: {error}");
            assert!(error.hint.unwrap().contains("resume: false"));
        }
    }
    assert_eq!(difference(&content(&out), &before), None, "a refusal changes nothing");
    // Asked for, training settings may change.
    let outcome = other.load().train(&other, &out, Some(&resuming(Resume::Yes))).unwrap();
    assert_eq!(outcome.steps, 12);
}

#[test]
fn begun_anew_the_old_run_is_kept_aside() {
    let (case, scratch) = (case(), tempfile::tempdir().unwrap());
    let (out, whole) = (scratch.path().join("out"), scratch.path().join("whole"));
    stopped(&case, &out);
    let old = content(&out);
    case.load().train(&case, &out, Some(&resuming(Resume::No))).unwrap();
    case.load().train(&case, &whole, None).unwrap();
    assert_eq!(difference(&content(&out.join("old-1")), &old), None);
    fs::rename(out.join("old-1"), scratch.path().join("old")).unwrap();
    assert_eq!(difference(&content(&out), &content(&whole)), None);
    // The old one can be gone on from, in another folder.
    let other = scratch.path().join("other");
    let outcome = case.load().train(&case, &other, Some(&resuming(Resume::From(scratch.path().join("old"))))).unwrap();
    assert_eq!(outcome.steps, 12);
    let adapter = |folder: &Path| fs::read(folder.join("adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(adapter(&other), adapter(&whole));
}

#[test]
fn a_finished_run_begins_anew_and_leaves_no_checkpoint() {
    let (case, scratch) = (case(), tempfile::tempdir().unwrap());
    let out = scratch.path().join("out");
    let every = CheckpointOptions { keep_last: None, ..saving(3) };
    let kept = || checkpoints(&out);
    case.load().train(&case, &out, Some(&CheckpointOptions { keep_last: Some(2), ..saving(3) })).unwrap();
    assert_eq!(kept(), "checkpoint-6 checkpoint-9");
    // Asked for, it goes on; its adapter does not lie beside the record of an unfinished run.
    let adapter = content(&out.join("adapter"));
    let mut stopping = |_: &Decoder, _: &[&dyn Trainable], _: &TokenizedDataset| {
        assert!(out.join("adapter.previous").is_dir() && !out.join("adapter").exists());
        Err(Error::stopped())
    };
    let again = CheckpointOptions { keep_last: Some(2), ..resuming(Resume::Yes) };
    case.load().train_measured(&case, &out, Some(&again), &mut stopping).unwrap_err();
    case.load().train(&case, &out, Some(&again)).unwrap();
    assert_eq!(difference(&content(&out.join("adapter")), &adapter), None);
    let error = case.load().train(&case, &scratch.path().join("new"), Some(&resuming(Resume::Yes))).unwrap_err();
    assert!(error.message.contains("expected a checkpoint in"), "{error}");
    // Finished, it does not go on from step 9, though other settings would be refused then.
    let other = Case { config: TrainConfig { seed: 1, ..config() }, ..case.clone() };
    assert_eq!(other.load().train(&other, &out, Some(&every)).unwrap().steps, 12);
    assert_eq!(kept(), "");
}

#[test]
fn a_run_that_diverges_is_saved_as_it_was_before() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    // The schedule warms up to a rate that is too high.
    let mut wild = case();
    wild.config.optimizer.lr = 1e20;
    wild.config.eval_every = EvalInterval::Steps(0);
    let error = wild.load().train(&wild, &out, Some(&saving(1))).unwrap_err();
    assert_eq!(error.kind, Kind::Numeric);
    let saved = folder::list(&out);
    println!("{error}; saved at {:?}", saved.iter().map(|(step, _)| step).collect::<Vec<_>>());
    // Before the step that failed, and none with numbers that are not finite.
    assert!(error.message.contains(&format!("step {}: ", saved[0].0 + 1)), "{error}");
    for (step, path) in &saved {
        for (name, tensor) in Checkpoint::read(path).unwrap().runs[0].state.tensors() {
            assert!(bool::try_from(tensor.isfinite().all()).unwrap(), "{name}, step {step}");
        }
    }
    let mut calm = wild.clone();
    calm.config.optimizer.lr = 1e-4;
    calm.load().train(&calm, &out, Some(&CheckpointOptions::default())).unwrap_err();
    // Before its first update at a rate above 0.
    let from = Some(Resume::From(out.join("checkpoint-1")));
    let outcome = calm.load().train(&calm, &out, Some(&CheckpointOptions { resume: from, ..saving(5) })).unwrap();
    assert_eq!(outcome.steps, 12);
    assert!(out.join("old-1/checkpoint-2").is_dir() && out.join("checkpoint-10").is_dir());
}
