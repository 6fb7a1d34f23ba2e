//! Training on rewards: samples and their log-probabilities, the loss of GRPO beside TRL's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{golden, read_json};
use common::models::load;
use common::numbers::{floats, nmse};
use common::session::prints;
use lorhai::data::batch::{Batch, LabelledDocument, IGNORE};
use lorhai::hub::weights::Weights;
use lorhai::lora::Model;
use lorhai::options::{Declared, OptionSet, Refusal, Source, Value as OptionValue};
use lorhai::train::by_hand::parameters;
use lorhai::train::forward::ForwardPass;
use lorhai::train::grpo::{grpo_loss, Terms};
use lorhai::train::objective::{Objective, ObjectiveOptions};
use serde_json::Value;
use std::path::Path;
use tch::{no_grad, Kind, Tensor};

/// The settings of a golden case as options.
struct Settings<'a>(&'a Value);

impl Source for Settings<'_> {
    fn take(&mut self, option: &Declared) -> lorhai::Result<Option<OptionValue>> {
        Ok(self.0.get(option.name).map(OptionValue::from))
    }
    fn refuse(&self, refusal: Refusal) -> lorhai::Error {
        refusal.error("golden")
    }
}

fn with_adapter() -> Model {
    let mut model = load(Path::new("scripts/tiny"), "f32");
    model.load_adapter(&golden("rewards/start"), "default", &mut |_| {}).unwrap();
    model
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

/// Prompts and samples as a batch.
fn batch(samples: &[Value]) -> Batch {
    let document = |sample: &Value| {
        let (prompt, new) = (ids(&sample["prompt_ids"]), ids(&sample["ids"]));
        let labels = [vec![IGNORE; prompt.len()], new.clone()].concat();
        LabelledDocument { input_ids: [prompt, new].concat(), labels, weights: None }
    };
    Batch::of_documents(&samples.iter().map(document).collect::<Vec<_>>(), 0)
}

/// Numbers of new tokens in their cells, 0 elsewhere.
fn in_cells(batch: &Batch, lists: &Value) -> Tensor {
    let mut cells = vec![0f32; batch.cells()];
    let lists = lists.as_array().unwrap().iter().flat_map(floats);
    let labelled = (0..batch.cells()).filter(|&cell| batch.labels[cell] != IGNORE);
    labelled.zip(lists).for_each(|(cell, number)| cells[cell] = number as f32);
    Tensor::from_slice(&cells).reshape([batch.rows as i64, batch.seq_len as i64])
}

#[test]
fn the_loss_of_samples_and_its_gradients_are_those_of_trl() {
    let samples = read_json(golden("rewards/samples.json"));
    let samples = samples.as_array().unwrap();
    let cases = read_json(golden("rewards/losses.json"));
    let cases = cases.as_object().unwrap();
    assert_eq!(cases.len(), 8);
    let gradients = Weights::open(&golden("rewards/gradients.safetensors")).unwrap();
    let batch = batch(samples);
    let advantages: Vec<f32> = samples.iter().map(|sample| sample["advantage"].as_f64().unwrap() as f32).collect();
    let advantages = Tensor::from_slice(&advantages);
    for (name, case) in cases {
        let temperature = case["settings"]["temperature"].as_f64().unwrap_or(1.0);
        let objective = ObjectiveOptions { kind: Objective::Grpo, ..ObjectiveOptions::default() };
        let mut config = objective.read_over(&mut Settings(&case["settings"])).unwrap().grpo_loss();
        config.options.max_completion_length = 12;
        let mut model = with_adapter();
        let reference = no_grad(|| {
            let mut base = load(Path::new("scripts/tiny"), "f32");
            let pass = ForwardPass::run(&mut base, &batch, false).unwrap();
            pass.token_logprobs_at(base.decoder(), temperature).unwrap()
        });
        let pass = ForwardPass::run(&mut model, &batch, true).unwrap();
        let logprobs = pass.token_logprobs_at(model.decoder(), temperature).unwrap();
        let old = case.get("old_logprobs").map(|lists| in_cells(&batch, lists));
        let labels = Tensor::from_slice(&batch.labels).reshape(logprobs.size());
        let mask = labels.ne(IGNORE).to_kind(Kind::Float);
        let terms = Terms {
            logprobs: &logprobs,
            old_logprobs: old.as_ref(),
            reference_logprobs: Some(&reference),
            mask: &mask,
            advantages: &advantages,
        };
        let tokens = batch.label_count() as f64;
        let result = grpo_loss(&terms, &config, tokens).unwrap();
        let (loss, expected) = (result.loss.double_value(&[]), case["loss"].as_f64().unwrap());
        assert!((loss - expected).abs() <= 1e-5 * expected.abs().max(0.01), "{name}: {loss} instead of {expected}");
        for (metric, value) in &result.metrics {
            let expected = case["metrics"][metric].as_f64().unwrap();
            assert!((value - expected).abs() <= 1e-4 * expected.abs().max(0.1), "{name}: {metric} {value}, not {expected}");
        }
        let has_kl = result.metrics.iter().any(|(metric, _)| *metric == "kl");
        assert_eq!(has_kl, case["settings"].get("beta").is_some(), "{name}");
        result.loss.backward();
        let mut compared = 0;
        for (parameter, tensor) in parameters(&model.adapted).unwrap() {
            let expected = gradients.tensor(&format!("{name}/base_model.model.{parameter}")).unwrap();
            let error = nmse(&tensor.grad(), &expected);
            assert!(error <= 1e-9, "{name}: {parameter}: {error}");
            compared += 1;
        }
        assert!(compared >= 8, "{name}: {compared} gradients");
    }
}

/// The log-probabilities of a sample are those of a forward pass over it; the seed decides what is drawn.
#[test]
fn samples_carry_the_log_probabilities_of_the_model() {
    let script = r#"
        let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
        model.load_adapter("tests/golden/rewards/start");
        let prompts = ["Repeat: the small fox", "Count: a red boat sees", "Odd: a"];
        let samples = model.sample(prompts, #{ n: 3, max_new_tokens: 6, seed: 7, temperature: 1.3 });
        let again = model.sample(prompts, #{ n: 3, max_new_tokens: 6, seed: 7, temperature: 1.3, batch: 2 });
        let other = model.sample(prompts, #{ n: 3, max_new_tokens: 6, seed: 8, temperature: 1.3 });
        print(samples.len());
        print(samples.map(|s| s.ids) == again.map(|s| s.ids));
        print(samples.map(|s| s.ids) == other.map(|s| s.ids));
        print(samples.map(|s| s.group));
        let batch = model.batch(samples);
        let logprobs = model.forward(batch, #{ train: false }).token_logprobs;
        let worst = 0.0;
        let row = 0;
        for sample in samples {
            let start = sample.input_ids.len() - sample.ids.len();
            let at = 0;
            for logprob in sample.logprobs {
                let difference = (logprobs[row][start + at].item() - logprob).abs();
                if difference > worst { worst = difference; }
                at += 1;
            }
            row += 1;
        }
        print(worst < 2e-5);
        print(samples.map(|s| s.ids.len() == s.logprobs.len() && s.labels.len() == s.input_ids.len()));
    "#;
    let printed = prints(script).unwrap();
    let trues = "[true, true, true, true, true, true, true, true, true]";
    assert_eq!(printed.trim(), format!("9\ntrue\nfalse\n[0, 0, 0, 1, 1, 1, 2, 2, 2]\ntrue\n{trues}"));
}

/// Sampling is at temperature 1 without filters, whatever the model's file says; draws follow the probabilities.
#[test]
fn samples_are_drawn_by_their_probabilities() {
    let script = r#"
        let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
        let samples = model.sample("Repeat: the small", #{ n: 600, max_new_tokens: 1, seed: 3 });
        let counts = #{};
        let chances = #{};
        for sample in samples {
            let id = `${sample.ids[0]}`;
            counts[id] = (counts.get(id) ?? 0) + 1;
            chances[id] = sample.logprobs[0].exp();
        }
        let best = ();
        for id in counts.keys() {
            if best == () || counts.get(id) > counts.get(best) { best = id; }
        }
        print(`${counts.get(best)} ${chances.get(best)}`);
    "#;
    let printed = prints(script).unwrap();
    let numbers: Vec<f64> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let (count, chance) = (numbers[0], numbers[1]);
    let deviation = (600.0 * chance * (1.0 - chance)).sqrt();
    assert!((count - 600.0 * chance).abs() <= 4.0 * deviation + 1.0, "{count} of 600 at {chance}");
}
