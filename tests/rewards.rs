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
use lorhai::train::callbacks::Rollout;
use lorhai::train::forward::ForwardPass;
use lorhai::train::grpo::rollout::{RewardedSample, Rollouts};
use lorhai::train::grpo::{grpo_loss, GrpoLossConfig, Terms};
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
            assert!(
                (value - expected).abs() <= 1e-4 * expected.abs().max(0.1),
                "{name}: {metric} {value}, not {expected}"
            );
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

/// Samples of two prompts, of different lengths; the third reached the limit.
fn drawn() -> Vec<RewardedSample> {
    let sample = |prompt: &[u32], ids: &[u32], is_complete, reward| RewardedSample {
        prompt_ids: prompt.to_vec(),
        ids: ids.to_vec(),
        is_complete,
        rewards: vec![("right".to_owned(), reward), ("short".to_owned(), f64::NAN)],
    };
    vec![
        sample(&[10, 11, 12], &[20, 21, 2], true, 1.0),
        sample(&[10, 11, 12], &[22], true, 0.0),
        sample(&[13, 14], &[23, 24, 25, 26], false, 0.5),
        sample(&[13, 14], &[27, 2], true, 2.0),
    ]
}

fn rollout_config() -> GrpoLossConfig {
    let objective = ObjectiveOptions { kind: Objective::Grpo, ..ObjectiveOptions::default() };
    let mut config = objective.grpo_loss();
    config.options.num_generations = 2;
    config
}

/// The gradient of a step, and the batches it is of.
fn gradient_of(config: &GrpoLossConfig, batch: usize) -> (Tensor, Vec<Batch>) {
    let model = with_adapter();
    let draw = |_: &Model, rows: &[u32], _: u64| {
        assert_eq!(rows, [4, 7]);
        Ok(drawn())
    };
    let rollouts = Rollouts::new(model.shallow_clone().unwrap(), config.clone(), batch, 1, &draw).unwrap();
    let window = rollouts.window(0, &[4, 7]).unwrap();
    for batch in &window {
        let loss = rollouts.loss(batch, lorhai::random::Key::new(3)).unwrap();
        (loss / window.len() as f64).backward();
    }
    let gradient = model.adapted.trainable().unwrap().flat_gradient().copy();
    (gradient, window)
}

/// However the samples of a step are spread over micro-batches, "dapo" has one gradient; the advantages are those of the
/// groups.
#[test]
fn micro_batches_of_a_step_have_the_gradient_of_the_whole() {
    let config = rollout_config();
    let (whole, window) = gradient_of(&config, 4);
    let [batch] = window.as_slice() else { panic!("{} batches", window.len()) };
    let samples = batch.samples.as_ref().unwrap();
    let near = |found: f32, expected: f32| (found - expected).abs() < 1e-4;
    // ±(d/2) / (d/√2 + 1e-4), for rewards that are d apart.
    let expected = [0.70700, -0.70700, -0.70704, 0.70704];
    assert!(samples.advantages.iter().zip(expected).all(|(&one, other)| near(one, other)), "{:?}", samples.advantages);
    assert_eq!((samples.tokens, batch.label_count()), (10.0, 10));
    assert!(whole.abs().max().double_value(&[]) > 0.0);
    for batch in [1, 2, 3] {
        let (parts, window) = gradient_of(&config, batch);
        assert_eq!(window.len(), 4_usize.div_ceil(batch));
        assert!(nmse(&parts, &whole) < 1e-10, "micro-batches of {batch}");
    }
    let mut masked = config.clone();
    masked.options.mask_truncated_completions = true;
    let (whole, window) = gradient_of(&masked, 4);
    assert_eq!(window[0].label_count(), 6);
    // The third micro-batch is one sample, which was cut: it adds nothing.
    let (parts, window) = gradient_of(&masked, 1);
    assert_eq!(window[2].label_count(), 0);
    assert!(nmse(&parts, &whole) < 1e-10);
}

/// The reference of an adapter that was loaded is a copy of it, and of a fresh one the base: at first both are the model.
#[test]
fn the_reference_is_the_model_that_a_run_begins_with() {
    let mut config = rollout_config();
    config.beta = 0.5;
    config.options.num_iterations = 2;
    for is_fresh in [true, false] {
        let mut model = if is_fresh { load(Path::new("scripts/tiny"), "f32") } else { with_adapter() };
        if is_fresh {
            model.adapted.add("default", Default::default(), 1).unwrap();
        }
        let draw = |_: &Model, _: &[u32], _: u64| Ok(drawn());
        let rollouts = Rollouts::new(model.shallow_clone().unwrap(), config.clone(), 4, 1, &draw).unwrap();
        let terms = |step| rollouts.window(step, &[0, 1]).unwrap()[0].samples.clone().unwrap();
        let first = terms(0);
        assert_eq!(first.reference_logprobs, first.old_logprobs, "fresh: {is_fresh}");
        // Training moves the model, not the reference; a generation is kept for `num_iterations` steps.
        let parameters = model.adapted.trainable_mut().unwrap();
        let moved = parameters.flat() + 0.05;
        parameters.restore(&moved).unwrap();
        assert_eq!(terms(1), first);
        let later = terms(2);
        assert_eq!(later.reference_logprobs, first.reference_logprobs, "fresh: {is_fresh}");
        assert_ne!(later.old_logprobs, first.old_logprobs, "fresh: {is_fresh}");
        assert!(nmse(model.adapted.trainable().unwrap().flat(), &moved) == 0.0);
    }
}

const REWARDED: &str = r#"
    let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
    model.add_lora(#{ r: 8, alpha: 16, target_modules: "all-linear" });
    let data = load_dataset("scripts/tiny/train.jsonl").take(200)
        .map(|row| #{ prompt: row.instruction, wanted: row.instruction.split(": ")[1] });
"#;

fn trained(options: &str, rest: &str) -> Result<String, String> {
    let settings =
        "objective: \"grpo\", chat: true, num_generations: 4, batch: 8, max_completion_length: 20, seed: 1, ";
    prints(&format!("{REWARDED} let result = train(model, data, #{{ {settings} {options} }}); {rest}"))
}

#[test]
fn training_raises_the_reward() {
    let options =
        "reward: |answer, row| answer == row.wanted, steps: 30, lr: 2e-3, log_every: 10, schedule: \"constant\"";
    let rest = r#"print(result.reward > 0.7 && result["completions/mean_length"] > 4.0 && result.steps == 30);"#;
    assert_eq!(trained(options, rest).unwrap().trim(), "true");
}

/// Several functions are added up by their weights, `()` is no reward, and two runs with one seed are the same.
#[test]
fn rewards_are_added_up_and_logged_by_name() {
    let options = r#"reward: #{ short: |answer, row| -answer.len() / 100.0, right: |answer, row| if answer == row.wanted { true } },
        reward_weights: #{ short: 2.0 }, steps: 2, lr: 1e-3, log_every: 1"#;
    let rest = r#"
        print(result["rewards/short/mean"] < 0.0 && "rewards/right/mean" in result);
        print(`${result.reward} ${result.train_loss} ${evaluate(model, data.map(|row| #{ text: row.wanted }).tokenize(model, #{}), #{}).loss}`);
    "#;
    let (one, two) = (trained(options, rest).unwrap(), trained(options, rest).unwrap());
    assert!(one.starts_with("true"), "{one}");
    assert_eq!(one, two);
}

/// A run that is cut between two steps on the same samples goes on with them: the model has changed since they were drawn.
#[test]
fn a_run_that_is_cut_goes_on_with_its_samples() {
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name).display().to_string();
    let options = |name: &str, on_step: &str| {
        format!(
            r#"reward: |answer, row| if answer.len() > 0 {{ 1.0 / answer.len() }} else {{ 0.0 }}, num_iterations: 3, beta: 0.1,
               steps: 7, lr: 1e-2, log_every: 1, out: "{}", {on_step}"#,
            out(name)
        )
    };
    let whole = trained(&options("whole", ""), "print(result.train_loss);").unwrap();
    for cut in [1, 2, 4] {
        let name = format!("cut-{cut}");
        let stop = format!("on_step: |report| if report.step == {cut} {{ throw \"cut\" }}");
        assert!(trained(&options(&name, &stop), "").unwrap_err().contains("cut"));
        assert_eq!(trained(&options(&name, ""), "print(result.train_loss);").unwrap(), whole, "cut after step {cut}");
        let adapter =
            |name: &str| std::fs::read(folder.path().join(name).join("adapter/adapter_model.safetensors")).unwrap();
        assert!(adapter(&name) == adapter("whole"), "cut after step {cut}");
    }
}

#[test]
fn what_cannot_be_rewarded_is_refused_with_the_fix() {
    let cases = [
        (
            "reward: |answer, row| \"good\", steps: 1",
            "`reward` must return a finite number, a bool or (), found string",
        ),
        ("reward: |answer| 1.0, steps: 1", "a reward takes an answer and the row of its prompt"),
        ("reward: |answer, row| row.nothing, steps: 1", "unknown property `nothing`"),
        ("steps: 1", "train: option `reward`: expected a function with objective \"grpo\", found none"),
        ("reward: 1.0, steps: 1", "a function |answer, row|, or a map of such functions by name"),
        ("reward: |answer, row| 1.0, loss_type: \"ipo\"", "`loss_type`: expected objective \"dpo\" with it"),
        ("reward: |answer, row| 1.0, eval_every: 5", "`eval_every`: expected none with objective \"grpo\""),
        (
            "reward: |answer, row| 1.0, reward_weights: #{ other: 1.0 }",
            "names of functions in `reward` (reward), found `other`",
        ),
    ];
    for (options, part) in cases {
        let error = trained(options, "").unwrap_err();
        assert!(error.contains(part), "{options}: {error}");
    }
    let others = [
        (
            "train(model, data, #{ objective: \"grpo\", reward: |a, row| 1.0, num_generations: 4, batch: 6 });",
            "`batch` × `accumulation` a multiple of num_generations, 4",
        ),
        ("train(model, data, #{ steps: 1 });", "train: expected tokenized rows, found a Dataset"),
        (
            "train(model, data.map(|row| #{ text: row.wanted }).tokenize(model, #{}), #{ objective: \"grpo\", steps: 1 });",
            "expected rows of `prompt` and functions that reward their answers",
        ),
        (
            "train(model, data.map(|row| #{ text: row.wanted }).tokenize(model, #{}), #{ reward: |a, row| 1.0 });",
            "option `reward`: expected rows that are not tokenized with it",
        ),
        ("train(model, data.map(|row| #{ text: row.wanted }), #{ objective: \"grpo\", reward: |a, row| 1.0 });", "prompt"),
        ("train(model, data, #{ objective: \"dpo\", num_generations: 4 });", "`num_generations`: expected objective \"grpo\""),
    ];
    for (call, part) in others {
        let error = prints(&format!("{REWARDED} {call}")).unwrap_err();
        assert!(error.contains(part), "{call}: {error}");
    }
}

/// Optimizers of ten lines, over parameters by name, take the steps of torch's.
#[test]
fn optimizers_written_in_a_script_take_the_steps_of_torch() {
    let samples = read_json(golden("rewards/samples.json"));
    let expected = read_json(golden("optimizers/losses.json"));
    let script = r#"
        let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
        model.load_adapter("tests/golden/rewards/start");
        let batch = model.batch(SAMPLES);
        let state = #{};
        for step in 0..=6 {
            let loss = model.forward(batch).loss;
            print(loss.item());
            model.zero_grad();
            loss.backward();
            no_grad(|| {
                let parameters = model.named_parameters();
                for name in parameters.keys() {
                    let p = parameters[name];
                    if !(name in state) { state[name] = zeros_like(p); }
                    let m = state[name];
                    UPDATE
                }
            });
        }
    "#;
    let momentum = "m.mul_(0.9); m.add_(p.grad); p.sub_(m * 0.02);";
    let lion = "let update = (m * 0.9 + p.grad * 0.1).sign();
        p.mul_(1.0 - 2e-3 * 0.1); p.sub_(update * 2e-3); m.mul_(0.99); m.add_(p.grad * 0.01);";
    let rows = samples.as_array().unwrap().iter().map(|sample| {
        let (prompt, new) = (ids(&sample["prompt_ids"]), ids(&sample["ids"]));
        let labels = [vec![IGNORE; prompt.len()], new.clone()].concat();
        format!("#{{ input_ids: {:?}, labels: {labels:?} }}", [prompt, new].concat())
    });
    let rows = format!("[{}]", rows.collect::<Vec<_>>().join(", "));
    for (name, update) in [("momentum", momentum), ("lion", lion)] {
        let printed = prints(&script.replace("SAMPLES", &rows).replace("UPDATE", update)).unwrap();
        let losses: Vec<f64> = printed.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let expected = floats(&expected[name]);
        assert_eq!(losses.len(), expected.len());
        for (one, other) in losses.iter().zip(&expected) {
            assert!((one - other).abs() <= 1e-4 * other.abs(), "{name}: {losses:?} instead of {expected:?}");
        }
    }
}
