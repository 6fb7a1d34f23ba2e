//! Nested ranks: gradients against PyTorch (`golden/nested/generate.py`), plain LoRA where the weighting is trivial, runs
//! beside others, files, and prefixes as adapters.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_script, golden, read_json, tiny_folder};
use common::models::tiny;
use common::numbers::{floats, relative_error};
use common::program::{finished, lorhai};
use lorhai::data::{self, Batch, Dataset, TokenizeOptions, TokenizedDataset};
use lorhai::eval::loss::{evaluation, mean_loss, mean_losses};
use lorhai::hub::weights::Weights;
use lorhai::lora::prefix::prefix;
use lorhai::lora::spectrum::truncate;
use lorhai::lora::{
    peft, Adapter, AdapterSet, LoraSpec, Model, NestedLoss, NestedOptions, NestedScale, Targets, Trainable,
};
use lorhai::model::{load, Config, Decoder};
use lorhai::options::OptionSet;
use lorhai::random::Key;
use lorhai::train::memory::check::planned;
use lorhai::train::memory::{Method, Request};
use lorhai::train::nested::{adapters_of, pass_parts, MicroBatch};
use lorhai::train::observer::Silent;
use lorhai::train::step::backward;
use lorhai::train::trainer::Evaluate;
use lorhai::train::{train, train_together, AdamWConfig, Callbacks, Job, TrainConfig};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

const LOSSES: [NestedLoss; 4] = [NestedLoss::All, NestedLoss::Rows, NestedLoss::Sampled, NestedLoss::Outputs];

/// The case of the golden file, in one precision.
struct Reference {
    about: Value,
    tensors: Weights,
    decoder: Decoder,
    kind: Kind,
}

impl Reference {
    fn new(kind: Kind) -> Self {
        let folder = golden("models/qwen2_tied");
        let config = Config::from_folder(&folder).unwrap();
        Reference {
            about: read_json(golden("nested/nested.json")),
            tensors: Weights::open(&golden("nested/nested.safetensors")).unwrap(),
            decoder: load::load(config, &Weights::open(&folder).unwrap(), kind, Device::Cpu).unwrap(),
            kind,
        }
    }

    fn ranks(&self) -> Vec<i64> {
        floats(&self.about["ranks"]).into_iter().map(|rank| rank as i64).collect()
    }

    fn adapter(&self, loss: NestedLoss, scale: NestedScale) -> Adapter {
        let ranks = self.ranks();
        let spec = LoraSpec {
            r: *ranks.last().unwrap(),
            alpha: self.about["alpha"].as_f64().unwrap(),
            target_modules: Targets::Names(vec!["q_proj".into(), "down_proj".into()]),
            nested: NestedOptions { ranks, loss, scale, weights: floats(&self.about["weights"]) },
            ..LoraSpec::default()
        };
        spec.ensure_valid("test").unwrap();
        let mut adapter = Adapter::zeros(spec, &self.decoder.config, self.kind, Device::Cpu).unwrap();
        for at in 0..adapter.parameters.names().len() {
            let value = self.tensors.tensor(&adapter.parameters.names()[at]).unwrap();
            adapter.parameters.set(at, &value).unwrap();
        }
        adapter
    }

    fn batch(&self) -> Batch {
        let rows: Vec<Vec<i64>> = serde_json::from_value(self.about["ids"].clone()).unwrap();
        Batch::of_rows(rows.len(), rows[0].len(), rows.concat())
    }

    fn loss(&self, name: &str) -> f64 {
        self.about["losses"][name].as_f64().unwrap()
    }

    /// Σ weight · value over the cases of the golden file.
    fn expected(&self, cases: &[(String, f64)], leaf: &str) -> Tensor {
        let tensors =
            cases.iter().map(|(case, weight)| self.tensors.tensor(&format!("{case}.{leaf}")).unwrap() * *weight);
        tensors.reduce(|sum, tensor| sum + tensor).unwrap()
    }
}

/// The parts of the golden file whose weighted sum is the gradient of this loss, at a step of this seed.
fn cases(reference: &Reference, adapter: &Adapter, keys: MicroBatch) -> Vec<(String, f64)> {
    let nested = adapter.nested().unwrap();
    let scale = if nested.options.scale == NestedScale::Rank { "rank" } else { "fixed" };
    let case = |row: usize, at: usize| format!("row{row}.r{}.{scale}", reference.ranks()[at]);
    let rows = 0..reference.batch().rows;
    match nested.options.loss {
        NestedLoss::All => {
            let each = |row| nested.shares().iter().enumerate().map(move |(at, share)| (row, at, *share));
            rows.flat_map(each).map(|(row, at, share)| (case(row, at), share)).collect()
        }
        NestedLoss::Sampled => {
            let at = nested.sampled(Key::new(keys.seed).named("nested").numbered(keys.step));
            rows.map(|row| (case(row, at), 1.0)).collect()
        }
        NestedLoss::Rows => {
            let key =
                Key::new(keys.seed).named("nested").numbered(keys.step).named("rows").numbered(keys.number as u64);
            let prefixes = nested.of_rows(reference.batch().rows, key);
            rows.map(|row| (case(row, prefixes[row]), 1.0)).collect()
        }
        NestedLoss::Outputs => vec![(format!("outputs.{scale}"), 1.0)],
    }
}

#[test]
fn gradients_are_those_of_pytorch() {
    for (kind, bound) in [(Kind::Double, 1e-9), (Kind::Float, 2e-5)] {
        let reference = Reference::new(kind);
        let (batch, mut worst, mut seen) = (reference.batch(), 0.0_f64, BTreeMap::<String, usize>::new());
        for loss in LOSSES {
            for scale in [NestedScale::Rank, NestedScale::Fixed] {
                let mut adapter = reference.adapter(loss, scale);
                for step in 0..6 {
                    let keys = MicroBatch { seed: 3, step, number: 1, has_dropout: false };
                    adapter.parameters.zero_gradients().unwrap();
                    let mut parts = pass_parts(&adapter, &batch, keys);
                    let set = adapters_of(&mut parts);
                    let batches: Vec<&Batch> = parts.iter().map(|part| part.batch.as_ref()).collect();
                    let weights: Vec<f64> = parts.iter().map(|part| part.weight).collect();
                    let sums =
                        backward(&reference.decoder, &batches, &set, &weights, step % 2 == 1).unwrap().sums().unwrap();
                    let found: f64 = sums.iter().zip(&weights).map(|(sum, weight)| sum * weight).sum();
                    drop((set, parts));
                    let cases = cases(&reference, &adapter, keys);
                    cases.iter().for_each(|(case, _)| *seen.entry(case.clone()).or_default() += 1);
                    let expected: f64 = cases.iter().map(|(case, weight)| weight * reference.loss(case)).sum();
                    worst = worst.max((found / expected - 1.0).abs());
                    for (name, gradient) in adapter.parameters.names().iter().zip(adapter.parameters.gradients()) {
                        worst = worst.max(relative_error(gradient, &reference.expected(&cases, name)));
                    }
                }
            }
        }
        println!("{kind:?}: worst {worst:.1e}");
        assert!(worst < bound, "{kind:?}: {worst:.1e}");
        assert_eq!(seen.len(), 2 * (9 + 1), "a case was not compared: {seen:?}");
    }
}

fn rows(model: &Model) -> TokenizedDataset {
    let path = tiny_folder().join("pretrain.jsonl");
    let rows = Dataset::load(path.to_str().unwrap()).unwrap().take(60);
    let options = TokenizeOptions { cache: false, max_length: Some(48), ..TokenizeOptions::default() };
    data::tokenize(&rows, model.tokenizer().unwrap(), &options).unwrap()
}

fn spec(ranks: &[i64], loss: NestedLoss) -> LoraSpec {
    LoraSpec {
        r: 8,
        alpha: 16.0,
        dropout: 0.1,
        target_modules: Targets::AllLinear,
        nested: NestedOptions { ranks: ranks.to_vec(), loss, ..NestedOptions::default() },
        ..LoraSpec::default()
    }
}

fn config() -> TrainConfig {
    let optimizer = AdamWConfig { lr: 1e-3, ..AdamWConfig::default() };
    TrainConfig { steps: 6, batch: 5, accumulation: 2, optimizer, ..TrainConfig::default() }
}

/// The values after a short run.
fn trained(model: &Model, data: &TokenizedDataset, spec: LoraSpec) -> Adapter {
    let mut adapter = Adapter::new(spec, model.decoder(), 5).unwrap();
    train(model.decoder(), &mut adapter, data, &config(), None, &mut Silent).unwrap();
    adapter
}

fn values(adapter: &Adapter) -> Vec<f32> {
    Vec::try_from(adapter.parameters.snapshot().unwrap()).unwrap()
}

#[test]
fn a_trivial_weighting_is_plain_lora_bit_by_bit() {
    let model = tiny();
    let data = rows(&model);
    let plain = values(&trained(&model, &data, spec(&[], NestedLoss::Rows)));
    assert_eq!(values(&trained(&model, &data, spec(&[8], NestedLoss::All))), plain);
    for loss in [NestedLoss::All, NestedLoss::Rows, NestedLoss::Sampled] {
        let mut spec = spec(&[1, 2, 8], loss);
        spec.nested.weights = vec![0.0, 0.0, 3.0];
        assert_eq!(values(&trained(&model, &data, spec)), plain, "{loss:?}");
    }
    assert_ne!(values(&trained(&model, &data, spec(&[1, 2, 8], NestedLoss::Rows))), plain);
}

#[test]
fn a_nested_run_is_the_same_beside_others() {
    let model = tiny();
    let data = rows(&model);
    let specs = || LOSSES.iter().map(|loss| spec(&[1, 4, 8], *loss)).chain([spec(&[], NestedLoss::Rows)]);
    let mut together: Vec<Adapter> = specs().map(|spec| Adapter::new(spec, model.decoder(), 5).unwrap()).collect();
    let config = config();
    let mut observers: Vec<Silent> = specs().map(|_| Silent).collect();
    let jobs = together.iter_mut().zip(&mut observers);
    let jobs = jobs.map(|(trainable, observer)| Job {
        trainable,
        config: &config,
        observer,
        callbacks: Callbacks::default(),
        until: None,
        processes: None,
    });
    let outcomes = train_together(model.decoder(), jobs.collect(), &data, None).unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    for (adapter, spec) in together.iter().zip(specs()) {
        let name = format!("{:?}", spec.nested);
        let alone = trained(&model, &data, spec);
        let off = relative_error(adapter.parameters.flat(), alone.parameters.flat());
        assert!(off < 1e-4, "{name}: {off:.1e}");
    }
}

#[test]
fn shares_are_those_of_the_weights() {
    let spec = |weights: &[f64]| {
        let nested = NestedOptions { ranks: vec![1, 2, 8], weights: weights.to_vec(), ..NestedOptions::default() };
        LoraSpec { r: 8, nested, ..LoraSpec::default() }
    };
    let config = tiny().decoder().config.clone();
    let adapter = Adapter::zeros(spec(&[1.0, 0.0, 3.0]), &config, Kind::Float, Device::Cpu).unwrap();
    let nested = adapter.nested().unwrap();
    let (mut of_rows, mut of_steps) = ([0; 3], [0; 3]);
    for step in 0..4000 {
        let key = Key::new(9).numbered(step);
        of_steps[nested.sampled(key)] += 1;
        let prefixes = nested.of_rows(8, key);
        prefixes.iter().for_each(|at| of_rows[*at] += 1);
        // As even as can be: two of eight rows for a quarter.
        assert_eq!(prefixes.iter().filter(|at| **at == 0).count(), 2);
    }
    assert_eq!(of_rows, [8000, 0, 24000]);
    // Four standard deviations of a binomial.
    assert!(
        (of_steps[0] as f64 - 1000.0).abs() < 4.0 * (4000.0_f64 * 0.25 * 0.75).sqrt() && of_steps[1] == 0,
        "{of_steps:?}"
    );
}

#[test]
fn prefixes_are_adapters_of_their_rank() {
    let model = tiny();
    let (decoder, data) = (model.decoder(), rows(&model));
    for scale in [NestedScale::Rank, NestedScale::Fixed] {
        let mut spec = spec(&[1, 2, 8], NestedLoss::Rows);
        spec.nested.scale = scale;
        let mut adapter = Adapter::new(spec, decoder, 5).unwrap();
        let mut measure = evaluation(&data, 8);
        let outcome =
            train(decoder, &mut adapter, &data, &config(), Some(&mut measure as &mut Evaluate), &mut Silent).unwrap();
        // Whole: as saved and read again, by this program and without its note.
        let folder = tempfile::tempdir().unwrap();
        peft::save(&adapter, "base", None, folder.path(), false).unwrap();
        let again = peft::load(folder.path(), decoder).unwrap();
        assert_eq!(again.spec.nested, adapter.spec.nested);
        let config = read_json(folder.path().join("adapter_config.json"));
        assert!(config.as_object().unwrap().keys().all(|key| !key.contains("nested")), "{config}");
        let loss_of = |adapter: &Adapter| mean_loss(decoder, &AdapterSet::one(adapter, None), &data, 8).unwrap().loss;
        assert_eq!(Some(loss_of(&again)), outcome.eval_loss);
        for (rank, alpha) in [(1, 2.0), (2, 4.0)] {
            let lower = prefix(&again, rank, &decoder.config).unwrap();
            assert_eq!(lower.spec.alpha, if scale == NestedScale::Rank { 16.0 } else { alpha });
            assert_eq!((lower.spec.r, lower.spec.nested.is_nested()), (rank, false));
            peft::save(&lower, "base", None, &folder.path().join(rank.to_string()), false).unwrap();
            let lower = peft::load(&folder.path().join(rank.to_string()), decoder).unwrap();
            let recorded = outcome.metrics[&format!("eval_loss_r{rank}")];
            assert!((loss_of(&lower) - recorded).abs() < 1e-6, "{scale:?} {rank}: {recorded}");
        }
        let prefixes = again.prefixes();
        let each: Vec<&dyn Trainable> = prefixes.iter().map(|prefix| prefix as &dyn Trainable).collect();
        let losses = mean_losses(decoder, &each, &data, 8).unwrap();
        assert!((losses[2].loss - outcome.eval_loss.unwrap()).abs() < 1e-6);
        assert!(losses[0].loss != losses[1].loss && losses[1].loss != losses[2].loss);
        // Singular values cut a nested adapter as any other.
        let cut = truncate(&again, 3, &decoder.config).unwrap();
        assert!(cut.spec.r == 3 && !cut.spec.nested.is_nested());
        let error = prefix(&again, 4, &decoder.config).unwrap_err();
        assert_eq!(error.message, "prefix_adapter: expected one of the nested ranks 1, 2, 8, found 4");
    }
    let plain = Adapter::new(spec(&[], NestedLoss::Rows), decoder, 5).unwrap();
    assert!(prefix(&plain, 4, &decoder.config).unwrap_err().hint.unwrap().contains("truncate_adapter"));
}

#[test]
fn a_file_whose_ranks_do_not_fit_is_read_without_them() {
    let model = tiny();
    let adapter = Adapter::new(spec(&[1, 2, 8], NestedLoss::All), model.decoder(), 5).unwrap();
    let folder = tempfile::tempdir().unwrap();
    peft::save(&adapter, "base", None, folder.path(), false).unwrap();
    std::fs::remove_file(folder.path().join("lorhai.json")).unwrap();
    let path = folder.path().join("adapter_model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes[8..400]).into_owned();
    assert!(text.contains("[1,2,8]"), "{text}");
    let at = bytes.windows(7).position(|window| window == b"[1,2,8]").unwrap();
    let mut changed = bytes.clone();
    changed[at + 5] = b'9';
    std::fs::write(&path, changed).unwrap();
    let read = peft::load(folder.path(), model.decoder()).unwrap();
    assert!(!read.spec.nested.is_nested() && read.notes[0].contains("nested ranks"), "{:?}", read.notes);
    assert!(read.parameters.flat().equal(adapter.parameters.flat()));
}

#[test]
fn the_plan_counts_the_rows_of_every_prefix() {
    let model = tiny();
    let of = |loss| {
        let lora = LoraSpec { dropout: 0.0, ..spec(&[1, 2, 8], loss) };
        let request = Request { batch: 4, length: 64, lora, ..Request::of(model.decoder()) };
        planned(&model.decoder().config, &request, Method::Lora).unwrap()
    };
    let (plain, all) = (of(NestedLoss::Rows), of(NestedLoss::All));
    let ratio = all.activations as f64 / plain.activations as f64;
    assert!((ratio - 3.0).abs() < 0.01, "{ratio}");
}

/// A script in a folder of its own; returns what it prints.
fn run(script: &str) -> (Option<i32>, String, String) {
    let folder = folder_with_script(script);
    let ran = finished(lorhai(folder.path()).args(["run", "--quiet", "case.rhai"]));
    (ran.code, ran.output, ran.errors)
}

#[test]
fn a_sweep_trains_nested_runs_beside_others_and_is_refereed() {
    let script = r#"
        let base = load_model("scripts/tiny", #{ dtype: "f32" });
        let data = load_dataset("scripts/tiny/train.jsonl").take(60).tokenize(base, #{ max_length: 64 }).split(#{ test: 20 });
        let train = #{ steps: 3, lr: 1e-3, batch: 4 };
        let axes = #{ nested_ranks: #{ none: [], three: [1, 2, 4] }, seed: 2 };
        let mixed = sweep(base, data, #{ grid: axes, lora: #{ r: 4, dropout: 0.1 }, train: train, out: "runs/mixed" });
        let again = sweep(base, data, #{ grid: axes, lora: #{ r: 4, dropout: 0.1 }, train: train, out: "runs/mixed" });
        for row in again.rows { print(`${row.status} ${type_of(row.eval_loss_r1)} ${type_of(row.eval_loss)}`); }
        let trained = sweep(base, data, #{ grid: #{ rank: [1, 2, 4], seed: 2 }, lora: #{ dropout: 0.1 }, train: train, out: "runs/trained" });
        let nested = sweep(base, data, #{ grid: #{ seed: 2 }, lora: #{ r: 4, nested_ranks: [1, 2, 4] }, train: train, out: "runs/nested" });
        let verdict = trained.referee(base, data.test, #{ nested: "runs/nested", margin: 1.0 });
        print(verdict.summary);
        print(verdict.needed);
        for rank in verdict.ranks { print(`${rank.rank} ${rank.trained.len()} ${rank.nested.len()} ${rank.truncated.len()} ${rank.nested_distance.verdict}`); }
        let off = verdict.ranks[2].nested[1] - nested.rows[1].eval_loss;
        print(off.abs() < 1e-6);
        verdict.chart("runs/ranks.svg");
        print(read_text("runs/ranks.svg").contains("prefix of a nested run"));
        print(verdict.table());
        print(trained.referee(base, data.test, #{ margin: 1.0 }).summary);
        base.load_adapter("runs/nested/seed-1", #{ name: "nested" });
        prefix_adapter(base, "nested", 2, #{});
        print(base.adapters);
        let cut = evaluate(base, data.test, #{}).loss - nested.rows[1].eval_loss_r2;
        print(cut.abs() < 1e-6);
    "#;
    let (code, output, errors) = run(script);
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..4], ["finished () f64", "finished () f64", "finished f64 f64", "finished f64 f64"]);
    assert!(
        lines[4].starts_with("the sweep was not needed: the nested prefixes are within 1 of the trained ranks"),
        "{output}"
    );
    assert_eq!(lines[5..9], ["false", "1 2 2 2 close", "2 2 2 2 close", "4 2 2 0 close"]);
    assert_eq!(lines[9..11], ["true", "true"]);
    assert!(output.contains("the sweep was not needed: the truncations are within 1"), "{output}");
    assert!(output.ends_with("[\"nested\", \"nested_r2\"]\ntrue\n"), "{output}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |options: &str, rest: &str| {
        let script = format!(
            "let model = load_model(\"scripts/tiny\");\nmodel.add_lora({options});\n\
             let data = dataset([#{{ prompt: \"a\", completion: \" b\" }}]).tokenize(model, #{{}});\n{rest}"
        );
        let (code, _, errors) = run(&script);
        assert_eq!(code, Some(1), "{options} {rest}: {errors}");
        errors
    };
    let nested = |more: &str| format!("#{{ r: 4, nested_ranks: [1, 4], {more} }}");
    for (options, expected) in [
        (
            nested("use_dora: true"),
            "option `nested_ranks`: expected an adapter of A and B alone, found `use_dora` beside it",
        ),
        (nested("init: \"pissa\""), "found `init` beside it"),
        (nested("init: \"olora\""), "found `init` beside it"),
        (nested("rank_pattern: #{ q_proj: 2 }"), "found `rank_pattern` beside it"),
        (nested("modules_to_save: [\"lm_head\"]"), "found `modules_to_save` beside it"),
        (
            nested("target_modules: [\"q_proj\", \"embed_tokens\"]"),
            "`nested_ranks`: expected linear layers, found the target",
        ),
        (
            "#{ r: 4, nested_ranks: [2, 1, 4] }".into(),
            "expected ascending ranks of which `r`, 4, is the last, found [2, 1, 4]",
        ),
        (
            "#{ r: 8, nested_ranks: [1, 4] }".into(),
            "expected ascending ranks of which `r`, 8, is the last, found [1, 4]",
        ),
        ("#{ r: 4, nested_ranks: [0, 4] }".into(), "option `nested_ranks`: expected"),
        (nested("nested_weights: [1.0]"), "option `nested_weights`: expected 2 numbers, one for each rank, found 1"),
        (nested("nested_weights: [0, 0]"), "option `nested_weights`: expected a weight above 0, found only zeros"),
        (
            "#{ r: 4, nested_loss: \"all\" }".into(),
            "option `nested_loss`: expected it beside `nested_ranks`, found it alone",
        ),
    ] {
        let errors = refused(&options, "");
        assert!(errors.contains(expected), "{options}: {errors}");
    }
    for (rest, call) in [
        ("for batch in data.batches(#{ size: 1 }) { model.forward(batch); }", "forward"),
        ("train(model, data, #{ steps: 1, loss: |model, batch| model.forward(batch).loss });", "train"),
        (
            "let pairs = load_dataset(\"scripts/tiny/preferences.jsonl\").take(4).tokenize(model, #{}); \
          train(model, pairs, #{ objective: \"dpo\", steps: 1 });",
            "train",
        ),
    ] {
        let errors = refused(&nested(""), rest);
        let expected = format!("{call}: expected an adapter without nested ranks, found one with 1, 4");
        assert!(errors.contains(&expected), "{rest}: {errors}");
    }
}
