//! Sweeps that stop trials early: the same winner for fewer tokens, survivors that do not notice, and stopped trials that
//! go on later. Cuts at random moments are in tests/resume/kills.rs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::models::{load, open};
use common::needs;
use lorhai::data::{tokenize, Dataset, TokenizeOptions, TokenizedDataset};
use lorhai::lora::{LoraSpec, Model, Targets};
use lorhai::model::Quantization;
use lorhai::sweep::progress::SweepProgress;
use lorhai::sweep::{Axes, LoraSweep, PruneOptions, PruneRule, Pruning, SweepOptions, SweepReport, SweepResult};
use lorhai::train::metrics::read_metrics;
use lorhai::train::rehearsal::planned_tokens;
use lorhai::train::{EvalInterval, Pace, TrainConfig};
use lorhai::Kind;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TINY: &str = "scripts/tiny";

struct Inputs {
    base: Model,
    train: TokenizedDataset,
    test: TokenizedDataset,
}

fn inputs() -> Inputs {
    let base = load(Path::new(TINY), "f32");
    let rows = Dataset::load(Path::new(TINY).join("train.jsonl")).unwrap().take(64);
    let options = TokenizeOptions { max_length: Some(64), ..TokenizeOptions::default() };
    let (train, test) = tokenize(&rows, base.tokenizer().unwrap(), &options).unwrap().split(8.0, 0).unwrap();
    Inputs { base, train, test }
}

fn spec() -> LoraSpec {
    LoraSpec { r: 4, dropout: 0.1, target_modules: Targets::AllLinear, ..LoraSpec::default() }
}

fn config() -> TrainConfig {
    TrainConfig { steps: 27, batch: 2, log_every: 2, eval_every: EvalInterval::Steps(3), ..TrainConfig::default() }
}

fn options(out: &Path, grid: Axes, prune: Option<PruneOptions>) -> SweepOptions {
    SweepOptions { grid, out: out.to_owned(), prune: Pruning(prune), ..SweepOptions::default() }
}

/// Twelve settings.
fn grid() -> Axes {
    Axes::from([("rank", json!([2, 8])), ("lr", json!([1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2])), ("seed", json!(2))])
}

fn run_at(inputs: &Inputs, options: &SweepOptions, config: &TrainConfig, pace: Pace) -> (SweepReport, Vec<String>) {
    let Inputs { base, train, test } = inputs;
    let sweep = LoraSweep::new(base, (train, test), options, &spec(), config).unwrap();
    let folder = if pace.is_full() { options.out.clone() } else { options.out.with_extension("rehearsed") };
    let mut notes = Vec::new();
    let report = sweep.run(&folder, pace, SweepProgress::new(true), &mut |line| notes.push(line.to_owned())).unwrap();
    (report, notes)
}

fn run(inputs: &Inputs, options: &SweepOptions) -> SweepResult {
    run_at(inputs, options, &config(), Pace::Full).0.result
}

/// The adapters of finished trials by their names, with the losses of their logs.
fn adapters(result: &SweepResult) -> BTreeMap<String, (Vec<u8>, Vec<String>)> {
    let finished = result.rows().iter().filter(|row| row.outcome().is_some());
    let of_row = |dir: &str| {
        let folder = result.out.join(dir);
        let log = read_metrics(&folder.join("metrics.jsonl")).unwrap();
        let log = log.iter().map(|row| format!("{} {:?} {:?} {:?}", row.step, row.loss, row.eval_loss, row.grad_norm));
        (fs::read(folder.join("adapter/adapter_model.safetensors")).unwrap(), log.collect())
    };
    finished.map(|row| (row.dir.clone(), of_row(&row.dir))).collect()
}

fn status(result: &SweepResult, status: &str) -> usize {
    result.rows().iter().filter(|row| row.value("status") == status).count()
}

#[test]
fn the_winner_is_the_same_and_survivors_do_not_notice() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let full = run(&inputs, &options(&folder.path().join("full"), grid(), None));
    // Halves at a quarter and at a half of the steps, moved to the next evaluation: 9 and 15.
    let halves = PruneOptions { eta: 2, ..PruneOptions::default() };
    let out = folder.path().join("pruned");
    let pruned = run(&inputs, &options(&out, grid(), Some(halves.clone())));
    assert_eq!((status(&pruned, "finished"), status(&pruned, "pruned")), (2 * 3, 2 * 9));
    let steps = |step: u64| pruned.pruned().filter(|row| row.pruned().unwrap().step == step).count();
    assert_eq!((steps(9), steps(15)), (2 * 6, 2 * 3));
    assert_eq!(pruned.best("eval_loss").unwrap().point, full.best("eval_loss").unwrap().point);

    let expected = adapters(&full);
    let survivors = adapters(&pruned);
    assert_eq!((expected.len(), survivors.len()), (24, 6));
    for (name, (adapter, log)) in &survivors {
        let (of_full, log_of_full) = &expected[name];
        assert!(adapter == of_full, "the adapter of {name} differs");
        assert_eq!(log, log_of_full, "{name}");
    }

    // Each stopped trial trained the tokens up to its step, and no more.
    for row in pruned.pruned() {
        let (seed, stopped) = (row.point.get("seed").unwrap().as_u64().unwrap(), row.pruned().unwrap());
        let at = |steps: u64| planned_tokens(&inputs.train, &TrainConfig { steps, seed, ..config() });
        assert_eq!(stopped.measurements.tokens, at(stopped.step));
        assert_eq!((stopped.steps, stopped.planned_tokens), (27, at(27)));
        assert!(!out.join(&row.dir).join("adapter").exists());
        let shown = lorhai::runs::show(&out.join(&row.dir)).unwrap();
        assert!(shown.contains(&format!("stopped early (pruned at step {} of 27), ", stopped.step)), "{shown}");
        assert_eq!(row.value("eval_loss"), Value::Null, "it is no number of a finished trial");
        assert_eq!((row.value("pruned_at"), row.number("tokens")), (json!(stopped.step), None));
    }
    let table = pruned.table();
    assert!(table.contains("pruned: 18 of 24 trials, stopped at steps 9 to 15; that saved 4"), "{table}");
    assert!(table.contains("rank=") && !table.contains("failed"), "{table}");
    assert!(!out.join("checkpoints").exists() && out.join("rungs.json").is_file());

    // Run again, nothing is trained; from its folder it is the same.
    let again = run(&inputs, &options(&out, grid(), Some(halves)));
    assert_eq!((again.trained, again.skipped), (0, 24));
    assert_eq!(again.rows(), pruned.rows());
    assert_eq!(SweepResult::open(&out).unwrap().rows(), pruned.rows());

    // A later round of the sweep leaves them as they are.
    let later = options(&out, grid(), None);
    let Inputs { base, train, test } = &inputs;
    let sweep = LoraSweep::new(base, (train, test), &later, &spec(), &config()).unwrap();
    let kept = LoraSweep { keeps_pruned: true, ..sweep };
    let kept = kept.run(&out, Pace::Full, SweepProgress::new(true), &mut |_| {}).unwrap().result;
    assert_eq!((kept.trained, kept.rows()), (0, pruned.rows()));

    // Without the option the stopped trials go on from where they were, and end as if they had never stopped.
    let (report, notes) = run_at(&inputs, &later, &config(), Pace::Full);
    assert_eq!((report.result.trained, status(&report.result, "finished")), (18, 24), "{notes:?}");
    assert_eq!(report.result.without_times(), full.without_times());
    assert!(adapters(&report.result) == expected);
    for row in report.result.rows() {
        let left = fs::read_dir(out.join(&row.dir)).unwrap();
        let mut names = left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        assert!(!names.any(|name| name.starts_with("checkpoint")), "{}", row.dir);
    }
}

/// Rows of text, speeches of plays.
fn speeches(count: usize) -> Dataset {
    let text = fs::read_to_string(needs::assets("data/tinyshakespeare/input.txt")).unwrap();
    let rows = text.split("\n\n").filter(|speech| speech.len() > 100).take(count);
    let lines: String = rows.map(|speech| format!("{}\n", json!({ "text": speech }))).collect();
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    fs::write(file.path(), lines).unwrap();
    let rows = Dataset::load(file.path()).unwrap();
    assert_eq!(rows.len(), count);
    rows
}

/// A trial in the company of others, and in that of the few that are left: where a matrix product chose its loops by the
/// number of rows, or adapters were merged by the number of trials, their bits would differ.
#[test]
#[ignore = "needs LORHAI_ASSETS: a pretrained model and data"]
fn survivors_of_a_pretrained_model_do_not_notice_either() {
    let grid = || Axes::from([("rank", json!([2, 32])), ("lr", json!([1e-5, 1e-4, 5e-4, 2e-3, 5e-3, 2e-2]))]);
    let config = TrainConfig { steps: 8, eval_every: EvalInterval::Steps(1), ..config() };
    // Twelve settings to step 2, six to step 4, three to the end.
    let halves = || Some(PruneOptions { eta: 2, ..PruneOptions::default() });
    for (dtype, threads, quantized) in
        [("f32", 1, false), ("f32", 2, false), ("bf16", 1, false), ("bf16", 2, false), ("f32", 1, true)]
    {
        lorhai::threads::use_threads(threads);
        let quantization = quantized.then_some(Quantization { double_quant: true });
        let base = open(&needs::assets("models/stories260K"), dtype, quantization).unwrap();
        let rows = speeches(24);
        let length = TokenizeOptions { max_length: Some(128), ..TokenizeOptions::default() };
        let tokens = tokenize(&rows, base.tokenizer().unwrap(), &length).unwrap();
        let (train, test) = tokens.split(4.0, 0).unwrap();
        let (inputs, folder) = (Inputs { base, train, test }, tempfile::tempdir().unwrap());
        let at = |name: &str, prune| {
            run_at(&inputs, &options(&folder.path().join(name), grid(), prune), &config, Pace::Full).0.result
        };
        let (full, pruned) = (at("full", None), at("pruned", halves()));
        let (expected, survivors) = (adapters(&full), adapters(&pruned));
        assert_eq!(survivors.len(), 3);
        let differing = survivors.iter().filter(|(name, adapter)| *adapter != &expected[*name]);
        let differing: Vec<&String> = differing.map(|(name, _)| name).collect();
        assert!(differing.is_empty(), "{dtype}, {threads} threads, 4-bit {quantized}: {differing:?}");
    }
    lorhai::threads::use_threads(1);
}

#[test]
fn a_trial_that_goes_on_does_not_train_its_first_steps_again() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let grid = || Axes::from([("lr", json!([1e-4, 1e-3]))]);
    let out = folder.path().join("out");
    let first = run(&inputs, &options(&out, grid(), Some(PruneOptions::default())));
    let stopped = first.pruned().next().unwrap();
    let log = out.join(&stopped.dir).join("metrics.jsonl");
    let before = fs::read_to_string(&log).unwrap();
    let step = stopped.pruned().unwrap().step;
    let kept = out.join(&stopped.dir).join(format!("checkpoint-{step}"));
    assert!(kept.join("state.safetensors").is_file());
    let goes_on = run(&inputs, &options(&out, grid(), None));
    assert_eq!(goes_on.trained, 1);
    // With the times of the first part, which would be others if it were trained again.
    let after = fs::read_to_string(&log).unwrap();
    assert!(before.contains("tokens_per_s") && after.lines().take(5).eq(before.lines().take(5)), "{before}\n{after}");
    let of_both: Vec<u64> = read_metrics(&log).unwrap().iter().map(|row| row.step).collect();
    assert!(of_both.windows(2).all(|two| two[0] <= two[1]) && of_both.last() == Some(&27), "{of_both:?}");

    // Without its state it begins again, and ends with the same bytes.
    let forgetful = folder.path().join("forgetful");
    let keeps_none = PruneOptions { keep_states: false, ..PruneOptions::default() };
    let first = run(&inputs, &options(&forgetful, grid(), Some(keeps_none)));
    let dir = &first.pruned().next().unwrap().dir;
    assert!(!forgetful.join(dir).join(format!("checkpoint-{step}")).exists());
    let again = run(&inputs, &options(&forgetful, grid(), None));
    assert!(adapters(&again) == adapters(&goes_on));
}

#[test]
fn more_points_compete_with_those_that_were_decided() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let prune = || Some(PruneOptions::default());
    let out = folder.path().join("out");
    let few = run(&inputs, &options(&out, Axes::from([("lr", json!([1e-5, 1e-3, 1e-2]))]), prune()));
    assert_eq!((status(&few, "finished"), status(&few, "pruned")), (1, 2));
    let many = Axes::from([("lr", json!([1e-5, 1e-3, 1e-2, 1e-6, 2e-3, 2e-5]))]);
    let more = run(&inputs, &options(&out, many, prune()));
    // Two of six may go on past the last third: the best of the new ones is only better than one of the old.
    assert_eq!((more.skipped, status(&more, "finished")), (3, 2), "{}", more.table());
    for row in few.rows() {
        let now = more.rows().iter().find(|other| other.dir == row.dir).unwrap();
        assert_eq!(now.result, row.result);
    }
}

#[test]
fn a_failed_trial_wins_nothing_and_its_seeds_leave_together() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let grid = Axes::from([("lr", json!([1e-4, 1e-3, 1e30])), ("seed", json!(2))]);
    let result = run(&inputs, &options(&folder.path().join("out"), grid, Some(PruneOptions::default())));
    assert_eq!((status(&result, "finished"), status(&result, "pruned"), status(&result, "failed")), (2, 2, 2));
    assert_eq!(result.best("eval_loss").unwrap().point.to_string(), "lr=0.001");
    let table = result.table();
    assert!(table.contains("failed") && table.contains("pruned: 2 of 6 trials, stopped at step 9"), "{table}");
}

#[test]
fn the_median_rule_stops_settings_at_evaluations() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let grid = || Axes::from([("lr", json!([1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3]))]);
    let full = run(&inputs, &options(&folder.path().join("full"), grid(), None));
    let prune = PruneOptions { rule: PruneRule::Median, min_steps: Some(6), ..PruneOptions::default() };
    let result = run(&inputs, &options(&folder.path().join("out"), grid(), Some(prune)));
    let finished = adapters(&result);
    assert!(!finished.is_empty() && finished.len() < 6);
    assert_eq!(result.best("eval_loss").unwrap().point, full.best("eval_loss").unwrap().point);
    let expected = adapters(&full);
    assert!(finished.iter().all(|(name, adapter)| adapter == &expected[name]));
    let curve = |dir: &str| -> Vec<(u64, f64)> {
        let log = read_metrics(&folder.path().join("full").join(dir).join("metrics.jsonl")).unwrap();
        log.iter().filter_map(|row| Some((row.step, row.eval_loss?))).filter(|(step, _)| *step >= 6).collect()
    };
    let curves: Vec<(String, Vec<(u64, f64)>)> =
        full.rows().iter().map(|row| (row.dir.clone(), curve(&row.dir))).collect();
    // The rule by hand, over the curves of the full sweep.
    let mut left: Vec<usize> = (0..curves.len()).collect();
    let mut stops: BTreeMap<String, u64> = BTreeMap::new();
    for rung in 0..curves[0].1.len() - 1 {
        let so_far = |at: usize| curves[at].1[..=rung].iter().map(|(_, loss)| *loss);
        let mean = |at: usize| so_far(at).sum::<f64>() / (rung + 1) as f64;
        let is_worse = |&at: &usize| {
            let mut others: Vec<f64> = left.iter().filter(|&&other| other != at).map(|&other| mean(other)).collect();
            others.sort_by(f64::total_cmp);
            let (n, best) = (others.len(), so_far(at).fold(f64::INFINITY, f64::min));
            n > 0 && best > (others[(n - 1) / 2] + others[n / 2]) / 2.0
        };
        let stopped: Vec<usize> = left.iter().copied().filter(is_worse).collect();
        stops.extend(stopped.iter().map(|&at| (curves[at].0.clone(), curves[at].1[rung].0)));
        left.retain(|at| !stopped.contains(at));
    }
    let found: BTreeMap<String, u64> =
        result.pruned().map(|row| (row.dir.clone(), row.pruned().unwrap().step)).collect();
    assert_eq!(found, stops);
}

#[test]
fn without_evaluations_on_the_way_rungs_are_the_only_ones() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let config = TrainConfig { eval_every: EvalInterval::Steps(0), ..config() };
    let grid = Axes::from([("lr", json!([1e-4, 1e-3, 1e-2]))]);
    let options = options(&folder.path().join("out"), grid, Some(PruneOptions::default()));
    let (report, _) = run_at(&inputs, &options, &config, Pace::Full);
    let stopped = report.result.pruned().next().unwrap();
    let log = read_metrics(&options.out.join(&stopped.dir).join("metrics.jsonl")).unwrap();
    let evaluated: Vec<u64> = log.iter().filter(|row| row.eval_loss.is_some()).map(|row| row.step).collect();
    assert_eq!(evaluated, [9]);
}

#[test]
fn a_rehearsal_says_what_is_saved() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let options = options(&folder.path().join("out"), grid(), Some(PruneOptions { eta: 2, ..PruneOptions::default() }));
    let (rehearsed, _) = run_at(&inputs, &options, &config(), Pace::Rehearsal);
    let forecast = rehearsed.forecast.unwrap().pruning.unwrap();
    assert_eq!(forecast.rungs, [(12, 9), (6, 15), (3, 27)]);
    let real = run(&inputs, &options);
    let took = |row: &lorhai::sweep::TrialRow| row.value("tokens").as_u64().unwrap();
    let tokens: u64 = real.rows().iter().map(took).sum();
    // Both seeds of each setting leave together, so that the expected number is the exact one.
    assert_eq!((forecast.expected, tokens), (tokens, forecast.expected));
    let all: u64 = (0..2).map(|seed| planned_tokens(&inputs.train, &TrainConfig { seed, ..config() })).sum();
    assert_eq!(forecast.all, 12 * all);
}

#[test]
fn a_metric_that_no_rung_has_is_refused_before_the_sweep() {
    let (inputs, folder) = (inputs(), tempfile::tempdir().unwrap());
    let prune = PruneOptions { metric: "accuracy".into(), ..PruneOptions::default() };
    let options = options(&folder.path().join("out"), grid(), Some(prune));
    let Inputs { base, train, test } = &inputs;
    let sweep = LoraSweep::new(base, (train, test), &options, &spec(), &config()).unwrap();
    let error = sweep.run(&options.out, Pace::Full, SweepProgress::new(true), &mut |_| {});
    let error = error.err().unwrap();
    assert!(error.kind == Kind::Input && error.message.contains("`prune.metric`"), "{error}");
    assert!(!options.out.exists());
}
