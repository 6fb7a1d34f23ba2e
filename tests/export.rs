//! Merging, its certificate, and GGUF files, against peft, transformers, gguf and llama.cpp.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::root;
use common::needs::{assets, python};
use common::numbers::nmse;
use lorhai::data::ollama::modelfile;
use lorhai::eval::certificate::{save_merged, MergeOptions, SavedDtype, ShardSize, FILE};
use lorhai::eval::config::GenerationConfig;
use lorhai::eval::divergence::{divergence, Side};
use lorhai::eval::export::{ensure_exportable, export_adapter, export_model};
use lorhai::eval::generate::generate;
use lorhai::hub::gguf::{self, vocabulary, BlockType, Gguf, Value};
use lorhai::hub::tokenizer::Tokenizer;
use lorhai::hub::weights::{self, Weights};
use lorhai::lora::convert::to_lora;
use lorhai::lora::merge::{self, Change, MergedWeights};
use lorhai::lora::model::fingerprint_of;
use lorhai::lora::{peft, Init, LoadOptions, LoraSpec, Model, Targets, TrainableTokens};
use lorhai::model::decoder::FeedForward;
use lorhai::model::linear::Weight;
use lorhai::model::{Adapters, Input, NoAdapters, Quantization};
use lorhai::random::Key;
use serde_json::json;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use tch::{no_grad, Kind, Tensor};

/// Runs a script of tests/golden, which fails where the numbers differ.
fn must_pass(python: &OsString, script: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) {
    let mut command = Command::new(python);
    command.arg(common::files::golden(script));
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", said.trim());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// f32 against f32: 170 roundings of a logit's size, squared; see tests/parity/cases.rs.
const LOGITS_NMSE: f64 = 1e-10;

/// The models are tiny, and tests run side by side.
fn load(folder: &Path, dtype: &str) -> Model {
    tch::set_num_threads(1);
    common::models::load(folder, dtype)
}

/// A golden model with its adapter.
fn golden(case: &str, dtype: &str) -> Model {
    let folder = common::files::golden("models").join(case);
    let mut model = load(&folder, dtype);
    let adapter = peft::load(&folder.join("adapter"), model.decoder()).unwrap();
    model.adapted.insert("default", adapter).unwrap();
    model
}

/// Adds an adapter whose B is not zero: every value random, of the size `deviation`.
fn add_random(model: &mut Model, spec: LoraSpec, deviation: f64) {
    model.adapted.add("default", spec, 7).unwrap();
    let parameters = model.adapted.trainable_mut().unwrap();
    let count = parameters.count();
    let values: Vec<f32> = (0..count).map(|i| (Key::new(3).normal(i) * deviation) as f32).collect();
    parameters.restore(&Tensor::from_slice(&values)).unwrap();
}

fn all_linear(r: i64, alpha: f64) -> LoraSpec {
    LoraSpec { r, alpha, target_modules: Targets::AllLinear, ..LoraSpec::default() }
}

fn logits(model: &Model, ids: &[i64], adapters: &dyn Adapters) -> Tensor {
    no_grad(|| {
        let decoder = model.decoder();
        let input = Input::from_ids(ids, decoder.config.vocab_size, decoder.device).unwrap();
        let hidden = decoder.hidden(&input, adapters).unwrap();
        decoder.logits(&hidden, &input.tokens, adapters).unwrap().to_kind(Kind::Float)
    })
}

fn now(model: &Model, ids: &[i64]) -> Tensor {
    logits(model, ids, &model.adapted.adapter_set(None))
}

const IDS: [i64; 12] = [1, 5, 9, 2, 17, 33, 8, 21, 40, 3, 11, 6];

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_variant_merges_into_weights_that_answer_alike() {
    let cases = [
        "dora_llama",
        "dora_qwen2",
        "pissa_llama",
        "pissa_dora_llama",
        "olora_qwen2",
        "bias_qwen2",
        "saved_llama",
        "saved_qwen2",
        "embedded_qwen2",
        "embedded_llama",
        "norms_qwen3",
        "behind_b_llama",
        "tokens_qwen2",
        "tokens_llama",
        "one_copy_qwen2",
    ];
    for case in cases {
        let folder = common::files::golden("models").join(case);
        let told: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
        let mut model = load(&root().join("tests/golden/models").join(told["base"].as_str().unwrap()), "f32");
        let adapter = peft::load(&folder.join("adapter"), model.decoder()).unwrap();
        model.adapted.insert("default", adapter).unwrap();
        let expected = now(&model, &IDS);
        let scratch = tempfile::tempdir().unwrap();
        save_merged(&model, &scratch.path().join("merged"), &MergeOptions::default()).unwrap();
        let saved = logits(&load(&scratch.path().join("merged"), "f32"), &IDS, &NoAdapters);
        model.adapted.merge(None).unwrap();
        let merged = logits(&model, &IDS, &NoAdapters);
        model.adapted.unmerge().unwrap();
        println!("{case:<20} in memory {:.1e}, saved {:.1e}", nmse(&merged, &expected), nmse(&saved, &expected));
        assert!(nmse(&merged, &expected) < LOGITS_NMSE && nmse(&saved, &expected) < LOGITS_NMSE, "{case}");
        assert!(now(&model, &IDS).equal(&expected), "{case}: unmerging is exact");
    }
}

#[test]
fn head_and_embeddings_stay_one_weight_where_the_adapter_keeps_them_so() {
    for (case, is_tied) in [("one_copy_qwen2", true), ("embedded_qwen2", false), ("saved_qwen2", false)] {
        let model = {
            let folder = common::files::golden("models").join(case);
            let mut model = load(&root().join("tests/golden/models/qwen2_tied"), "f32");
            let adapter = peft::load(&folder.join("adapter"), model.decoder()).unwrap();
            model.adapted.insert("default", adapter).unwrap();
            model
        };
        let adapter = model.adapted.adapter(None).unwrap();
        let merged = MergedWeights::new(model.decoder(), Some(adapter), Kind::Float).unwrap();
        assert_eq!(merged.config.tie_word_embeddings, is_tied, "{case}");
        let error =
            lorhai::lora::gguf::write(Path::new("unwritten"), adapter, &model.decoder().config, "t", BlockType::F32);
        assert!(error.unwrap_err().message.contains("expected an adapter of A and B alone"), "{case}");
    }
}

#[test]
fn a_resized_model_is_saved_with_its_new_vocabulary() {
    for case in ["qwen2_tied", "llama_untied_gqa"] {
        let mut model = load(&root().join("tests/golden/models").join(case), "f32");
        let count = model.decoder().config.vocab_size + 5;
        model.resize_token_embeddings(count).unwrap();
        let folder = tempfile::tempdir().unwrap();
        model.save(&folder.path().join("model"), false).unwrap();
        let base = logits(&load(&folder.path().join("model"), "f32"), &IDS, &NoAdapters);
        assert_eq!(base.size().last(), Some(&count));
        assert!(base.equal(&logits(&model, &IDS, &NoAdapters)), "{case}");
        let modules_to_save = vec!["embed_tokens".to_owned()];
        add_random(&mut model, LoraSpec { modules_to_save, ..all_linear(2, 4.0) }, 0.05);
        save_merged(&model, &folder.path().join("merged"), &MergeOptions::default()).unwrap();
        let saved = logits(&load(&folder.path().join("merged"), "f32"), &IDS, &NoAdapters);
        assert!(nmse(&saved, &now(&model, &IDS)) < 1e-10, "{case}");
        assert!(model.resize_token_embeddings(count).unwrap_err().message.contains("without adapters"));
    }
}

#[test]
fn gguf_holds_what_stands_beside_the_matrices() {
    let folder = tempfile::tempdir().unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let specs = [
        LoraSpec { target_modules: Targets::Names(names(&["q_proj", "embed_tokens"])), ..all_linear(2, 2.0) },
        LoraSpec { modules_to_save: names(&["norm"]), ..all_linear(2, 2.0) },
        LoraSpec { trainable_token_indices: TrainableTokens::Embeddings(vec![5, 9]), ..all_linear(2, 2.0) },
        LoraSpec { modules_to_save: names(&["embed_tokens"]), ensure_weight_tying: true, ..all_linear(2, 2.0) },
    ];
    for case in ["qwen2_tied", "llama_untied_gqa"] {
        let mut model = with_tokenizer(case, &folder.path().join(case));
        for spec in &specs {
            model.adapted.remove("default").unwrap();
            add_random(&mut model, spec.clone(), 0.05);
            // Read back and compared with base and adapter before it gets its name.
            export_model(&model, &folder.path().join("model.gguf"), Some(BlockType::F32), false).unwrap();
        }
    }
}

/// The models of each family that llama.cpp computes, made from golden ones by what it supports.
#[test]
fn gguf_of_each_family_is_read_back() {
    let rope = |theta: f64| json!({ "rope_type": "default", "rope_theta": theta });
    let changes = [
        ("smollm3_window", json!({ "use_sliding_window": false, "layer_types": null, "no_rope_layers": [1, 1, 1] })),
        ("gemma2_capped", json!({ "query_pre_attn_scalar": 8 })),
        (
            "gemma3_local",
            json!({
                "query_pre_attn_scalar": 8,
                "layer_types": null,
                "rope_parameters": { "full_attention": rope(1e6), "sliding_attention": rope(1e4) },
            }),
        ),
        ("olmo2", json!({})),
        ("granite", json!({ "attention_bias": true })),
        ("phi3_partial", json!({})),
        ("phi3_longrope", json!({})),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (case, changed) in changes {
        let base = folder.path().join(case);
        let refused = with_tokenizer(case, &base);
        let path = base.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for (key, value) in changed.as_object().unwrap() {
            config[key] = value.clone();
        }
        std::fs::write(&path, config.to_string()).unwrap();
        let mut model = load(&base, "f32");
        add_random(&mut model, all_linear(2, 4.0), 0.05);
        let file = folder.path().join("model.gguf");
        // Read back and compared with base and adapter before it gets its name.
        export_model(&model, &file, Some(BlockType::F32), true).unwrap_or_else(|error| panic!("{case}: {error}"));
        export_adapter(&model, &folder.path().join("adapter.gguf"), None, None, true).unwrap();
        if changed.as_object().unwrap().len() > 1 || case == "gemma2_capped" {
            let error = export_model(&refused, &file, None, true).unwrap_err();
            assert!(error.message.contains("llama.cpp does not support"), "{case}: {error}");
        }
    }
    let moe = with_tokenizer("qwen3_moe", &folder.path().join("qwen3_moe"));
    let error = export_model(&moe, &folder.path().join("model.gguf"), None, true).unwrap_err();
    assert!(error.message.contains("mixtures of experts"), "{error}");
}

#[test]
fn a_bias_behind_b_merges_only_where_the_base_has_one() {
    let mut model = load(&root().join("tests/golden/models/llama_tied"), "f32");
    add_random(&mut model, LoraSpec { lora_bias: true, ..all_linear(2, 4.0) }, 0.05);
    let folder = tempfile::tempdir().unwrap();
    let error = save_merged(&model, &folder.path().join("merged"), &MergeOptions::default()).unwrap_err();
    assert!(error.message.contains("the base has no bias there"), "{error}");
    assert!(model.adapted.merge(None).unwrap_err().message.contains("the base has no bias there"));
}

#[test]
fn an_adapter_over_four_bits_merges_into_dense_files() {
    let folder = root().join("tests/golden/models/qwen2_tied");
    let quantization = Some(Quantization { double_quant: true });
    let options = LoadOptions { dtype: "f32".into(), device: "cpu".into(), quantization, ..LoadOptions::default() };
    let mut model = Model::load(folder.to_str().unwrap(), &options, &mut ()).unwrap();
    let adapter = peft::load(&folder.join("adapter"), model.decoder()).unwrap();
    model.adapted.insert("default", adapter).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    save_merged(&model, &scratch.path().join("merged"), &MergeOptions::default()).unwrap();
    let saved = logits(&load(&scratch.path().join("merged"), "f32"), &IDS, &NoAdapters);
    assert!(nmse(&saved, &now(&model, &IDS)) < LOGITS_NMSE);
    let error = model.adapted.merge(None).unwrap_err();
    assert!(error.message.contains("is 4-bit"), "{error}");
}

// ---- merging --------------------------------------------------------------------------

#[test]
fn merged_weights_are_those_of_peft() {
    for case in ["qwen2_tied", "llama3_rope_new", "qwen2_bf16"] {
        let expected = Weights::open(&root().join(format!("tests/golden/export/merged_{case}.safetensors"))).unwrap();
        for (dtype, prefix, expected_dtype) in [("f32", "float32.", Kind::Float), ("bf16", "bfloat16.", Kind::BFloat16)]
        {
            let model = golden(case, dtype);
            let adapter = model.adapted.adapter(None).unwrap();
            let (mut worst, mut different, mut all) = (0.0_f64, 0, 0);
            for linear in model.decoder().linears() {
                let name = format!("{prefix}{}.weight", linear.shape.name);
                let Some(low_rank) = adapter.low_rank(&linear.shape) else {
                    assert!(expected.info(&name).is_none(), "{name} is not merged");
                    continue;
                };
                let (found, _) =
                    merge::merged(linear.weight.dense().unwrap(), &Change::low_rank(low_rank), expected_dtype).unwrap();
                let expected = expected.tensor(&name).unwrap();
                assert_eq!(found.kind(), expected.kind());
                different += found.ne_tensor(&expected).sum(Kind::Int64).int64_value(&[]);
                all += found.numel();
                worst = worst.max(nmse(&found, &expected));
            }
            println!("{case} {dtype}: {different} of {all} numbers differ, NMSE at most {worst:.1e}");
            // Another processor may add up the r products of an entry of B A in another order: (r + 3) roundings, which
            // move a number of bf16 to its neighbour once in a thousand times.
            assert!(worst < if dtype == "f32" { 1e-12 } else { 1e-7 }, "{case} {dtype}");
            assert!(all > 0 && (dtype == "f32" || different as f64 <= 0.001 * all as f64), "{case} {dtype}");
        }
    }
}

#[test]
fn a_narrower_dtype_rounds_the_sum_once() {
    let mut model = golden("qwen2_tied", "f32");
    model.adapted.remove("default").unwrap();
    add_random(&mut model, all_linear(4, 4.0), 2e-2);
    let adapter = model.adapted.adapter(None).unwrap();
    let wide = MergedWeights::new(model.decoder(), Some(adapter), Kind::Float).unwrap();
    let narrow = MergedWeights::new(model.decoder(), Some(adapter), Kind::BFloat16).unwrap();
    let mut changed = 0;
    for (name, _) in wide.shapes() {
        let ((sum, _), (found, rounding)) = (wide.weight(&name).unwrap(), narrow.weight(&name).unwrap());
        assert!(found.equal(&sum.to_kind(Kind::BFloat16)), "{name}");
        changed += usize::from(rounding.is_some());
    }
    assert_eq!(changed, 14);
}

#[test]
fn a_saved_model_says_the_dtype_of_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    for (dtype, name) in [("f32", "float32"), ("bf16", "bfloat16")] {
        let mut model = golden("qwen2_bf16", dtype);
        model.save(folder.path(), false).unwrap();
        let config: serde_json::Value = lorhai::files::read_json(&folder.path().join("config.json")).unwrap();
        let said = config.get("dtype").or(config.get("torch_dtype")).unwrap();
        assert_eq!(said, name);
        let weights = Weights::open(folder.path()).unwrap();
        assert_eq!(weights.info("model.norm.weight").unwrap().kind().unwrap(), model.decoder().dtype);
    }
}

#[test]
fn a_fingerprint_sees_every_tensor_of_a_large_file() {
    let folder = tempfile::tempdir().unwrap();
    let of = |middle: f32| {
        let part = |name: &str, value: f32| {
            (name.to_owned(), Tensor::full([1 << 20], value as f64, (Kind::Float, tch::Device::Cpu)))
        };
        let parts = [part("a", 1.0), part("b", middle), part("c", 1.0)];
        weights::save(&folder.path().join("model.safetensors"), &parts, &[]).unwrap();
        fingerprint_of(folder.path()).unwrap()
    };
    let first = of(1.0);
    assert_eq!(first, of(1.0));
    assert_ne!(first, of(2.0));
}

#[test]
fn ranks_from_files_may_be_larger_than_a_slip() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = golden("llama_tied", "f32");
    model.adapted.remove("default").unwrap();
    let spec = LoraSpec { init: Init::parse("olora").unwrap(), ..all_linear(20, 20.0) };
    model.adapted.add("default", spec, 7).unwrap();
    let lora = to_lora(model.adapted.adapter(None).unwrap(), &model.decoder().config).unwrap();
    assert_eq!(lora.spec.r, 40);
    peft::save(&lora, "base", None, folder.path(), false).unwrap();
    assert_eq!(peft::load(folder.path(), model.decoder()).unwrap().spec.r, 40);
    let config = folder.path().join("adapter_config.json");
    let mut json: serde_json::Value = lorhai::files::read_json(&config).unwrap();
    json["r"] = json!(1_i64 << 60);
    lorhai::files::write_json(&config, &json).unwrap();
    // The user wants the change.
    std::fs::remove_file(folder.path().join(lorhai::files::manifest::MANIFEST)).unwrap();
    let error = peft::load(folder.path(), model.decoder()).unwrap_err();
    assert!(error.message.contains("the largest in its weights is 40"), "{error}");
    assert!(model.adapted.add("slip", all_linear(400, 1.0), 7).unwrap_err().message.contains("rank 400"));
}

#[test]
fn variants_that_use_the_same_tensors_otherwise_are_refused() {
    let plain = json!({ "peft_type": "LORA", "r": 4, "alora_invocation_tokens": null, "use_bdlora": null });
    assert!(peft::spec_from_json(&plain).is_ok());
    for (name, value) in
        [("alora_invocation_tokens", json!([1, 2])), ("kasa_config", json!({ "beta": 1 })), ("use_bdlora", json!({}))]
    {
        let mut variant = plain.clone();
        variant[name] = value;
        assert!(peft::spec_from_json(&variant).unwrap_err().message.contains(name));
    }
}

#[test]
fn unmerging_restores_every_bit() {
    let mut model = golden("llama_tied", "f32");
    model.adapted.remove("default").unwrap();
    let spec =
        LoraSpec { target_modules: Targets::Names(vec!["q_proj".into(), "lm_head".into()]), ..LoraSpec::default() };
    add_random(&mut model, spec, 0.1);
    let before: Vec<_> = model.adapted.decoder.named_weights().unwrap();
    let copies: Vec<Tensor> = before.iter().map(|(_, weight)| weight.copy()).collect();
    let adapted = now(&model, &IDS);
    model.adapted.merge(None).unwrap();
    assert_eq!(model.adapted.merged_name(), Some("default"));
    let merged = now(&model, &IDS);
    println!("merged against adapter: NMSE {:.1e}", nmse(&merged, &adapted));
    assert!(nmse(&merged, &adapted) < LOGITS_NMSE);
    for ((name, weight), copy) in before.iter().zip(&copies) {
        assert!(weight.equal(copy), "{name} of the base was written to");
    }
    assert!(model.adapted.merge(None).unwrap_err().message.contains("merged"));
    assert!(model.adapted.remove("default").is_err());
    assert!(model.adapted.split_for_training().is_err());
    assert!(model.save(Path::new("never"), false).is_err());
    model.adapted.unmerge().unwrap();
    for ((name, old), (_, new)) in before.iter().zip(model.adapted.decoder.named_weights().unwrap()) {
        assert_eq!(old.data_ptr(), new.data_ptr(), "{name}");
    }
    assert!(now(&model, &IDS).equal(&adapted));
    assert!(model.adapted.unmerge().is_err());
}

#[test]
fn a_certificate_says_zero_for_nothing_and_one_for_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    let mut model = golden("qwen2_tied", "f32");
    model.adapted.remove("default").unwrap();
    model.adapted.add("zero", all_linear(4, 8.0), 1).unwrap();
    let found = save_merged(&model, &out, &MergeOptions::default()).unwrap();
    assert_eq!(found.lost_to_rounding, 0.0);
    assert!(found.divergence.mean_kl < 1e-9 && found.divergence.max_logit_difference < 1e-4, "{found}");
    assert!((found.divergence.reference_perplexity / found.divergence.candidate_perplexity - 1.0).abs() < 1e-5);

    // A change far below the last place of bf16 leaves the weights as they are.
    let mut model = golden("qwen2_bf16", "bf16");
    model.adapted.remove("default").unwrap();
    add_random(&mut model, all_linear(4, 4.0), 2e-3);
    let found = save_merged(&model, &out, &MergeOptions::default()).unwrap();
    println!("lost: {}", found.lost_to_rounding);
    assert!(found.lost_to_rounding > 0.9 && found.lost_to_rounding < 1.1, "{found}");
    let wide = save_merged(&model, &out, &MergeOptions { dtype: SavedDtype::F32, ..MergeOptions::default() }).unwrap();
    assert!(wide.lost_to_rounding < 0.05, "{wide}");
}

#[test]
fn too_far_off_is_refused_with_nothing_left_and_can_be_forced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    let model = golden("qwen2_bf16", "bf16");
    let strict = MergeOptions { tolerance: 0.0, ..MergeOptions::default() };
    let error = save_merged(&model, &out, &strict).unwrap_err();
    assert!(error.message.contains("tolerance 0") && error.message.contains("KL"), "{error}");
    assert_eq!(names_in(folder.path()), [""; 0]);
    let found = save_merged(&model, &out, &MergeOptions { force: true, ..strict }).unwrap();
    assert!(!found.within_tolerance && found.divergence.mean_kl > 0.0);
    assert!(out.join(FILE).is_file());
    // A folder that no merge wrote is left alone, the base's above all.
    for taken in [root().join("tests/golden/models/qwen2_bf16"), folder.path().to_owned()] {
        let error = save_merged(&model, &taken, &MergeOptions::default()).unwrap_err();
        assert!(
            ["the base model", "did not save as a merged model"].iter().any(|text| error.message.contains(text)),
            "{error}"
        );
    }
    assert_eq!(names_in(folder.path()), ["merged"]);
}

#[test]
fn values_that_are_not_finite_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = golden("qwen2_tied", "f32");
    let parameters = model.adapted.trainable_mut().unwrap();
    let values = parameters.snapshot().unwrap();
    parameters.restore(&(values * f64::INFINITY)).unwrap();
    assert_eq!(model.adapted.merge(None).unwrap_err().kind, lorhai::Kind::Numeric);
    assert_eq!(model.adapted.merged_name(), None);
    let error = save_merged(&model, &folder.path().join("m"), &MergeOptions::default()).unwrap_err();
    assert_eq!(error.kind, lorhai::Kind::Numeric);
    assert!(error.message.contains("model.layers.0.self_attn.q_proj.weight"), "{error}");
    assert_eq!(names_in(folder.path()), [""; 0]);
}

/// Merges golden models into folders; `check` gets each folder with the logits of the adapted model.
fn merge_into_folders(check: impl Fn(&str, &Path, &Tensor)) {
    for case in ["qwen2_tied", "llama3_rope_new", "llama_tied with its head", "mistral", "qwen3_untied_gqa"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("merged");
        let mut model = golden(case.split(' ').next().unwrap(), "f32");
        if case.ends_with("head") {
            model.adapted.remove("default").unwrap();
            let names = vec!["down_proj".into(), "lm_head".into()];
            add_random(&mut model, LoraSpec { target_modules: Targets::Names(names), ..LoraSpec::default() }, 0.1);
        }
        let options = MergeOptions { max_shard_size: ShardSize(40_000), ..MergeOptions::default() };
        save_merged(&model, &out, &options).unwrap();
        assert!(
            names_in(&out).iter().filter(|name| name.ends_with(".safetensors")).count() > 1,
            "{:?}",
            names_in(&out)
        );
        check(case, &out, &now(&model, &IDS));
    }
}

#[test]
fn a_merged_folder_has_the_logits_of_the_adapted_model() {
    merge_into_folders(|case, out, expected| {
        let found = logits(&load(out, "f32"), &IDS, &NoAdapters);
        println!("{case}: NMSE {:.1e}", nmse(&found, expected));
        assert!(nmse(&found, expected) < LOGITS_NMSE, "{case}");
    });
}

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn a_merged_folder_has_the_same_logits_in_transformers() {
    let python = python("PEER_PYTHON");
    merge_into_folders(|_, out, expected| {
        let ours = out.with_file_name("ours.safetensors");
        let tensors = [("input_ids", Tensor::from_slice(&IDS).view([1, -1])), ("logits", expected.unsqueeze(0))];
        weights::save(&ours, &tensors.map(|(name, x)| (name.to_owned(), x)), &[]).unwrap();
        must_pass(&python, "models/check_loads.py", &[&"--model", &out, &"--ours", &ours]);
    });
}

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn transformers_and_peft_ignore_the_manifest() {
    let python = python("PEER_PYTHON");
    let script = r#"
        let model = load_model("scripts/tiny", #{ dtype: "f32" });
        let data = load_dataset("scripts/tiny/train.jsonl").take(8).tokenize(model, #{});
        model.add_lora(#{ r: 2, lora_alpha: 64 });
        train(model, data, #{ steps: 5, batch: 4, lr: 1e-2, out: "run" });
        model.save_adapter("saved_adapter");
        model.save_merged("merged");
        let full = load_model("scripts/tiny", #{ dtype: "f32" });
        full.save("saved");
        full.train_all();
        train(full, data, #{ steps: 2, batch: 4, out: "full_run" });"#;
    let folder = common::files::folder_with_script(script);
    let finished = common::program::finished(common::program::lorhai(folder.path()).args(["run", "case.rhai"]));
    assert_eq!(finished.code, Some(0), "{}", finished.errors);
    let path = |name: &str| folder.path().join(name);
    let (merged, saved, trained) = (path("merged"), path("saved"), path("full_run/model"));
    for adapter in ["saved_adapter", "run/adapter"] {
        let adapter = path(adapter);
        let models: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--model", &merged, &saved, &trained];
        let rest: [&dyn AsRef<std::ffi::OsStr>; 4] = [&"--adapter", &adapter, &"--base", &saved];
        must_pass(&python, "models/check_manifest.py", &[&models[..], &rest].concat());
    }
}

#[test]
fn a_merged_folder_brings_the_tokenizer_and_says_its_dtype() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("merged");
    let mut model = load(&root().join("scripts/tiny"), "f32");
    add_random(&mut model, all_linear(2, 4.0), 0.05);
    for dtype in [SavedDtype::Bf16, SavedDtype::F16] {
        let options = MergeOptions { dtype, tolerance: 1.0, ..MergeOptions::default() };
        let found = save_merged(&model, &out, &options).unwrap();
        println!("{found}");
        let read = load(&out, "f32");
        assert_eq!(
            read.decoder().config.saved_dtype.as_deref(),
            Some(if dtype == SavedDtype::F16 { "float16" } else { "bfloat16" })
        );
        assert_eq!(read.tokenizer().unwrap().fingerprint(), model.tokenizer().unwrap().fingerprint());
        let stored = Weights::open(&out).unwrap().tensor("model.norm.weight").unwrap().kind();
        assert_eq!(stored, if dtype == SavedDtype::F16 { Kind::Half } else { Kind::BFloat16 });
        assert!(nmse(&logits(&read, &IDS, &NoAdapters), &now(&model, &IDS)) < 1e-3);
    }
}

#[test]
fn divergence_of_a_known_pair() {
    // Doubling the head's weights doubles the logits.
    let (one, mut two) = (golden("llama_untied_gqa", "f32"), golden("llama_untied_gqa", "f32"));
    let doubled = two.adapted.decoder.lm_head.weight.dense().unwrap() * 2.0;
    two.adapted.decoder.lm_head.weight = Weight::Dense(doubled);
    let side = |model| Side { decoder: Model::decoder(model), adapters: &NoAdapters };
    let found = divergence(&IDS, side(&one), side(&two)).unwrap();
    let plain = logits(&one, &IDS, &NoAdapters).to_kind(Kind::Double);
    let (p, q) = (plain.log_softmax(-1, Kind::Double), (&plain * 2.0).log_softmax(-1, Kind::Double));
    let kl = (p.exp() * (&p - &q)).sum(Kind::Double).double_value(&[]) / IDS.len() as f64;
    assert!((found.mean_kl / kl - 1.0).abs() < 1e-5, "{} {kl}", found.mean_kl);
    assert!((found.max_logit_difference / plain.abs().max().double_value(&[]) - 1.0).abs() < 1e-5);
    let next = Tensor::from_slice(&IDS[1..]).view([-1, 1]);
    let loss = -p.narrow(0, 0, 11).gather(1, &next, false).mean(Kind::Double).double_value(&[]);
    assert!((found.reference_perplexity / loss.exp() - 1.0).abs() < 1e-5);
}

// ---- GGUF -----------------------------------------------------------------------------

#[test]
fn numbers_are_encoded_as_gguf_encodes_them() {
    let golden = std::fs::read_to_string(root().join("tests/golden/export/blocks.json")).unwrap();
    let golden: serde_json::Value = serde_json::from_str(&golden).unwrap();
    let numbers: Vec<f32> = golden["numbers"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    for block in BlockType::ALL {
        let hex: String = block.encode(&numbers).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden["encoded"][block.name()].as_str().unwrap(), "{}", block.name());
        assert!(block.holds(&numbers, &block.decode(&block.encode(&numbers))), "{}", block.name());
    }
}

/// A golden model with a tokenizer of as many single letters as it has ids.
fn with_tokenizer(case: &str, folder: &Path) -> Model {
    let source = root().join("tests/golden/models").join(case);
    std::fs::create_dir_all(folder).unwrap();
    for name in names_in(&source).into_iter().filter(|name| name.starts_with("config") || name.starts_with("model")) {
        std::fs::copy(source.join(&name), folder.join(&name)).unwrap();
    }
    let vocab_size = lorhai::model::Config::from_folder(folder).unwrap().vocab_size as u32;
    // llama.cpp takes no tokenizer without merges.
    let letters = ['Ċ', 'Ġ']
        .into_iter()
        .chain((0x21..0x7f).filter_map(char::from_u32))
        .chain((0xa1..0xac).filter_map(char::from_u32));
    let vocab: serde_json::Map<String, serde_json::Value> =
        letters.take(vocab_size as usize - 2).zip(1..).map(|(letter, id)| (letter.to_string(), json!(id))).collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let mut vocab = vocab;
    vocab.insert("<end>".into(), json!(0));
    vocab.insert("()".into(), json!(vocab_size - 1));
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{ "id": 0, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }],
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": ["( )"] },
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), r#"{"eos_token": "<end>"}"#).unwrap();
    let mut model = load(folder, "f32");
    let adapter = peft::load(&source.join("adapter"), model.decoder()).unwrap();
    model.adapted.insert("default", adapter).unwrap();
    model
}

const FAMILIES: [&str; 10] = [
    "qwen2_tied",
    "qwen2_mha",
    "qwen3_tied",
    "qwen3_untied_gqa",
    "qwen2_yarn",
    "llama_bias",
    "llama_head_dim",
    "llama_linear_rope",
    "llama3_rope_new",
    "mistral",
];

#[test]
fn every_family_survives_the_way_to_gguf_and_back() {
    let folder = tempfile::tempdir().unwrap();
    for case in FAMILIES {
        let model = with_tokenizer(case, &folder.path().join(case));
        for block in BlockType::ALL {
            let path = folder.path().join("m.gguf");
            let found = export_model(&model, &path, Some(block), false).unwrap();
            println!("{case} {}: error {:.1e}, KL {:.1e}", block.name(), found.logit_error, found.mean_kl);
            if block == BlockType::F32 {
                assert!(found.logit_error < LOGITS_NMSE, "{case}");
            }
            export_adapter(&model, &folder.path().join("a.gguf"), None, Some(block), false).unwrap();
        }
        let left: Vec<String> = names_in(folder.path()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, [""; 0]);
    }
}

/// llama.cpp ignores it, as a note says.
#[test]
fn a_model_with_a_short_window_is_compared_within_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_tokenizer("mistral_window", &folder.path().join("model"));
    let window = model.decoder().config.sliding_window.as_ref().unwrap().width;
    let found = export_model(&model, &folder.path().join("m.gguf"), Some(BlockType::F32), false).unwrap();
    assert!(found.tokens as i64 <= window && found.logit_error < LOGITS_NMSE, "{found:?}");
}

#[test]
fn what_llama_cpp_does_not_compute_is_refused_and_a_rehearsal_can_ask() {
    let folder = tempfile::tempdir().unwrap();
    for (case, why) in [
        ("llama_yarn", "yarn"),
        ("llama_dynamic", "activation"),
        ("qwen3_longrope", "activation"),
        ("llama_other_head", "activation"),
    ] {
        let model = with_tokenizer(case, &folder.path().join(case));
        let path = folder.path().join("m.gguf");
        for error in [ensure_exportable(&model).unwrap_err(), export_model(&model, &path, None, false).unwrap_err()] {
            assert!(error.message.contains(why) && error.message.contains("llama.cpp"), "{case}: {error}");
        }
        assert!(!path.exists());
    }
    ensure_exportable(&with_tokenizer("qwen2_yarn", &folder.path().join("plain"))).unwrap();
}

#[test]
fn queries_of_a_llama_are_interleaved_and_of_a_qwen_not() {
    let folder = tempfile::tempdir().unwrap();
    for (case, moved) in [("llama_bias", true), ("qwen2_tied", false)] {
        let mut model = with_tokenizer(case, &folder.path().join(case));
        model.adapted.remove("default").unwrap();
        let path = folder.path().join("m.gguf");
        export_model(&model, &path, None, false).unwrap();
        let file = Gguf::open(&path).unwrap();
        let decoder = model.decoder();
        let of_first_layer = |name: &str| {
            decoder.linears().find(|linear| linear.shape.name == format!("model.layers.0.self_attn.{name}")).unwrap()
        };
        let half = decoder.config.head_dim / 2;
        for (name, ours) in [
            ("blk.0.attn_q.weight", of_first_layer("q_proj").weight.dense().unwrap()),
            ("blk.0.attn_k.bias", of_first_layer("k_proj").bias.as_ref().unwrap()),
        ] {
            // llama.cpp's second row of a head is the first of its second half.
            let second = file.tensor(name).unwrap().select(0, 1);
            assert!(second.equal(&ours.select(0, if moved { half } else { 1 })), "{case} {name}");
        }
        assert!(file.tensor("blk.0.attn_v.weight").unwrap().equal(of_first_layer("v_proj").weight.dense().unwrap()));
    }
}

#[test]
fn an_adapter_has_one_alpha_and_b_takes_up_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    // rsLoRA with its own ranks and alphas.
    let model = with_tokenizer("llama3_rope_new", &folder.path().join("model"));
    let path = folder.path().join("a.gguf");
    export_adapter(&model, &path, None, None, false).unwrap();
    let file = Gguf::open(&path).unwrap();
    assert_eq!(file.setting("adapter.type").and_then(Value::as_text), Some("lora"));
    let alpha = file.setting("adapter.lora.alpha").and_then(Value::as_number).unwrap();
    assert!((alpha - 8.0 * 4.0_f64.sqrt()).abs() < 1e-6, "alpha·√r of most layers, found {alpha}");
    let (config, adapter) = (&model.decoder().config, model.adapted.adapter(None).unwrap());
    for target in &adapter.targets {
        let name = lorhai::model::gguf::name(config, &format!("{}.weight", target.linear.name)).unwrap();
        let low_rank = adapter.low_rank(&target.linear).unwrap();
        let ours = low_rank.b.matmul(low_rank.a) * low_rank.scale;
        let (a, b) = (file.tensor(&format!("{name}.lora_a")).unwrap(), file.tensor(&format!("{name}.lora_b")).unwrap());
        let theirs = b.matmul(&a) * (alpha / a.size()[0] as f64);
        let theirs = lorhai::model::gguf::from_gguf(config, &target.linear.name, &theirs).unwrap();
        assert!(nmse(&theirs, &ours) < 1e-12, "{name}");
    }
}

#[test]
fn a_gguf_adapter_of_another_model_matches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = golden("qwen2_tied", "f32");
    let path = folder.path().join("a.gguf");
    export_adapter(&model, &path, None, None, false).unwrap();
    let file = Gguf::open(&path).unwrap();
    let refused = |case: &str, spec: LoraSpec| {
        lorhai::lora::gguf::read(&file, spec, &golden(case, "f32").decoder().config, tch::Device::Cpu).unwrap_err()
    };
    let head = LoraSpec { target_modules: Targets::Names(vec!["lm_head".into()]), ..LoraSpec::default() };
    let error = refused("qwen2_untied_gqa", head);
    assert!(error.message.contains("matches 0 of the 2 tensors"), "{error}");
    let error = refused("qwen3_untied_gqa", all_linear(4, 8.0));
    assert!(error.message.contains("is for qwen2, this model is qwen3"), "{error}");
}

#[test]
fn what_a_format_cannot_hold_is_refused_with_nothing_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = with_tokenizer("qwen2_tied", &folder.path().join("model"));
    let FeedForward::Mlp(mlp) = &mut model.adapted.decoder.layers[0].feed_forward else { panic!("no MLP") };
    let weight = &mut mlp.down_proj.weight;
    *weight = Weight::Dense(weight.dense().unwrap() * 1e6);
    model.adapted.remove("default").unwrap();
    let error = export_model(&model, &folder.path().join("m.gguf"), Some(BlockType::F16), false).unwrap_err();
    assert!(error.message.contains("blk.0.ffn_down.weight"), "{error}");
    assert_eq!(names_in(folder.path()), ["model"]);
}

#[test]
#[ignore = "needs llama-cpp-python and gguf: set LLAMA_PYTHON"]
fn gguf_files_have_the_bytes_of_the_gguf_package() {
    let python = python("LLAMA_PYTHON");
    let folder = tempfile::tempdir().unwrap();
    let model = with_tokenizer("llama_bias", &folder.path().join("model"));
    let plain = folder.path().join("plain.gguf");
    export_model(&model, &plain, Some(BlockType::F32), false).unwrap();
    for block in BlockType::ALL {
        let path = folder.path().join(format!("{}.gguf", block.name()));
        export_model(&model, &path, Some(block), false).unwrap();
        must_pass(&python, "export/check_gguf.py", &[&"--plain", &plain, &"--file", &path]);
    }
}

/// What llama.cpp is to compute: logits of `ids`, what follows them greedily as long as the best
/// token leads by `margin`, ids of texts.
fn expected(model: &Model, ids: &[i64], margin: f64, texts: &[&str], out: &Path) {
    let adapters = &model.adapted.adapter_set(None);
    let prompt: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
    let config = GenerationConfig { max_new_tokens: Some(24), ..GenerationConfig::default() };
    let prompts = [prompt.clone()];
    let mut fresh =
        generate(model.decoder(), adapters, 1, &prompts, &config, &mut |_| Ok(())).unwrap()[0][0].ids.clone();
    let whole: Vec<i64> = prompt.iter().chain(&fresh).map(|&id| i64::from(id)).collect();
    let scores = logits(model, &whole, adapters);
    let best = scores.topk(2, -1, true, true).0;
    let lead = |at: usize| best.double_value(&[at as i64, 0]) - best.double_value(&[at as i64, 1]);
    let sure = (0..fresh.len()).take_while(|at| lead(ids.len() - 1 + at) > margin).count();
    fresh.truncate(sure);
    print!("{sure} sure greedy tokens, ");
    let rows: Vec<Vec<f32>> = (0..ids.len()).map(|at| Vec::try_from(scores.get(at as i64)).unwrap()).collect();
    let tokenizer = model.tokenizer().unwrap();
    let texts: Vec<_> = texts.iter().map(|text| json!([text, tokenizer.encode(text, true).unwrap()])).collect();
    let ours = json!({ "ids": ids, "logits": rows, "greedy": fresh, "texts": texts });
    std::fs::write(out, ours.to_string()).unwrap();
}

fn in_llama(python: &OsString, model: &Path, lora: Option<&Path>, ours: &Path, tolerance: &str) {
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"--model", &model, &"--ours", &ours];
    arguments.extend([&"--tolerance" as &dyn AsRef<std::ffi::OsStr>, &tolerance]);
    if let Some(lora) = &lora {
        arguments.extend([&"--lora" as &dyn AsRef<std::ffi::OsStr>, lora]);
    }
    must_pass(python, "export/check_llama.py", &arguments);
}

/// Exports the merged model, the base and the adapter of `model`, and runs them in llama.cpp.
fn run_in_llama(python: &OsString, model: &mut Model, ids: &[i64], texts: &[&str], types: &[(BlockType, &str, f64)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ours = path("ours.json");
    for (block, tolerance, margin) in types {
        export_model(model, &path("merged.gguf"), Some(*block), false).unwrap();
        print!("{} merged {}: ", model.name, block.name());
        expected(model, ids, *margin, texts, &ours);
        in_llama(python, &path("merged.gguf"), None, &ours, tolerance);
    }
    export_adapter(model, &path("adapter.gguf"), None, None, false).unwrap();
    print!("{} base and adapter: ", model.name);
    expected(model, ids, types[0].2, texts, &ours);
    model.adapted.set_enabled(false).unwrap();
    export_model(model, &path("base.gguf"), Some(BlockType::F32), false).unwrap();
    model.adapted.set_enabled(true).unwrap();
    in_llama(python, &path("base.gguf"), Some(&path("adapter.gguf")), &ours, types[0].1);
}

const TEXTS: [&str; 4] =
    ["Once upon a time, there was a girl named Lily.", "the small fox", "It's 42!\nA second line.", "하늘 é"];

/// For each type the NMSE of llama.cpp's logits, and the lead that its rounding cannot turn.
/// f32 differs by the order of sums; the others by what they round, activations among it.
const TYPES: [(BlockType, &str, f64); 4] = [
    (BlockType::F32, "1e-9", 1e-3),
    (BlockType::F16, "1e-5", 0.1),
    (BlockType::Bf16, "1e-4", 0.5),
    (BlockType::Q8_0, "1e-3", 1.0),
];

#[test]
#[ignore = "needs llama-cpp-python and gguf: set LLAMA_PYTHON"]
fn llama_cpp_computes_the_same_for_the_tiny_model() {
    let python = python("LLAMA_PYTHON");
    let mut model = load(&root().join("scripts/tiny"), "f32");
    add_random(&mut model, LoraSpec { use_rslora: true, ..all_linear(4, 8.0) }, 0.05);
    let ids: Vec<i64> = model
        .tokenizer()
        .unwrap()
        .encode("Count: a red boat and the small fox", true)
        .unwrap()
        .into_iter()
        .map(i64::from)
        .collect();
    run_in_llama(&python, &mut model, &ids, &TEXTS, &TYPES);
}

#[test]
#[ignore = "needs llama-cpp-python and gguf, tokenizers and models: set LLAMA_PYTHON, LORHAI_ASSETS"]
fn llama_cpp_computes_the_same_for_stories260k() {
    let python = python("LLAMA_PYTHON");
    let mut model = load(&assets("models/stories260K"), "f32");
    let spec = LoraSpec { rank_pattern: [("q_proj".to_owned(), 7)].into(), ..all_linear(4, 8.0) };
    add_random(&mut model, spec, 0.05);
    let ids: Vec<i64> = model.tokenizer().unwrap().encode(TEXTS[0], true).unwrap().into_iter().map(i64::from).collect();
    run_in_llama(&python, &mut model, &ids, &TEXTS, &TYPES);
}

#[test]
#[ignore = "needs llama-cpp-python and gguf: set LLAMA_PYTHON"]
fn llama_cpp_computes_the_same_for_every_family() {
    let python = python("LLAMA_PYTHON");
    let folder = tempfile::tempdir().unwrap();
    for case in FAMILIES {
        let mut model = with_tokenizer(case, &folder.path().join(case));
        run_in_llama(&python, &mut model, &IDS, &["8()9 ()"], &TYPES[..1]);
    }
}

#[test]
#[ignore = "needs llama-cpp-python and gguf, tokenizers and models: set LLAMA_PYTHON, LORHAI_ASSETS"]
fn llama_cpp_splits_text_as_the_tokenizers_of_qwen_and_llama_do() {
    let python = python("LLAMA_PYTHON");
    let folder = tempfile::tempdir().unwrap();
    for (name, rows, arch) in [("qwen2.5", 151_936, "qwen2"), ("llama2", 32_000, "llama")] {
        let tokenizer = Tokenizer::from_folder(&assets("tokenizers").join(name)).unwrap();
        let mut settings: gguf::Settings = vec![("general.architecture".into(), arch.into())];
        settings.extend(vocabulary(&tokenizer, rows).unwrap());
        let (path, ours) = (folder.path().join("vocab.gguf"), folder.path().join("ours.json"));
        gguf::write(&path, &settings, &[], &mut |_| unreachable!()).unwrap();
        let mut texts = vec![
            "Hello world! It's 12345 o'clock, isn't it?\n\n  def f(x):\n\treturn x ** 2",
            "한국어 문장과 日本語, emoji 🙂, café",
            "trailing   spaces  inside and lots of words: internationalization, misunderstanding",
        ];
        if name == "qwen2.5" {
            texts.push("<|im_start|>user\nhi<|im_end|>\n<tool_call>");
        }
        let texts: Vec<_> = texts.iter().map(|text| json!([text, tokenizer.encode(text, true).unwrap()])).collect();
        std::fs::write(&ours, json!({ "texts": texts }).to_string()).unwrap();
        must_pass(&python, "export/check_llama.py", &[&"--model", &path, &"--ours", &ours, &"--vocab-only"]);
    }
}

// ---- Modelfile ------------------------------------------------------------------------

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn a_modelfile_has_the_chat_format_and_the_system_prompt_that_the_template_adds() {
    let of = |name: &str| {
        let tokenizer = Tokenizer::from_folder(&assets("tokenizers").join(name)).unwrap();
        modelfile(&tokenizer, "./m.gguf", Some("./a.gguf")).unwrap()
    };
    let (qwen, notes) = of("qwen2.5");
    println!("{qwen}");
    assert_eq!(notes, [""; 0]);
    assert!(qwen.starts_with("FROM ./m.gguf\nADAPTER ./a.gguf\nTEMPLATE \"\"\"{{ if .System }}<|im_start|>system\n"));
    assert!(qwen.contains("SYSTEM \"\"\"You are Qwen, created by Alibaba Cloud. You are a helpful assistant.\"\"\""));
    assert!(qwen.ends_with("PARAMETER stop \"<|im_start|>\"\nPARAMETER stop \"<|im_end|>\"\n"));
    let (plain, notes) = of("llama2");
    assert_eq!((plain.as_str(), notes.len()), ("FROM ./m.gguf\nADAPTER ./a.gguf\n", 1));
}

#[test]
fn a_tied_head_cannot_carry_a_gguf_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = golden("qwen2_tied", "f32");
    model.adapted.remove("default").unwrap();
    let spec = LoraSpec { target_modules: Targets::Names(vec!["lm_head".into()]), ..LoraSpec::default() };
    add_random(&mut model, spec, 0.1);
    let error = export_adapter(&model, &folder.path().join("a.gguf"), None, None, false).unwrap_err();
    assert!(error.message.contains("output head"), "{error}");
    assert_eq!(names_in(folder.path()), [""; 0]);
}
