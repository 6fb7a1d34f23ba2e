//! Evaluation against lm-evaluation-harness: log-likelihoods, perplexity, multiple choice and
//! KoBEST; several adapters in one pass against each alone.
//!
//! The golden files are those of `tests/golden/evaluation/generate.py`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{read_json, root};
use common::models::{load, tiny};
use common::needs::assets;
use common::numbers::{floats, strings};
use common::session::prints;
use lorhai::eval::config::GenerationConfig;
use lorhai::eval::kobest::{self, Task};
use lorhai::eval::likelihood::log_likelihoods;
use lorhai::eval::multiple_choice::{self, Answers, Metric, Question};
use lorhai::eval::perplexity::{self, Perplexity};
use lorhai::eval::prompt::PromptReader;
use lorhai::eval::{self, Bootstrap, Candidate, Encoder, Measured, Request};
use lorhai::hub::Hub;
use lorhai::lora::{LoraSpec, Model, Targets};
use lorhai::random::Key;
use serde_json::Value;
use tch::Tensor;

/// Of log-likelihoods and of metrics made from them, relative.
const BOUND: f64 = 1e-5;

fn golden(name: &str) -> Value {
    read_json(common::files::golden("evaluation").join(name))
}

/// The largest relative deviation, told and bounded.
fn compare<'a>(what: &str, found: impl IntoIterator<Item = &'a f64>, expected: impl IntoIterator<Item = f64>) {
    let (found, expected): (Vec<&f64>, Vec<f64>) = (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len(), "{what}");
    let deviations = found.iter().zip(&expected).map(|(found, expected)| (*found / expected - 1.0).abs());
    let worst = deviations.fold(0.0, f64::max);
    println!("{what}: {} numbers, worst deviation {worst:.1e}", found.len());
    assert!(worst < BOUND, "{what}: {worst:.1e}\n{found:?}\n{expected:?}");
}

fn current(model: &Model) -> Vec<Candidate<'_>> {
    vec![Candidate::current(&model.adapted)]
}

#[test]
fn log_likelihoods_are_those_of_lm_eval() {
    let (model, golden) = (tiny(), golden("requests.json"));
    let encoder = Encoder::new(&model, None).unwrap();
    let pairs = golden["pairs"].as_array().unwrap();
    let request =
        |pair: &Value| encoder.pair(pair["context"].as_str().unwrap(), pair["continuation"].as_str().unwrap());
    let requests: Vec<Request> = pairs.iter().map(|pair| request(pair).unwrap()).collect();
    assert!(requests.iter().any(|request| request.ids.len() == 257), "one is longer than the model can read");
    let expected: Vec<f64> = pairs.iter().map(|pair| pair["loglikelihood"].as_f64().unwrap()).collect();
    for batch in [1, 4, 100] {
        let found = log_likelihoods(model.decoder(), &current(&model), &requests, batch).unwrap();
        compare(&format!("pairs, {batch} in a pass"), &found[0], expected.clone());
    }
}

fn compare_rolling(model: &Model, max_length: Option<usize>, texts: &Value, expected: &Value) {
    let texts: Vec<String> =
        texts.as_object().unwrap().values().map(|text| text.as_str().unwrap().to_owned()).collect();
    let settings = perplexity::Settings { max_length, stride: None, batch: 8 };
    let found = Perplexity::measure(model, &current(model), &texts, &settings).unwrap().pop().unwrap();
    let each: Vec<f64> = found.texts.iter().map(|text| text.log_likelihood).collect();
    compare("rolling log-likelihoods", &each, floats(&expected["loglikelihoods"]));
    let counts = |name: &str| -> Vec<usize> { floats(&expected[name]).iter().map(|&count| count as usize).collect() };
    assert_eq!(found.texts.iter().map(|text| text.tokens).collect::<Vec<_>>(), counts("tokens"));
    assert_eq!(found.texts.iter().map(|text| text.words).collect::<Vec<_>>(), counts("words"));
    assert_eq!(found.texts.iter().map(|text| text.bytes).collect::<Vec<_>>(), counts("bytes"));
    let metrics = [found.word_perplexity(), found.byte_perplexity(), found.bits_per_byte()];
    let names = ["word_perplexity", "byte_perplexity", "bits_per_byte"];
    // An exponential of a sum: its relative deviation is the absolute one of the loss per word.
    let log = |value: f64| value.ln();
    compare(
        "rolling metrics, as logarithms",
        &metrics.map(log),
        names.map(|name| log(expected[name].as_f64().unwrap())),
    );
}

#[test]
fn rolling_perplexity_is_that_of_lm_eval() {
    let (model, golden) = (tiny(), golden("requests.json"));
    compare_rolling(&model, None, &golden["texts"], &golden["rolling"]);
    compare_rolling(&model, Some(48), &golden["texts"], &golden["rolling_48"]);
}

/// Its tokenizer adds a BOS of its own.
#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn rolling_perplexity_of_a_pretrained_model_is_that_of_lm_eval() {
    let (model, golden) = (load(&assets("models/stories260K"), "f32"), golden("requests.json"));
    compare_rolling(&model, None, &golden["texts"], &golden["rolling_stories260K"]);
}

#[test]
fn a_stride_gives_every_token_more_context() {
    let model = tiny();
    let rows = std::fs::read_to_string(root().join("scripts/tiny/pretrain.jsonl")).unwrap();
    let first: Vec<Value> = rows.lines().take(40).map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: Vec<&str> = first.iter().map(|row| row["output"].as_str().unwrap()).collect();
    let measure = |max_length, stride| {
        let settings = perplexity::Settings { max_length: Some(max_length), stride, batch: 4 };
        Perplexity::measure(&model, &current(&model), &[text.join("\n")], &settings).unwrap().pop().unwrap()
    };
    let (apart, sliding, token_by_token) = (measure(32, None), measure(32, Some(8)), measure(32, Some(1)));
    assert_eq!((apart.tokens(), sliding.tokens()), (token_by_token.tokens(), apart.tokens()));
    println!("{} {} {}", apart.perplexity(), sliding.perplexity(), token_by_token.perplexity());
    assert!(apart.perplexity() > sliding.perplexity() && sliding.perplexity() > token_by_token.perplexity());
}

fn compare_metrics(answers: &Answers, metrics: &[Metric], expected: &Value) {
    for metric in metrics {
        let found = answers.measured(*metric, &Bootstrap::default()).unwrap();
        let wanted = |name: &str| expected["metrics"][name].as_f64();
        let value = wanted(&found.name).unwrap();
        assert!((found.value - value).abs() < 1e-12, "{}: {} expected {value}", found.name, found.value);
        // lm-eval has no standard error of this F1.
        if let Some(error) = wanted(&format!("{}_stderr", found.name)) {
            assert!(
                (found.standard_error.unwrap() - error).abs() < 1e-12,
                "{}: {found:?} expected {error}",
                found.name
            );
        }
        println!("{}: {} ± {:?}", found.name, found.value, found.standard_error);
    }
    let each: Vec<f64> = answers.questions.iter().flat_map(|answered| answered.log_likelihoods.clone()).collect();
    let wanted = expected["loglikelihoods"].as_array().unwrap().iter().flat_map(floats);
    compare("choices", &each, wanted);
}

#[test]
fn multiple_choice_is_that_of_lm_eval() {
    let (model, golden) = (tiny(), golden("questions.json"));
    let question = |row: &Value| Question {
        context: row["q"].as_str().unwrap().to_owned(),
        choices: strings(&row["options"]),
        answer: row["answer"].as_u64().unwrap() as usize,
    };
    let questions: Vec<Question> = golden["questions"].as_array().unwrap().iter().map(question).collect();
    let settings = multiple_choice::Settings::default();
    let found = Answers::measure(&model, &current(&model), &questions, &settings).unwrap();
    compare_metrics(&found[0], &[Metric::Acc, Metric::AccNorm, Metric::AccBytes, Metric::F1], &golden);
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn kobest_is_that_of_lm_eval() {
    let (model, data) = (load(&assets("models/stories260K"), "f32"), assets("data/kobest"));
    let golden = golden("kobest.json");
    let (hub, data) = (Hub::from_env().unwrap(), data.to_str().unwrap());
    let mut all = Vec::new();
    for task in Task::ALL {
        let expected = &golden["tasks"][task.name()];
        let whole = task.questions(data, None, &hub, &mut ()).unwrap();
        assert_eq!(whole.len() as u64, golden["rows"][task.name()].as_u64().unwrap(), "{}", task.name());
        let questions =
            task.questions(data, golden["limit"].as_u64().map(|limit| limit as usize), &hub, &mut ()).unwrap();
        assert_eq!(questions, whole[..questions.len()]);
        println!("{}", task.name());
        let found =
            Answers::measure(&model, &current(&model), &questions, &multiple_choice::Settings::default()).unwrap();
        compare_metrics(&found[0], task.metrics(), expected);
        let measured = task.metrics().iter().map(|metric| found[0].measured(*metric, &Bootstrap::default()).unwrap());
        all.push((questions.len(), measured.collect::<Vec<Measured>>()));
    }
    for found in kobest::together(&all) {
        let wanted = |name: String| golden["group"][name].as_f64();
        assert!((found.value - wanted(found.name.clone()).unwrap()).abs() < 1e-12, "{found:?}");
        if let Some(error) = wanted(format!("{}_stderr", found.name)) {
            assert!((found.standard_error.unwrap() - error).abs() < 1e-12, "{found:?} expected {error}");
        }
    }
}

/// The hub lays the same rows out in other files, under other names.
#[test]
fn the_layout_of_the_hub_asks_the_same_questions() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write(
        "authors/BoolQ/test.tsv",
        "ID\tText\tQuestion\tAnswer\n1\t가.\t나?\tTRUE\n2\t\t다?\tFALSE\n3\t라.\t마?\tFALSE\n",
    );
    write("authors/BoolQ/train.tsv", "ID\tText\tQuestion\tAnswer\n1\tx\ty\tTRUE\n");
    write(
        "hub/boolq/test-00000-of-00001.jsonl",
        "{\"paragraph\":\"가.\",\"question\":\"나?\",\"label\":1}\n{\"paragraph\":\"라.\",\"question\":\"마?\",\"label\":0}\n",
    );
    write("hub/boolq/train-00000-of-00001.jsonl", "{\"paragraph\":\"x\",\"question\":\"y\",\"label\":1}\n");
    let hub = Hub::from_env().unwrap();
    let questions = |name: &str| {
        let data = folder.path().join(name);
        Task::BoolQ.questions(data.to_str().unwrap(), None, &hub, &mut ()).unwrap()
    };
    assert_eq!(questions("authors"), questions("hub"));
    assert_eq!(questions("hub").len(), 2);
    assert_eq!(questions("hub")[0].context, "가. 질문: 나? 답변: ");
}

/// A model with two adapters whose B is not zero; the second works on the output head too.
fn adapted() -> Model {
    let mut model = tiny();
    for (name, r, targets) in
        [("a", 4, Targets::AllLinear), ("b", 16, Targets::Names(vec!["q_proj".into(), "lm_head".into()]))]
    {
        let spec = LoraSpec { r, alpha: 16.0, target_modules: targets, ..LoraSpec::default() };
        model.adapted.add(name, spec, r as u64).unwrap();
        let parameters = model.adapted.trainable_mut().unwrap();
        let mut values = parameters.snapshot().unwrap();
        let key = Key::new(r as u64).named("noise");
        let noise: Vec<f32> = (0..values.numel() as u64).map(|at| 0.05 * key.normal(at) as f32).collect();
        values += Tensor::from_slice(&noise);
        parameters.restore(&values).unwrap();
    }
    model
}

#[test]
fn adapters_in_one_pass_are_what_each_is_alone() {
    let mut model = adapted();
    let encoder = Encoder::new(&model, None).unwrap();
    let texts = ["the small fox", "a red boat on the hill", "count: one two three", "질문: 여우는?", "x"];
    let pairs =
        texts.iter().flat_map(|context| [" runs far away", " no", " yes it is"].map(|choice| (context, choice)));
    let requests: Vec<Request> = pairs.map(|(context, choice)| encoder.pair(context, choice).unwrap()).collect();
    let names = ["b", "base", "a"].map(str::to_owned);
    let together = {
        let candidates = Candidate::named(&model.adapted, &names).unwrap();
        log_likelihoods(model.decoder(), &candidates, &requests, 4).unwrap()
    };
    for (name, found) in names.iter().zip(&together) {
        model.adapted.set_enabled(name != "base").unwrap();
        if name != "base" {
            model.adapted.set_active(name).unwrap();
        }
        let candidate = current(&model);
        assert_eq!(candidate[0].name, *name);
        let alone = log_likelihoods(model.decoder(), &candidate, &requests, 4).unwrap();
        compare(name, found, alone[0].clone());
    }
    // Mixed up or left out, an adapter would go unnoticed if all three answered alike.
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let apart = together[one].iter().zip(&together[other]).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
        println!("{} and {} differ by up to {apart:.1e}", names[one], names[other]);
        assert!(apart > 1000.0 * BOUND, "{} and {}: {apart:.1e}", names[one], names[other]);
    }
}

#[test]
fn names_mean_nothing_while_an_adapter_is_merged() {
    let mut model = adapted();
    let names = ["base", "a"].map(str::to_owned);
    let prompts = [PromptReader::new(model.tokenizer().unwrap()).text("the small").unwrap()];
    let config = GenerationConfig { max_new_tokens: Some(2), ..GenerationConfig::default() };
    model.adapted.merge(Some("a")).unwrap();
    for name in &names {
        let one = Candidate::named(&model.adapted, std::slice::from_ref(name)).unwrap_err();
        assert!(one.message.contains("`a` is merged"), "{one}");
        assert!(one.hint.unwrap().contains("unmerge"));
    }
    assert!(eval::compare::compare(&model, &names, &prompts, None, &config)
        .unwrap_err()
        .message
        .contains("`a` is merged"));
    assert_eq!(current(&model).len(), 1);
    model.adapted.unmerge().unwrap();
    assert_eq!(Candidate::named(&model.adapted, &names).unwrap().len(), 2);
    assert_eq!(eval::compare::compare(&model, &names, &prompts, None, &config).unwrap().rows.len(), 1);
}

/// The lines that a script prints.
fn run(script: &str) -> Vec<String> {
    prints(script).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn scripts_measure_many_adapters_and_compare_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("found.json");
    let printed = run(&format!(
        r#"
        let model = load_model("{}", #{{ dtype: "f32" }});
        model.add_lora(#{{ r: 4, name: "tuned" }});
        let data = dataset([#{{ q: "the small", c: ["fox", "boat"], a: 0 }}, #{{ q: "a red", c: ["fox", "boat"], a: "boat" }},
                            #{{ q: "one two", c: ["three", "x"], a: 0 }}]);
        let found = multiple_choice(model, data, #{{ prompt: |row| row.q, choices: "c", label: "a",
                                                     adapters: ["base", "tuned"] }});
        print(found.tuned.acc == found.base.acc);
        let pair = compare_scores(found.tuned, found.base, #{{ metric: "acc" }});
        print(`${{pair.difference}} ${{pair.only_a}} ${{pair.only_b}} ${{pair.p_value}} ${{pair.n}}`);
        write_json("{}", found);
        let texts = dataset([#{{ text: "the small fox" }}, #{{ text: "a red boat" }}]);
        let both = perplexity(model, texts, #{{ adapters: ["base", "tuned"] }});
        let one = perplexity(model, ["the small fox", "a red boat"], #{{}});
        print(both.base.texts == 2 && abs(both.base.loss / one.loss - 1.0) < 1e-6);
        print(compare_scores(both.base, both.tuned, #{{}}).n);
        let prompts = dataset([#{{ prompt: "the small", completion: "?" }}]);
        let written = score_generation(model, prompts, #{{ max_new_tokens: 3, metric: |output, row| row.prompt.len() }});
        print(`${{written.score}} ${{written.outputs[0] == model.generate("the small", #{{ max_new_tokens: 3 }})}}`);
        print(score_generation(model, prompts, #{{ max_new_tokens: 3, target: |row| written.outputs[0] }}).exact_match);
        print(found.table());
        "#,
        root().join("scripts/tiny").display(),
        file.display(),
    ));
    // A fresh adapter changes nothing: B is zero.
    assert_eq!(printed[0], "true");
    assert_eq!(printed[1], "0.0 0 0 1.0 3");
    assert_eq!(printed[2..6], ["true", "2", "9.0 true", "1.0"]);
    let table = &printed[6..];
    assert!(
        table[0].contains("acc_norm") && table[2].starts_with("base ") && table[3].starts_with("tuned "),
        "{table:?}"
    );
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(saved["base"]["items"][1]["answer"], 1);
    assert_eq!(saved["base"]["scores"]["acc"].as_array().unwrap().len(), 3);
}
