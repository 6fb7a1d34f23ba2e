//! Training on preferences: the numbers are those of TRL's trainers, runs side by side are what they would be alone, and
//! the reference is computed once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, read_json, tiny_folder};
use common::models::load;
use common::numbers::{floats, nmse};
use common::session::prints;
use lorhai::data::{audit, tokenize, Dataset, TokenizeOptions, TokenizedDataset};
use lorhai::lora::{peft, Adapter, LoraSpec, Model, Targets, Trainable};
use lorhai::model::Decoder;
use lorhai::options::OptionType;
use lorhai::sweep::progress::SweepProgress;
use lorhai::sweep::{Axes, LoraSweep, SweepOptions};
use lorhai::train::callbacks::Callbacks;
use lorhai::train::mean_metrics::MeanMetrics;
use lorhai::train::objective::preference::PreferenceInputs;
use lorhai::train::objective::{DpoLoss, LossType, Objective, ObjectiveOptions, References};
use lorhai::train::observer::{EvalReport, StepReport, TrainObserver};
use lorhai::train::trainer::{train_resumable, Checkpoints};
use lorhai::train::{AdamWConfig, EvalInterval, Job, Pace, TrainConfig, TrainOutcome};
use lorhai::Result;
use serde_json::{json, Value};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The models of the golden files, by their folders.
const MODELS: [&str; 2] = ["text", "chat"];
const CASES: [&str; 7] = ["dpo_sigmoid", "dpo_hinge", "dpo_ipo", "orpo", "simpo", "simpo_alone", "kto"];

fn folder(model: &str) -> PathBuf {
    golden("preferences").join(model)
}

/// The tokenizer is that of the shipped model.
fn model(name: &str) -> Model {
    match name {
        "text" => load(&tiny_folder(), "f32"),
        _ => load(&folder(name).join("model"), "f32"),
    }
}

fn tokens(file: &Path, max_length: usize) -> TokenizedDataset {
    let options = TokenizeOptions {
        max_length: Some(max_length),
        drop_unlabelled: true,
        cache: false,
        ..TokenizeOptions::default()
    };
    let tiny = load(&tiny_folder(), "f32");
    tokenize(&Dataset::load(file).unwrap(), tiny.tokenizer().unwrap(), &options).unwrap()
}

/// The rows in such an order that a run visits them in that of the file, in its first epoch.
fn visited_in_order(data: &TokenizedDataset, seed: u64) -> TokenizedDataset {
    let order = data.epoch_order(seed, 0);
    let mut rows = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &row)| rows[row as usize] = at);
    data.select(&rows).unwrap()
}

#[derive(Default)]
struct Recorded {
    losses: Vec<f64>,
    norms: Vec<f64>,
    metrics: Vec<MeanMetrics>,
    evaluations: Vec<EvalReport>,
    notes: Vec<String>,
}

impl TrainObserver for Recorded {
    fn on_step(&mut self, report: &StepReport) -> Result<()> {
        self.losses.push(report.loss);
        self.norms.push(report.grad_norm);
        self.metrics.push(report.metrics.clone());
        Ok(())
    }
    fn on_eval(&mut self, report: &EvalReport) -> Result<()> {
        self.evaluations.push(report.clone());
        Ok(())
    }
    fn on_note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn train_all(
    decoder: &Decoder,
    adapters: &mut [Adapter],
    configs: &[TrainConfig],
    data: &TokenizedDataset,
    inputs: PreferenceInputs,
) -> (Vec<TrainOutcome>, Vec<Recorded>) {
    let mut recorded: Vec<Recorded> = adapters.iter().map(|_| Recorded::default()).collect();
    let jobs = adapters.iter_mut().zip(configs).zip(&mut recorded);
    let jobs = jobs
        .map(|((trainable, config), observer)| Job {
            trainable,
            config,
            observer,
            callbacks: Callbacks::default(),
            until: None,
            processes: None,
        })
        .collect();
    let mut evaluate = |_: &Decoder, _: &[&dyn Trainable]| panic!("the loss of examples");
    let evaluate: Option<&mut lorhai::train::trainer::Evaluate> = match inputs.held_out {
        Some(_) => Some(&mut evaluate),
        None => None,
    };
    let outcomes = train_resumable(decoder, jobs, data, evaluate, Checkpoints::default(), inputs).unwrap();
    (outcomes.into_iter().map(|outcome| outcome.unwrap()).collect(), recorded)
}

fn named<T: OptionType>(name: &str) -> T {
    T::from_value(&lorhai::options::Value::from(&json!(name))).ok().unwrap()
}

/// The settings of a golden case.
fn config(case: &str, golden: &Value) -> TrainConfig {
    let number = |name: &str, default: f64| golden["settings"][name].as_f64().unwrap_or(default);
    let kind = named(case.split('_').next().unwrap());
    let objective = ObjectiveOptions {
        kind,
        beta: Some(number("beta", 0.1)),
        loss_type: match kind {
            Objective::Dpo => Some(named(golden["settings"]["loss_type"].as_str().unwrap())),
            _ => None,
        },
        label_smoothing: number("label_smoothing", 0.0),
        simpo_gamma: number("simpo_gamma", 0.5),
        cpo_alpha: number("cpo_alpha", 1.0),
        undesirable_weight: number("undesirable_weight", 1.0),
        ..ObjectiveOptions::default()
    };
    let count = |name: &str| golden[name].as_u64().unwrap();
    TrainConfig {
        steps: count("steps"),
        batch: count("batch") as usize,
        accumulation: count("accumulation") as usize,
        optimizer: AdamWConfig { lr: golden["lr"].as_f64().unwrap(), weight_decay: 0.0, ..AdamWConfig::default() },
        objective,
        ..TrainConfig::default()
    }
}

/// Twenty steps with accumulation, of which the last has one micro-batch of one row. See
/// tests/golden/preferences/generate.py.
#[test]
fn twenty_steps_are_those_of_trls_trainers() {
    tch::set_num_threads(1);
    for name in MODELS {
        let (folder, model) = (folder(name), model(name));
        for case in CASES {
            let golden = read_json(folder.join(format!("{case}.json")));
            let config = config(case, &golden);
            let max_length = golden["max_length"].as_u64().unwrap() as usize;
            let file = if case == "kto" { "kto.jsonl" } else { "pairs.jsonl" };
            let data = visited_in_order(&tokens(&folder.join(file), max_length), config.seed);
            assert_eq!(data.len(), 77);
            let held_out = (case != "kto").then(|| tokens(&folder.join("held_out.jsonl"), max_length));
            let mut adapters = [peft::load(&folder.join("start"), model.decoder()).unwrap()];
            assert_eq!(adapters[0].spec.dropout, 0.1, "which must not apply");
            let configs = [config];
            let inputs = PreferenceInputs { held_out: held_out.as_ref(), references: None };
            let (_, recorded) = train_all(model.decoder(), &mut adapters, &configs, &data, inputs);
            compare(&format!("{name} {case}"), &golden, &recorded[0]);
            let expected = trained(&folder, case, model.decoder());
            let error = nmse(adapters[0].parameters.flat(), expected.parameters.flat());
            println!("{name} {case}: weights {error:.1e}");
            assert!(error <= 1e-8, "{name} {case}: weights {error:.1e}");
        }
    }
}

/// The adapter that TRL ended with.
fn trained(folder: &Path, case: &str, decoder: &Decoder) -> Adapter {
    let adapter = tempfile::tempdir().unwrap();
    let copy = |from: PathBuf, to: &str| std::fs::copy(from, adapter.path().join(to)).unwrap();
    copy(folder.join("start/adapter_config.json"), "adapter_config.json");
    copy(folder.join(format!("{case}.safetensors")), "adapter_model.safetensors");
    peft::load(adapter.path(), decoder).unwrap()
}

fn compare(name: &str, golden: &Value, recorded: &Recorded) {
    let relative = |ours: &[f64], theirs: &[f64]| {
        assert_eq!(ours.len(), theirs.len(), "{name}");
        ours.iter().zip(theirs).map(|(ours, theirs)| (ours / theirs - 1.0).abs()).fold(0.0, f64::max)
    };
    let losses = relative(&recorded.losses, &floats(&golden["losses"]));
    let norms = relative(&recorded.norms, &floats(&golden["grad_norms"]));
    let mut worst = (0.0_f64, String::new());
    for (metric, values) in golden["metrics"].as_object().unwrap() {
        for (step, value) in values.as_array().unwrap().iter().enumerate() {
            let ours = recorded.metrics[step].mean(metric);
            assert_eq!(ours.is_some(), value.is_number(), "{name}: {metric} of step {step}");
            // At the first step the rewards of DPO are 0 but for rounding, and their order is chance.
            let is_chance = metric == "rewards/accuracies" && step == 0 && name.contains("dpo");
            if let (Some(ours), Some(theirs), false) = (ours, value.as_f64(), is_chance) {
                let error = (ours - theirs).abs();
                worst = if error > worst.0 { (error, format!("{metric} of step {step}")) } else { worst };
            }
        }
    }
    println!("{name}: losses {losses:.1e}, norms {norms:.1e}, {} {:.1e}", worst.1, worst.0);
    assert!(losses < 1e-5 && norms < 1e-3, "{name}: losses {losses:.1e}, norms {norms:.1e}: {:?}", recorded.losses);
    assert!(worst.0 < 1e-4, "{name}: {} differs by {:.1e}", worst.1, worst.0);
    let Some(evaluation) = recorded.evaluations.last() else { return };
    for (metric, theirs) in golden["evaluated"].as_object().unwrap() {
        let ours = match metric.as_str() {
            "loss" => evaluation.loss,
            metric => evaluation.metrics[&format!("eval_{metric}")],
        };
        assert!((ours - theirs.as_f64().unwrap()).abs() < 1e-4, "{name}: eval {metric}: {ours}, {theirs}");
    }
}

/// The prompt is the common beginning of the answers; the tokens are DPOTrainer's.
#[test]
fn implicit_prompts_have_the_tokens_of_trl() {
    let tiny = load(&tiny_folder(), "f32");
    for rows in read_json(golden("preferences/implicit.json")).as_array().unwrap() {
        let rows = rows.as_array().unwrap();
        let table: Vec<_> = rows.iter().map(|row| row["row"].as_object().unwrap().clone()).collect();
        let options = TokenizeOptions { audit: false, cache: false, ..TokenizeOptions::default() };
        let data = tokenize(&Dataset::from_rows(table), tiny.tokenizer().unwrap(), &options).unwrap();
        for (row, expected) in data.iter().zip(rows) {
            let ids = |name: &str| floats(&expected[name]).iter().map(|&id| id as u32).collect::<Vec<_>>();
            let prompt = ids("prompt_ids");
            for (document, side) in row.documents().zip(["chosen_ids", "rejected_ids"]) {
                assert_eq!(document.ids(), [prompt.clone(), ids(side)].concat(), "{expected}");
                let trained: Vec<bool> = document.trained().collect();
                let start = prompt.len().max(1);
                assert!(trained.iter().enumerate().all(|(at, &on)| on == (at >= start)), "{expected}");
            }
        }
    }
}

fn small(objective: ObjectiveOptions) -> TrainConfig {
    TrainConfig {
        steps: 8,
        batch: 4,
        accumulation: 2,
        log_every: 2,
        eval_every: EvalInterval::Steps(4),
        optimizer: AdamWConfig { lr: 2e-3, ..AdamWConfig::default() },
        objective,
        ..TrainConfig::default()
    }
}

fn spec(r: i64) -> LoraSpec {
    LoraSpec { r, alpha: 8.0, dropout: 0.2, target_modules: Targets::AllLinear, ..LoraSpec::default() }
}

fn pairs() -> (TokenizedDataset, TokenizedDataset) {
    let folder = folder("text");
    (tokens(&folder.join("pairs.jsonl"), 64), tokens(&folder.join("held_out.jsonl"), 64))
}

/// Trains runs side by side, then each alone, and compares them. Returns the number of answers that the reference was
/// computed for.
fn together_and_alone(
    settings: &[(i64, ObjectiveOptions)],
    (data, held_out): (&TokenizedDataset, &TokenizedDataset),
    model: &Model,
) -> usize {
    tch::set_num_threads(1);
    let decoder = model.decoder();
    let configs: Vec<TrainConfig> = settings.iter().map(|(_, objective)| small(objective.clone())).collect();
    let fresh = |r: i64| Adapter::new(spec(r), decoder, 7).unwrap();
    let references = References::default();
    let inputs = PreferenceInputs { held_out: Some(held_out), references: Some(&references) };
    let mut together: Vec<Adapter> = settings.iter().map(|(r, _)| fresh(*r)).collect();
    let (outcomes, recorded) = train_all(decoder, &mut together, &configs, data, inputs);
    let answers = references.answers();
    for (at, (r, _)) in settings.iter().enumerate() {
        let mut alone = [fresh(*r)];
        let inputs = PreferenceInputs { references: None, ..inputs };
        let (outcome, record) = train_all(decoder, &mut alone, &configs[at..=at], data, inputs);
        let pairs = recorded[at].losses.iter().zip(&record[0].losses);
        let worst = pairs.map(|(one, other)| (one / other - 1.0).abs()).fold(0.0, f64::max);
        let weights = nmse(together[at].parameters.flat(), alone[0].parameters.flat());
        println!("run {at}: losses {worst:.1e}, weights {weights:.1e}");
        assert!(worst < 1e-5 && weights < 1e-8, "run {at}: losses {worst:.1e}, weights {weights:.1e}");
        assert!(outcomes[at].metrics.len() >= 10, "{:?}", outcomes[at].metrics);
        for ((name, one), (_, other)) in outcomes[at].metrics.iter().zip(&outcome[0].metrics) {
            assert!((one - other).abs() < 1e-4, "run {at}: {name} {one} {other}");
        }
    }
    // A later group of the sweep finds all it needs.
    train_all(decoder, &mut [fresh(4)], &configs[..1], data, inputs);
    assert_eq!(references.answers(), answers);
    answers
}

/// Objectives, betas and ranks side by side over one base.
#[test]
fn runs_side_by_side_are_what_they_would_be_alone_with_one_reference_pass() {
    let (data, held_out) = pairs();
    let dpo = |beta, loss| ObjectiveOptions {
        kind: Objective::Dpo,
        beta: Some(beta),
        loss_type: Some(LossType::Dpo(loss)),
        ..ObjectiveOptions::default()
    };
    let settings = [
        (4, dpo(0.1, DpoLoss::Sigmoid)),
        (2, dpo(0.5, DpoLoss::Sigmoid)),
        (8, dpo(0.1, DpoLoss::Ipo)),
        (3, dpo(0.3, DpoLoss::Hinge)),
        (4, ObjectiveOptions { kind: Objective::Orpo, ..ObjectiveOptions::default() }),
        (2, ObjectiveOptions { kind: Objective::Simpo, beta: Some(2.0), ..ObjectiveOptions::default() }),
    ];
    // 8 steps of 8 rows of 77 pairs, with the same seed, and 8 held-out pairs.
    assert_eq!(together_and_alone(&settings, (&data, &held_out), &model("text")), 2 * (64 + 8));
}

/// KTO visits prompts with the completions of other rows too: one for each row and step.
#[test]
fn labelled_completions_side_by_side_are_what_they_would_be_alone() {
    let (data, held_out) = tokens(&folder("text").join("kto.jsonl"), 64).split(8.0, 0).unwrap();
    let kto = |beta, desirable_weight| ObjectiveOptions {
        kind: Objective::Kto,
        beta,
        desirable_weight,
        ..ObjectiveOptions::default()
    };
    let settings = [(4, kto(Some(0.1), 1.0)), (2, kto(Some(0.5), 1.0)), (4, kto(Some(0.1), 2.0))];
    assert_eq!(together_and_alone(&settings, (&data, &held_out), &model("text")), 2 * (64 + 8));
}

/// An adapter that was trained before is its own reference: its first loss is ln 2 again.
#[test]
fn the_reference_of_a_trained_adapter_is_a_frozen_copy_of_it() {
    let ((data, _), model) = (pairs(), model("text"));
    let config = small(ObjectiveOptions { kind: Objective::Dpo, beta: Some(0.5), ..ObjectiveOptions::default() });
    let mut adapters = [Adapter::new(spec(4), model.decoder(), 1).unwrap()];
    for round in 0..2 {
        let configs = std::slice::from_ref(&config);
        let (_, recorded) = train_all(model.decoder(), &mut adapters, configs, &data, PreferenceInputs::default());
        let losses = &recorded[0].losses;
        assert_eq!(recorded[0].notes, ["reference: log-probabilities of 128 answers"]);
        assert!((losses[0] - std::f64::consts::LN_2).abs() < 1e-5, "round {round}: {losses:?}");
        assert!(losses[7] < losses[0] - 0.01, "round {round}: {losses:?}");
    }
}

#[test]
fn recomputed_activations_change_no_number() {
    let ((data, _), model) = (pairs(), model("text"));
    for kind in [Objective::Dpo, Objective::Orpo] {
        let config = small(ObjectiveOptions { kind, ..ObjectiveOptions::default() });
        let of = |gradient_checkpointing| {
            let mut adapters = [Adapter::new(spec(4), model.decoder(), 1).unwrap()];
            let configs = [TrainConfig { gradient_checkpointing, ..config.clone() }];
            train_all(model.decoder(), &mut adapters, &configs, &data, PreferenceInputs::default());
            adapters[0].parameters.flat().copy()
        };
        let (kept, recomputed): (Tensor, Tensor) = (of(false), of(true));
        assert!(nmse(&recomputed, &kept) < 1e-10, "{kind:?}");
    }
}

/// A sweep ranks its trials by the rewards on held-out rows, and logs them under TRL's names.
#[test]
fn a_sweep_over_preferences_has_their_metrics() {
    let ((data, held_out), model) = (pairs(), model("text"));
    let out = tempfile::tempdir().unwrap();
    let grid = Axes::from([("beta", json!([0.05, 0.5])), ("rank", json!([2, 4]))]);
    let options = SweepOptions { grid, out: out.path().join("sweep"), ..SweepOptions::default() };
    let config = small(ObjectiveOptions { kind: Objective::Dpo, ..ObjectiveOptions::default() });
    let sweep = LoraSweep::new(&model, (&data, &held_out), &options, &spec(2), &config).unwrap();
    let mut notes = Vec::new();
    let report =
        sweep.run(&options.out, Pace::Full, SweepProgress::new(true), &mut |line| notes.push(line.to_owned())).unwrap();
    assert!(
        notes.iter().any(|note| note == "reference: log-probabilities of 144 answers, once for 4 trials"),
        "{notes:?}"
    );
    let rows = report.result.rows();
    assert_eq!(rows.len(), 4);
    let best = report.result.best("eval_rewards/margins").unwrap();
    let most = rows.iter().filter_map(|row| row.number("eval_rewards/margins")).fold(f64::MIN, f64::max);
    assert_eq!(best.summary.mean, most, "a larger margin is better");
    assert!(report.result.table().contains("rewards/accuracies"));
    let log = std::fs::read_to_string(options.out.join(&rows[0].dir).join("metrics.jsonl")).unwrap();
    assert!(log.contains("\"rewards/chosen\":") && log.contains("\"eval_rewards/margins\":"), "{log}");
    let settings = read_json(options.out.join(&rows[0].dir).join("config.json"));
    assert_eq!(settings["settings"]["train"]["objective"], "dpo");
}

const ROWS: &str = r#"
    let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
    model.add_lora(#{ r: 2 });
    let pair = |i| #{ prompt: `Repeat: fox ${i}\nAnswer:`, chosen: ` fox ${i}`, rejected: ` an owl ${i}` };
    let rows = [];
    for i in 0..12 { rows.push(pair.call(i)); }
    let pairs = dataset(rows).tokenize(model, #{ cache: false });
"#;

#[test]
fn rows_that_do_not_fit_the_objective_are_refused_with_the_fix() {
    for (lines, expected) in [
        ("train(model, pairs, #{ steps: 1 });", "train: objective \"sft\": expected examples, found pairs"),
        (
            "train(model, pairs, #{ steps: 1, objective: \"kto\" });",
            "expected rows of `prompt`, `completion` and `label`",
        ),
        (
            "let rows = dataset([#{ prompt: \"a\", completion: \" b\" }]).tokenize(model, #{}); \
             train(model, rows, #{ steps: 1, objective: \"dpo\" });",
            "train: objective \"dpo\": expected rows of `prompt`, `chosen` and `rejected`, found examples",
        ),
        ("train(model, pairs, #{ steps: 1, beta: 0.5 });", "option `beta`: expected an `objective` with it"),
        ("train(model, pairs, #{ objective: \"dpp\" });", "did you mean `dpo`?"),
        ("dataset([pair.call(1)]).tokenize(model, #{ packing: true });", "option `packing`: expected none for rows of"),
        ("evaluate(model, pairs, #{});", "evaluate: expected examples, found preferences"),
    ] {
        let error = prints(&format!("{ROWS}{lines}")).unwrap_err();
        assert!(error.contains(expected), "{lines}: {error}");
    }
}

#[test]
fn a_script_trains_on_preferences_and_reads_the_rewards() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let script = format!(
        "{ROWS}
        let options = #{{ steps: 6, batch: 2, lr: 5e-3, objective: \"dpo\", log_every: 2, eval_every: 2, keep_best: true,
            out: {out:?} }};
        let result = train(model, pairs.split(#{{ test: 4 }}), options);
        print(`${{result[\"rewards/accuracies\"]}} ${{result[\"eval_rewards/margins\"] > 0.0}} ${{result.eval_perplexity == ()}}`);"
    );
    assert_eq!(prints(&script).unwrap().trim(), "1.0 true true");
    let log = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert_eq!(log.matches("\"rewards/margins\":").count(), 3, "{log}");
}

/// What the audit says of pairs.
#[test]
fn the_audit_knows_the_faults_of_pairs() {
    let tiny = load(&tiny_folder(), "f32");
    let turn = |role: &str, content: &str| json!({"role": role, "content": content});
    let audited = |rows: Value, max_length: usize| {
        let rows: Vec<_> = rows.as_array().unwrap().iter().map(|row| row.as_object().unwrap().clone()).collect();
        let options =
            TokenizeOptions { max_length: Some(max_length), audit: false, cache: false, ..TokenizeOptions::default() };
        let data = tokenize(&Dataset::from_rows(rows), tiny.tokenizer().unwrap(), &options).unwrap();
        let findings = audit(&data, tiny.tokenizer().unwrap());
        findings.into_iter().map(|finding| (finding.code, finding.message)).collect::<Vec<_>>()
    };
    let has = |findings: &[(&str, String)], code: &str, part: &str| {
        assert!(findings.iter().any(|(known, text)| *known == code && text.contains(part)), "{code}: {findings:?}");
    };
    let row =
        |chosen: &str, rejected: &str| json!({"prompt": "Repeat: the fox", "chosen": chosen, "rejected": rejected});
    let findings = audited(json!([row(" fox", " fox"), row(" fox", " owl")]), 64);
    has(&findings, "equal_pair", "in 1 of 2 rows the chosen answer equals the rejected one");
    let long = "the old fox sees the young bear and the owl";
    let findings = audited(json!([row(&format!(" {long} a"), &format!(" {long} b"))]), 10);
    has(&findings, "equal_pair", "1 of them because of max_length");
    has(&findings, "truncated", "max_length 10");
    let findings = audited(
        json!([{
            "chosen": [turn("system", "s"), turn("user", "one"), turn("assistant", "a")],
            "rejected": [turn("system", "s"), turn("user", "two"), turn("assistant", "b")],
        }]),
        64,
    );
    has(&findings, "prompts_differ", "begins with a turn that is not the assistant's");
    assert!(audited(json!([row(" fox", " owl")]), 64).is_empty());
}
