//! Generation against transformers: greedy ids, processed probabilities; and what holds by itself:
//! the cache, company in a batch, adapters side by side, draws, stop strings, text as it comes.
//!
//! Golden files: `golden/generation/`, written by the script that lies there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{read_json, tiny_folder};
use common::needs::{assets, python};
use common::numbers::largest_error;
use common::session::prints;
use lorhai::eval::candidate::{adapter_set, Candidate};
use lorhai::eval::config::GenerationConfig;
use lorhai::eval::generate::{generate, Continuation, Finish};
use lorhai::eval::generation_file::GenerationFile;
use lorhai::eval::processors::{Processors, TokensSoFar};
use lorhai::eval::sampling::Sampling;
use lorhai::eval::text::TextStream;
use lorhai::hub::tokenizer::Tokenizer;
use lorhai::hub::weights::Weights;
use lorhai::lora::adapted::AdaptedModel;
use lorhai::lora::{peft, AdapterSet};
use lorhai::model::{load, Adapters, Config, Decoder, Grid, Input, KeyValueCache, NoAdapters};
use lorhai::options::{OneOrMany, OptionSet};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{no_grad, Device, Kind, Tensor};

fn golden(name: &str) -> PathBuf {
    tch::set_num_threads(1);
    common::files::golden(name)
}

fn read(name: &str) -> Value {
    read_json(golden("generation").join(name))
}

fn decoder(case: &str, dtype: Kind) -> Decoder {
    decoder_on(case, dtype, Device::Cpu)
}

fn decoder_on(case: &str, dtype: Kind, device: Device) -> Decoder {
    let folder = golden("models").join(case);
    let config = Config::from_folder(&folder).unwrap();
    load::load(config, &Weights::open(&folder).unwrap(), dtype, device).unwrap()
}

fn rows(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Settings as transformers names them.
fn config(settings: &Value) -> GenerationConfig {
    let mut config = GenerationConfig::default();
    update(&mut config, settings);
    config
}

fn update(config: &mut GenerationConfig, settings: &Value) {
    let file = Path::new("generation_config.json");
    let names = config.update(&mut GenerationFile::new(file, settings.as_object().unwrap().clone())).unwrap();
    if let Some(origin) = &mut config.origin {
        origin.options.retain(|name| !names.contains(name));
    }
}

fn ids(found: &[Continuation]) -> Vec<Vec<u32>> {
    found.iter().map(|one| one.ids.clone()).collect()
}

fn run(decoder: &Decoder, adapters: &dyn Adapters, prompts: &[Vec<u32>], config: &GenerationConfig) -> Vec<Vec<u32>> {
    ids(&generate(decoder, adapters, 1, prompts, config, &mut |_| Ok(())).unwrap()[0])
}

#[test]
fn greedy_ids_are_those_of_transformers_alone_and_in_a_batch() {
    greedy_ids_are_those_of_transformers(Device::Cpu);
}

/// `make gpu-check` runs only these.
mod on_a_gpu {
    #[test]
    #[ignore = "needs an NVIDIA GPU: make gpu-test"]
    fn greedy_ids_are_those_of_transformers() {
        super::greedy_ids_are_those_of_transformers(super::common::needs::gpu());
    }
}

fn greedy_ids_are_those_of_transformers(device: Device) {
    let golden_ids = read("greedy.json");
    let mut compared = 0;
    let mut margin = f64::INFINITY;
    for (name, case) in golden_ids["cases"].as_object().unwrap() {
        let decoder = decoder_on(name, Kind::Float, device);
        let prompts = rows(&case["prompts"]);
        let adapter = case["adapter"]
            .is_array()
            .then(|| peft::load(&golden("models").join(name).join("adapter"), &decoder).unwrap());
        let with = adapter.as_ref().map(|adapter| AdapterSet::one(adapter, None));
        let of_adapter = with.as_ref().map(|set| ("adapter", set as &dyn Adapters));
        for (kind, adapters) in [("base", &NoAdapters as &dyn Adapters)].into_iter().chain(of_adapter) {
            for settings in case[kind].as_array().unwrap() {
                let (expected, config) = (rows(&settings["ids"]), config(settings));
                margin = margin.min(settings["margin"].as_f64().unwrap());
                assert_eq!(run(&decoder, adapters, &prompts, &config), expected, "{name}, {kind}, {config:?}");
                // Copies of a prompt go through the model once, until their first token.
                let twice = run(&decoder, adapters, &[prompts.clone(), prompts.clone()].concat(), &config);
                assert_eq!(twice, [expected.clone(), expected.clone()].concat(), "{name}, {kind}, twice");
                for (prompt, expected) in prompts.iter().zip(&expected) {
                    let alone = run(&decoder, adapters, std::slice::from_ref(prompt), &config);
                    assert_eq!(alone[0], *expected, "{name}, {kind}, alone");
                    compared += expected.len();
                }
            }
        }
    }
    println!("{compared} ids; the closest decision by {margin:.1e}");
    assert!(compared > 5000, "{compared}");
}

/// Tokens of several rows, each after its past, as the model reads them in one pass.
fn input(decoder: &Decoder, rows: &[&[u32]], past: &[i64]) -> Input {
    let time = rows.iter().map(|row| row.len()).max().unwrap();
    let (mut ids, mut positions) = (vec![0; rows.len() * time], vec![0; rows.len() * time]);
    for (row, own) in rows.iter().enumerate() {
        for (column, &id) in own.iter().enumerate() {
            (ids[row * time + column], positions[row * time + column]) = (i64::from(id), past[row] + column as i64);
        }
    }
    let grid = Grid {
        rows: rows.len(),
        time,
        input_ids: &ids,
        position_ids: &positions,
        segments: None,
        shares_prefixes: false,
        part_of: None,
    };
    Input::new(&[grid], decoder.config.vocab_size, Device::Cpu).unwrap()
}

/// Logits of all tokens of a row, read at once without a cache.
fn whole(decoder: &Decoder, row: &[u32]) -> Tensor {
    let input = input(decoder, &[row], &[0]);
    let hidden = decoder.hidden(&input, &NoAdapters).unwrap();
    decoder.logits(&hidden, &input.tokens, &NoAdapters).unwrap()
}

/// Of the largest logit: about 170 and 30 roundings (u is 6e-8 in f32, 4e-3 in bf16; f64 is far from its bound). Sums
/// over keys are added up in another order with a cache than without.
const CACHE_BOUNDS: [(Kind, f64); 3] = [(Kind::Float, 1e-5), (Kind::Double, 1e-12), (Kind::BFloat16, BF16_BOUND)];
const BF16_BOUND: f64 = 0.12;

#[test]
fn logits_with_the_cache_are_those_without() {
    let _guard = no_grad_guard();
    let mut worst: f64 = 0.0;
    for name in read("greedy.json")["cases"].as_object().unwrap().keys() {
        // f64 goes through another kernel of attention.
        for (dtype, bound) in CACHE_BOUNDS {
            let decoder = decoder(name, dtype);
            let vocabulary = decoder.config.vocab_size as u32;
            let texts: Vec<Vec<u32>> = [23, 17, 30]
                .iter()
                .map(|&length| (0..length).map(|at| (7 * at * at + length) % vocabulary).collect())
                .collect();
            let expected: Vec<Tensor> = texts.iter().map(|text| whole(&decoder, text)).collect();
            // Pieces of different lengths, one token among them; then the middle row leaves.
            let pieces = [[5_usize, 1, 9], [1, 1, 1], [4, 2, 3], [1, 6, 1], [3, 0, 2]];
            let mut cache = KeyValueCache::new(&decoder.config, 3);
            let mut read = [0_usize; 3];
            for (step, piece) in pieces.iter().enumerate() {
                let rows: Vec<usize> = if step < 4 { vec![0, 1, 2] } else { vec![0, 2] };
                if step == 4 {
                    cache.keep(&rows).unwrap();
                }
                let new: Vec<&[u32]> = rows.iter().map(|&row| &texts[row][read[row]..read[row] + piece[row]]).collect();
                let past = cache.lengths().to_vec();
                let input = input(&decoder, &new, &past);
                let hidden = decoder.hidden_after(&mut cache, &input, &NoAdapters).unwrap();
                let found = decoder.logits(&hidden, &input.tokens, &NoAdapters).unwrap();
                let mut at = 0;
                for &row in &rows {
                    let (begin, count) = (read[row] as i64, piece[row] as i64);
                    let error = largest_error(&found.narrow(0, at, count), &expected[row].narrow(0, begin, count));
                    assert!(error <= bound, "{name}, {dtype:?}, piece {step}, row {row}: {error:.2e}");
                    if dtype == Kind::Float {
                        worst = worst.max(error);
                    }
                    at += count;
                    read[row] += piece[row];
                }
            }
        }
    }
    println!("the worst logit in f32 by {worst:.1e} of the largest");
}

fn no_grad_guard() -> tch::NoGradGuard {
    tch::set_num_threads(1);
    tch::no_grad_guard()
}

fn floats(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    let (count, flat) = (rows.len() as i64, rows.concat());
    Tensor::from_slice(&flat).view([count, -1])
}

#[test]
fn probabilities_after_the_processors_are_those_of_transformers() {
    let golden = read("processors.json");
    let scores = floats(&golden["scores"]).to_kind(Kind::Float);
    let held = rows(&golden["input_ids"]);
    let prompts: Vec<usize> = serde_json::from_value(golden["prompts"].clone()).unwrap();
    let mut worst: f64 = 0.0;
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let config = config(&case["settings"]);
        config.check("generate", 60).unwrap();
        let so_far = |(ids, &prompt): (&'static [u32], &usize)| {
            // As if a longer prompt could not be continued; only forced tokens look at it.
            let max_length = config.length_with(prompt, 64).unwrap_or(0);
            TokensSoFar { ids, prompt, max_length }
        };
        let held: Vec<&'static [u32]> = held.iter().map(|ids| &*ids.clone().leak()).collect();
        let so_far: Vec<TokensSoFar> = held.into_iter().zip(&prompts).map(so_far).collect();
        let found = config.scores(&scores, None, &so_far).unwrap().softmax(-1, Kind::Float);
        let expected = floats(&case["probabilities"]);
        let error = (found.to_kind(Kind::Double) - &expected).abs().max().double_value(&[]);
        let filtered = |x: &Tensor| x.eq(0.0).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(filtered(&found), filtered(&expected), "{}", case["settings"]);
        assert!(error < 1e-6, "{}: {error:.2e}", case["settings"]);
        worst = worst.max(error);
    }
    println!("{} settings; the worst probability by {worst:.1e}", cases.len());
}

#[test]
fn a_models_file_gives_the_ids_of_transformers() {
    let golden_ids = read("files.json");
    let tokenizer = tiny().1;
    let (mut compared, mut margin) = (0, f64::INFINITY);
    for (name, case) in golden_ids["cases"].as_object().unwrap() {
        let decoder = decoder(name, Kind::Float);
        let prompts = rows(&case["prompts"]);
        for file in case["files"].as_array().unwrap() {
            let folder = tempfile::tempdir().unwrap();
            std::fs::copy(golden("models").join(name).join("config.json"), folder.path().join("config.json")).unwrap();
            if !file["file"].is_null() {
                std::fs::write(folder.path().join("generation_config.json"), file["file"].to_string()).unwrap();
            }
            let vocabulary = decoder.config.vocab_size as usize;
            let (config, notes) = GenerationConfig::of_model(Some(folder.path()), &tokenizer, vocabulary).unwrap();
            let expected = rows(&file["ids"]);
            assert_eq!(run(&decoder, &NoAdapters, &prompts, &config), expected, "{name}, {}", file["file"]);
            for (prompt, expected) in prompts.iter().zip(&expected) {
                let alone = run(&decoder, &NoAdapters, std::slice::from_ref(prompt), &config);
                assert_eq!(alone[0], *expected, "{name}, {}, alone", file["file"]);
                compared += 1;
            }
            assert_eq!(!notes.is_empty(), file["file"].get("chat_format").is_some(), "{notes:?}");
            margin = margin.min(file["margin"].as_f64().unwrap());
        }
    }
    println!("{compared} texts; the closest decision by {margin:.1e}");
    assert!(compared > 100, "{compared}");
}

#[test]
fn a_files_values_are_refused_by_its_name_only_where_they_have_an_effect() {
    let tokenizer = tiny().1;
    let read = |json: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("generation_config.json"), json).unwrap();
        let config = GenerationConfig::of_model(Some(folder.path()), &tokenizer, 80);
        config.map(|(config, _)| config).map_err(|error| error.message)
    };
    for (json, message) in [
        (r#"{"do_sample": true, "temperature": 0.0}"#, "option `temperature`: expected float above 0, found 0"),
        (r#"{"do_sample": true, "min_p": 1.5}"#, "option `min_p`: expected float in [0, 1], found 1.5"),
        (r#"{"max_new_tokens": 0}"#, "option `max_new_tokens`: expected int of at least 1, found 0"),
        (r#"{"bad_words_ids": [[3, 80]]}"#, "option `bad_words_ids`: expected ids below 80"),
        (
            r#"{"bad_words_ids": [3]}"#,
            "option `bad_words_ids`: expected an array of arrays of token ids, found array [3]",
        ),
        (
            r#"{"forced_eos_token_id": 3, "suppress_tokens": [3]}"#,
            "option `forced_eos_token_id`: expected a token that `suppress_tokens` does not hold, found [3]",
        ),
        (r#"{"stop_strings": ["a", ""]}"#, "option `stop_strings`: expected strings with at least one character"),
        (r#"[]"#, "expected a JSON object"),
    ] {
        let error = read(json).unwrap_err();
        assert!(error.contains("generation_config.json`: ") && error.contains(message), "{json}: {error}");
    }
    let mut config = read(r#"{"temperature": 0.0, "top_k": 3, "stop_strings": ["fox", "b"]}"#).unwrap();
    assert_eq!(*config.stop, ["fox", "b"]);
    // What the file says begins to matter with an option.
    update(&mut config, &serde_json::json!({"do_sample": true}));
    let error = config.check("generate", 80).unwrap_err();
    assert!(error.message.contains("generation_config.json`: option `temperature`: expected float above 0"), "{error}");
    update(&mut config, &serde_json::json!({"temperature": -1}));
    let error = config.check("generate", 80).unwrap_err().message;
    assert_eq!(error, "generate: option `temperature`: expected float above 0, found -1");
}

#[test]
fn settings_that_leave_no_token_say_so() {
    let decoder = decoder("llama_tied", Kind::Float);
    let all: Vec<u32> = (0..80).collect();
    let processors = Processors { suppress_tokens: all.into(), ..Processors::default() };
    let config = GenerationConfig { processors, ..Default::default() };
    let error = generate(&decoder, &NoAdapters, 1, &[vec![1]], &config, &mut |_| Ok(())).unwrap_err();
    assert!(error.message.contains("leave no token to choose"), "{error}");
}

#[test]
fn draws_are_as_frequent_as_the_probabilities_say() {
    let sampling = Sampling { do_sample: true, top_k: 4, ..Sampling::default() };
    let scores = Tensor::from_slice(&[1.0_f32, -2.0, 0.5, 2.0, -0.3, 1.2, -9.0, 0.1]).view([1, 8]);
    let scores = sampling.filtered(&scores).unwrap();
    let probabilities = Vec::<f64>::try_from(scores.softmax(-1, Kind::Double).view(-1)).unwrap();
    let draws = 40_000_usize;
    let many = scores.expand([draws as i64, 8], false);
    let uniform: Vec<f64> = (0..draws as u64).map(|row| lorhai::random::Key::new(3).numbered(row).uniform(0)).collect();
    let mut counts = [0_usize; 8];
    sampling.choose(&many, &uniform).unwrap().iter().for_each(|&id| counts[id as usize] += 1);
    let mut chi_square = 0.0;
    for (id, &probability) in probabilities.iter().enumerate() {
        let expected = probability * draws as f64;
        match probability > 0.0 {
            true => chi_square += (counts[id] as f64 - expected).powi(2) / expected,
            false => assert_eq!(counts[id], 0, "token {id} was filtered out"),
        }
    }
    // Three degrees of freedom: 16.3 is passed once in a thousand.
    assert!(chi_square < 16.3, "{chi_square}: {counts:?} for {probabilities:?}");
    let least = sampling.choose(&scores, &[0.0]).unwrap()[0];
    let most = sampling.choose(&scores, &[1.0 - f64::EPSILON / 2.0]).unwrap()[0];
    assert_eq!((least, most), (0, 5), "the ends of the interval are tokens that were kept");
}

#[test]
fn tokens_follow_their_distribution_in_a_whole_generation() {
    let decoder = decoder("qwen2_tied", Kind::Float);
    let prompt = vec![5_u32, 9, 31];
    let sampling = Sampling { do_sample: true, temperature: 0.8, top_k: 5, top_p: 0.9, ..Sampling::default() };
    let processors = Processors { repetition_penalty: 1.1, ..Processors::default() };
    let config = GenerationConfig { sampling, processors, max_new_tokens: Some(1), batch: 500, ..Default::default() };
    let draws = 4000;
    let found = run(&decoder, &NoAdapters, &vec![prompt.clone(); draws], &config);
    let scores = no_grad(|| whole(&decoder, &prompt)).narrow(0, 2, 1);
    let so_far = TokensSoFar { ids: &prompt, prompt: prompt.len(), max_length: prompt.len() + 1 };
    let probabilities = config.scores(&scores, None, &[so_far]).unwrap().softmax(-1, Kind::Double).view(-1);
    let probabilities = Vec::<f64>::try_from(probabilities).unwrap();
    let mut kept = 0;
    for (id, &probability) in probabilities.iter().enumerate() {
        let share = found.iter().filter(|ids| ids[0] == id as u32).count() as f64 / draws as f64;
        let spread = (probability * (1.0 - probability) / draws as f64).sqrt();
        assert!((share - probability).abs() <= 4.0 * spread, "token {id}: {share} for {probability}");
        kept += usize::from(probability > 0.0);
    }
    assert!((2..=5).contains(&kept), "{kept}");
}

#[test]
fn a_rows_text_does_not_depend_on_its_company() {
    for name in ["mistral_window", "qwen2_window", "llama3_rope", "qwen3_tied"] {
        let decoder = decoder(name, Kind::Float);
        let prompts: Vec<Vec<u32>> =
            (1..12).map(|length| (0..length).map(|at| (length * 5 + at * 3) % 60).collect()).collect();
        let sampling = Sampling { do_sample: true, temperature: 1.3, ..Sampling::default() };
        let processors = Processors { repetition_penalty: 1.1, guidance_scale: 1.2, ..Processors::default() };
        let with = |batch| GenerationConfig {
            sampling,
            processors: processors.clone(),
            max_new_tokens: Some(20),
            batch,
            eos_token_id: vec![3, 8].into(),
            ..Default::default()
        };
        let together = run(&decoder, &NoAdapters, &prompts, &with(32));
        assert_eq!(run(&decoder, &NoAdapters, &prompts, &with(1)), together, "{name}");
        assert_eq!(run(&decoder, &NoAdapters, &prompts, &with(4)), together, "{name}");
        let lengths: Vec<usize> = together.iter().map(Vec::len).collect();
        assert!(lengths.iter().any(|&length| length < 20), "{name}: no row leaves early: {lengths:?}");
        let other = GenerationConfig { seed: 7, ..with(32) };
        assert_ne!(run(&decoder, &NoAdapters, &prompts, &other), together, "{name}: the seed counts");
    }
}

#[test]
fn adapters_in_one_batch_are_as_each_alone() {
    let mut model = AdaptedModel::new(decoder("qwen2_tied", Kind::Float));
    let folders = [("own", "qwen2_tied/adapter"), ("regex", "pefts/regex"), ("patterns", "pefts/patterns")];
    for (name, folder) in folders {
        let adapter = peft::load(&golden("models").join(folder), &model.decoder).unwrap();
        model.insert(name, adapter).unwrap();
    }
    let prompts = vec![vec![4_u32, 8, 15, 16, 23, 42], vec![90], vec![11; 9]];
    let names = ["patterns", "base", "own", "regex"].map(str::to_owned);
    for do_sample in [false, true] {
        let sampling = Sampling { do_sample, ..Sampling::default() };
        let processors = Processors { repetition_penalty: 1.05, ..Processors::default() };
        let config = GenerationConfig {
            sampling,
            processors,
            max_new_tokens: Some(24),
            eos_token_id: vec![7, 70].into(),
            ..Default::default()
        };
        let set = adapter_set(&Candidate::named(&model, &names).unwrap());
        let together = generate(&model.decoder, &set, 4, &prompts, &config, &mut |_| Ok(())).unwrap();
        for (name, part) in names.iter().zip(&together) {
            let alone = match name.as_str() {
                "base" => run(&model.decoder, &NoAdapters, &prompts, &config),
                _ => run(&model.decoder, &AdapterSet::one(model.adapter(Some(name)).unwrap(), None), &prompts, &config),
            };
            assert_eq!(ids(part), alone, "{name}");
        }
        let differ = (1..4).filter(|&part| ids(&together[part]) != ids(&together[0])).count();
        assert_eq!(differ, 3, "the adapters answer alike: nothing was tested");
    }
}

#[test]
fn bf16_generates_what_its_own_scores_say() {
    let decoder = decoder("qwen2_bf16", Kind::BFloat16);
    let prompts = vec![vec![4_u32, 8, 15], vec![16, 23, 42, 1, 2, 3, 4]];
    let config = GenerationConfig { max_new_tokens: Some(24), ..Default::default() };
    for (prompt, fresh) in prompts.iter().zip(run(&decoder, &NoAdapters, &prompts, &config)) {
        let text = [prompt.clone(), fresh.clone()].concat();
        let scores = no_grad(|| whole(&decoder, &text)).to_kind(Kind::Double);
        for (at, &id) in fresh.iter().enumerate() {
            let own = scores.get((prompt.len() + at) as i64 - 1);
            let (best, size) = (own.max().double_value(&[]), own.abs().max().double_value(&[]));
            let chosen = own.double_value(&[i64::from(id)]);
            assert!(best - chosen <= 2.0 * BF16_BOUND * size, "step {at}: {chosen} where the best is {best}");
        }
    }
}

fn tiny() -> (Decoder, Tokenizer) {
    tch::set_num_threads(1);
    let folder = tiny_folder();
    let config = Config::from_folder(&folder).unwrap();
    let decoder = load::load(config, &Weights::open(&folder).unwrap(), Kind::Float, Device::Cpu).unwrap();
    (decoder, Tokenizer::from_folder(&folder).unwrap())
}

#[test]
fn stop_strings_end_a_text_with_the_token_that_completes_them() {
    let (decoder, tokenizer) = tiny();
    let prompts =
        vec![tokenizer.encode("the small fox", true).unwrap(), tokenizer.encode("a red boat and", true).unwrap()];
    let plain = GenerationConfig { max_new_tokens: Some(40), ..Default::default() };
    let whole = run(&decoder, &NoAdapters, &prompts, &plain);
    // From within the first text, over a boundary of tokens.
    let text = tokenizer.decode(&whole[0], true).unwrap();
    let middle: Vec<char> = text.chars().skip(7).take(6).collect();
    let string: String = middle.into_iter().collect();
    assert_eq!(string.chars().count(), 6, "{text:?}");
    let stop = OneOrMany(vec!["never there".to_owned(), string.clone()]);
    let config = GenerationConfig { stop, tokenizer: Some(tokenizer.clone()), ..plain };
    let found = generate(&decoder, &NoAdapters, 1, &prompts, &config, &mut |_| Ok(())).unwrap().remove(0);
    for (one, whole) in found.iter().zip(&whole) {
        let text = |ids: &[u32]| tokenizer.decode(ids, true).unwrap();
        let first = (1..=whole.len()).find(|&count| text(&whole[..count]).contains(&string));
        assert_eq!(one.ids, whole[..first.unwrap_or(whole.len())]);
        assert_eq!(one.finish == Finish::Stop, first.is_some());
    }
    assert_eq!(found[0].finish, Finish::Stop);
    assert!(found[0].ids.len() < whole[0].len());
}

#[test]
fn text_as_it_comes_is_the_text_of_all() {
    compare_streamed_texts(tiny().1);
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn text_as_it_comes_is_the_text_of_all_for_real_tokenizers() {
    for folder in ["tokenizers/llama2", "tokenizers/qwen2.5", "models/stories260K"] {
        compare_streamed_texts(Tokenizer::from_folder(&assets(folder)).unwrap());
    }
}

fn compare_streamed_texts(tokenizer: Tokenizer) {
    let texts = [
        "Hello, world!\n\n  twice  indented",
        "안녕하세요, 오늘 날씨가 참 좋네요 🌦️👩‍👩‍👧.",
        "naïve ½ ẞ \u{fffd} 日本語",
        "",
    ];
    for text in texts {
        let ids = tokenizer.encode(text, true).unwrap();
        let mut stream = TextStream::new(tokenizer.clone(), true);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        let whole = tokenizer.decode(&ids, true).unwrap();
        assert!(text.contains('\u{fffd}') || pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        pieces.push(stream.finish().unwrap());
        assert_eq!(pieces.concat(), whole, "{pieces:?}");
        // Cut within a character, the broken rest comes at the end.
        for count in 0..ids.len() {
            let mut stream = TextStream::new(tokenizer.clone(), true);
            let mut text: String = ids[..count].iter().map(|&id| stream.push(id).unwrap()).collect();
            text.push_str(&stream.finish().unwrap());
            // A decoder of byte tokens breaks whole characters too that stand before a broken one.
            let decoded = tokenizer.decode(&ids[..count], true).unwrap();
            let sound = decoded.split('\u{fffd}').next().unwrap();
            assert!(text == decoded || (decoded.ends_with('\u{fffd}') && text.starts_with(sound)), "{text}");
        }
    }
}

/// What a script prints that finds the shipped model as `m`.
fn printed(script: &str) -> String {
    tch::set_num_threads(1);
    let load = format!("let m = load_model(\"{}\", #{{ dtype: \"f32\" }});\n", tiny_folder().display());
    prints(&format!("{load}{script}")).unwrap()
}

#[test]
fn streamed_text_is_the_text_that_is_returned() {
    let found = printed(
        r#"let options = #{ do_sample: true, temperature: 1.5, seed: 5, max_new_tokens: 30, stop: ["e b", "w"] };
        let texts = m.generate(["the small fox", "a red boat", "one bear"], options);
        for text in texts { print(text); }
        options.stream = true;
        options.batch = 2;
        m.generate(["the small fox", "a red boat", "one bear"], options);"#,
    );
    let (returned, streamed) = found.split_at(found.len() / 2);
    assert_eq!(returned, streamed);
    assert!(returned.lines().count() >= 3 && !returned.contains('w'), "{returned}");
}

#[test]
fn a_question_is_asked_by_the_chat_template_however_it_is_given() {
    let found = printed(
        r##"let question = "Repeat: the small fox sees";
        let message = #{ role: "user", content: question };
        print(m.chat(question));
        print(m.chat([message]));
        print(m.generate([message]));
        print(m.generate(question, #{ chat: true }));
        print(m.chat([question, [message]])[1]);
        print(compare(m, ["base"], question, #{ chat: true }).rows[0].texts.base);
        print(m.generate("<|im_start|>user\n" + question + "<|im_end|>\n<|im_start|>assistant\n"));
        print(m.generate(question));"##,
    );
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines.len(), 8, "{found}");
    assert!(lines[..7].iter().all(|line| *line == lines[0]), "{found}");
    assert_ne!(lines[7], lines[0], "without the template the model answers otherwise");
}

#[test]
fn greedy_settings_may_stand_beside_those_of_draws() {
    let found = printed(
        r#"print(m.generate("the small", #{ do_sample: false, temperature: 0.7, top_k: 3 }));
        print(m.generate("the small", #{ temperature: 0 }));
        print(m.generate("the small"));
        let one = #{ do_sample: true, min_p: 1.0 };
        print(m.generate("the small", one));
        let few = #{ max_length: m.generate("the small").len(), bad_words_ids: [[300], [301, 5]], no_repeat_ngram_size: 2 };
        m.generate("the small", few);"#,
    );
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines.len() == 4 && lines.iter().all(|line| *line == lines[0]), "{found}");
}

/// Another chat format for the model in `scripts/tiny`.
const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}]\\n{{ m.content }}<|im_end|>\\n{% endfor %}\
                        {% if add_generation_prompt %}[assistant]\\n{% endif %}";

#[test]
fn a_chat_template_that_is_set_is_trained_on_chatted_by_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let found = printed(
        &r##"let template = "TEMPLATE";
        let before = m.chat_template;
        print(before.contains("im_start"));
        let rows = dataset([#{ messages: [#{ role: "user", content: "a fox" }, #{ role: "assistant", content: "a boat" }] }]);
        let unlike = rows.tokenize(m, #{}).show(0);
        let wanted = rows.tokenize(m, #{ chat_template: template }).show(0);
        m.chat_template = template;
        print(m.chat_template == template);
        print(rows.tokenize(m, #{}).show(0) == wanted && wanted != unlike);
        print(m.chat("a fox", #{ max_new_tokens: 4 }) == m.generate("[user]\na fox<|im_end|>\n[assistant]\n", #{ max_new_tokens: 4 }));
        m.add_lora(#{ r: 2 });
        m.save_adapter("OUT/adapter");
        train(m, rows.tokenize(m, #{}), #{ steps: 1, out: "OUT/run" });
        m.save_merged("OUT/merged");
        m.save("OUT/whole");
        m.export_gguf("OUT/model.gguf");
        for name in ["adapter", "run/adapter", "merged", "whole"] {
            print(read_text("OUT/" + name + "/chat_template.jinja") == template);
            print(read_text("OUT/" + name + "/tokenizer_config.json").contains("chat_template"));
        }
        print(load_model("OUT/merged").chat_template == template);
        print(load_model("TINY", #{ chat_template: template }).chat_template == template);"##
            .replace("TINY", &tiny_folder().display().to_string())
            .replace("TEMPLATE", TEMPLATE)
            .replace("OUT", &out),
    );
    let lines: Vec<&str> = found.lines().filter(|line| ["true", "false"].contains(line)).collect();
    let saved = ["true", "false"].repeat(4);
    assert_eq!(lines, [vec!["true"; 4], saved, vec!["true"; 2]].concat(), "{found}");
    let gguf = std::fs::read(folder.path().join("model.gguf")).unwrap();
    let template = TEMPLATE.replace("\\n", "\n");
    assert!(gguf.windows(template.len()).any(|window| window == template.as_bytes()), "the template is in the file");
}

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn transformers_finds_the_chat_template_that_was_set() {
    let folder = tempfile::tempdir().unwrap();
    printed(
        &r##"m.chat_template = "TEMPLATE";
        m.add_lora(#{ r: 2 });
        m.save_adapter("OUT/adapter");
        m.save_merged("OUT/merged");"##
            .replace("TEMPLATE", TEMPLATE)
            .replace("OUT", &folder.path().display().to_string()),
    );
    let template = TEMPLATE.replace("\\n", "\n");
    let script = "import sys; from transformers import AutoTokenizer; \
                  sys.stdout.write(AutoTokenizer.from_pretrained(sys.argv[1]).chat_template)";
    for name in ["merged", "adapter"] {
        let mut command = std::process::Command::new(python("PEER_PYTHON"));
        let output = command.args(["-c", script]).arg(folder.path().join(name)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), template, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn conversations_are_scored_as_they_are_chatted() {
    let found = printed(
        r##"let turn = |role, content| #{ role: role, content: content };
        let questions = ["Repeat: the small fox", "Count: a red boat"];
        let written = m.chat(questions, #{ max_new_tokens: 6 });
        let chats = [];
        for i in 0..2 { chats.push(#{ messages: [turn.call("user", questions[i]), turn.call("assistant", written[i])] }); }
        let all = #{ max_new_tokens: 6 };
        print(score_generation(m, dataset(chats), all).exact_match);
        let pairs = [];
        for i in 0..2 { pairs.push(#{ prompt: questions[i], completion: written[i] }); }
        print(score_generation(m, dataset(pairs), #{ max_new_tokens: 6, chat: true }).exact_match);
        let lists = [];
        for i in 0..2 { lists.push(#{ prompt: [turn.call("user", questions[i])], completion: [turn.call("assistant", written[i])] }); }
        print(score_generation(m, dataset(lists), all).exact_match);
        let made = #{ max_new_tokens: 6, prompt: |row| [#{ role: "user", content: row.q }], target: "a" };
        let plain = [];
        for i in 0..2 { plain.push(#{ q: questions[i], a: written[i] }); }
        print(score_generation(m, dataset(plain), made).exact_match);
        let alpaca = [];
        for i in 0..2 { alpaca.push(#{ instruction: questions[i], output: written[i] }); }
        print(score_generation(m, dataset(alpaca), all).exact_match);
        let drawn = #{ do_sample: true, temperature: 1.5, min_p: 0.01, max_new_tokens: 12, seed: 3, batch: 1 };
        let one = score_generation(m, dataset(chats), drawn).outputs;
        drawn.batch = 8;
        print(one == score_generation(m, dataset(chats), drawn).outputs);
        print(one == m.chat(questions, drawn));
        drawn.seed = 4;
        print(one == score_generation(m, dataset(chats), drawn).outputs);"##,
    );
    assert_eq!(found, "1.0\n1.0\n1.0\n1.0\n1.0\ntrue\ntrue\nfalse\n");
}

#[test]
fn answers_side_by_side_are_those_of_each_adapter() {
    let found = printed(
        r#"m.add_lora(#{ name: "a", r: 4, alpha: 8, target_modules: "all-linear" });
        let data = load_dataset("DATA").take(8).tokenize(m, #{ max_length: 128 });
        train(m, data, #{ steps: 12, lr: 2e-2, batch: 4 });
        m.add_lora(#{ name: "b" });
        let prompts = ["Repeat: the small fox", "Encode: a red boat"];
        let options = #{ chat: true, max_new_tokens: 12, do_sample: true, seed: 3 };
        let rows = compare(m, ["a", "base", "b"], prompts, options).rows;
        let differ = 0;
        for name in ["a", "b"] {
            m.set_adapter(name);
            let texts = m.generate(prompts, options);
            for i in 0..2 { if rows[i].texts[name] != texts[i] { print(`${name} ${i}`); } }
        }
        for row in rows {
            if row.texts.a != row.texts.base { differ += 1; }
            if row.texts.b != row.texts.base { print("a fresh adapter changes the text"); }
        }
        print(differ);"#
            .replace("DATA", &tiny_folder().join("train.jsonl").display().to_string())
            .as_str(),
    );
    assert_eq!(found, "2\n");
}

#[test]
fn damaged_weights_are_told_and_not_drawn_from() {
    let mut decoder = decoder("llama_tied", Kind::Float);
    let _ = no_grad(|| decoder.norm.weight.fill_(f64::NAN));
    for do_sample in [false, true] {
        let sampling = Sampling { do_sample, ..Sampling::default() };
        let config = GenerationConfig { sampling, ..Default::default() };
        let error = generate(&decoder, &NoAdapters, 1, &[vec![1]], &config, &mut |_| Ok(())).unwrap_err();
        assert!(error.message.contains("not finite"), "{error}");
    }
    let error = generate(&decoder, &NoAdapters, 1, &[vec![1], vec![]], &Default::default(), &mut |_| Ok(()));
    assert_eq!(error.unwrap_err().message, "prompt 1 is empty: expected at least one token");
}
