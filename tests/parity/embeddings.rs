//! Adapters with more than LoRA in their file, with another vocabulary, or with other names. Written with their logits
//! in PEFT by `tests/golden/models/embedding_adapters.py`.

use crate::cases::*;
use crate::common::files::golden;
use lorhai::hub::weights::{self, Weights};
use lorhai::lora::{peft, AdaptedModel, AdapterSet};
use lorhai::model::NoAdapters;
use serde_json::{json, Value};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

fn root() -> PathBuf {
    golden("models/embedding_adapters")
}

struct Stored {
    name: String,
    base: Case,
    resize: Option<i64>,
}

fn stored() -> Vec<Stored> {
    let table: Value = serde_json::from_str(&std::fs::read_to_string(root().join("golden.json")).unwrap()).unwrap();
    let adapters = table["adapters"].as_object().unwrap().clone();
    assert!(adapters.len() >= 12);
    let each = adapters.into_iter().map(|(name, facts)| Stored {
        name,
        base: Case::open(root().with_file_name(facts["base"].as_str().unwrap())).unwrap(),
        resize: facts["resize"].as_i64(),
    });
    each.collect()
}

fn fields(name: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in peft::FILES {
        std::fs::copy(root().join(name).join(file), folder.path().join(file)).unwrap();
    }
    let path = folder.path().join("adapter_config.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
    folder
}

#[test]
fn logits_are_those_of_peft_beside_the_base_and_merged() {
    let golden = Weights::open(&root().join("golden.safetensors")).unwrap();
    let tensor = |name: &str| golden.tensor(name).unwrap();
    for Stored { name, base, resize } in stored() {
        let mut decoder = base.decoder(Device::Cpu);
        if let Some(count) = resize {
            let error = peft::load(&root().join(&name), &decoder).unwrap_err();
            assert!(error.message.contains(&format!("a vocabulary of {count} tokens")), "{name}: {error}");
            assert!(error.hint.unwrap().contains(&format!("model.resize_token_embeddings({count})")));
            decoder.resize_token_embeddings(count).unwrap();
        }
        let adapter = peft::load(&root().join(&name), &decoder).unwrap();
        let mut batch = base.batch_of(&tensor("input_ids"), &tensor("input_ids"));
        batch.segments = None;
        let visible = tensor("attention_mask").unsqueeze(-1);
        let before = logits(&decoder, &batch, &NoAdapters);
        let expected = tensor(&format!("{name}.logits"));
        let alone = logits(&decoder, &batch, &AdapterSet::one(&adapter, None)) * &visible;
        let alone = within(&base, &name, nmse(&alone, &expected), LOGITS_NMSE);
        let mut model = AdaptedModel::new(decoder);
        model.insert("default", adapter).unwrap();
        model.merge(None).unwrap();
        let merged = logits(&model.decoder, &batch, &NoAdapters) * &visible;
        let merged = within(&base, &name, nmse(&merged, &expected), LOGITS_NMSE);
        model.unmerge().unwrap();
        assert!(logits(&model.decoder, &batch, &NoAdapters).equal(&before), "{name}: the base changed");
        println!("{name:<16} alone {alone:.1e} merged {merged:.1e}");
    }
}

#[test]
fn embeddings_in_the_file_are_saved_again() {
    for Stored { name, base, resize } in stored() {
        let mut decoder = base.decoder(Device::Cpu);
        resize.iter().for_each(|count| decoder.resize_token_embeddings(*count).unwrap());
        let adapter = peft::load(&root().join(&name), &decoder).unwrap();
        let folder = tempfile::tempdir().unwrap();
        peft::save(&adapter, "base", None, folder.path(), false).unwrap();
        let again = peft::load(folder.path(), &decoder).unwrap();
        let of = |adapter| logits(&decoder, &base.batch("step0.micro0."), &AdapterSet::one(adapter, None));
        let ids_fit = resize.is_none_or(|count| count >= 80);
        assert!(!ids_fit || of(&again).equal(&of(&adapter)), "{name}");
    }
}

#[test]
fn matrices_that_peft_would_train_twice_are_not_trained() {
    let base = Case::open(root().with_file_name("qwen2_tied")).unwrap();
    let decoder = base.decoder(Device::Cpu);
    let adapter = peft::load(&root().join("one_matrix"), &decoder).unwrap();
    let mut model = AdaptedModel::new(decoder);
    model.insert("default", adapter).unwrap();
    let error = model.split_for_training().map(|_| ()).unwrap_err();
    assert!(error.message.contains("ensure_weight_tying"), "{error}");
}

/// PEFT loads all of these with at most a warning, though the adapter then has no effect.
#[test]
fn names_that_peft_ignores_are_errors() {
    let base = Case::open(root().with_file_name("qwen2_tied")).unwrap();
    let decoder = base.decoder(Device::Cpu);
    type Rename = fn(&str) -> String;
    let cases: [(&str, Rename, &str); 6] = [
        ("_orig_mod.", |name| name.replace("base_model.model.", "base_model.model._orig_mod."), "model._orig_mod"),
        ("_orig_mod.", |name| format!("_orig_mod.{name}"), "model._orig_mod"),
        ("module.", |name| format!("module.{name}"), "model.module"),
        ("without the prefix", |name| name.replace("base_model.model.", ""), "save_pretrained"),
        ("another class of model", |name| name.replace("base_model.model.", "base_model."), "AutoModel"),
        ("it lacks the tensor", |name| name.replace("layers.0.self_attn.q_proj", "layers.7.self_attn.q_proj"), "base"),
    ];
    for (what, rename, hint) in cases {
        let folder = fields("fan_in_fan_out", |_| {});
        let path = folder.path().join("adapter_model.safetensors");
        let tensors: Vec<(String, Tensor)> = {
            let weights = Weights::open(&path).unwrap();
            let tensors = weights.names().map(|name| (rename(name), weights.tensor(name).unwrap().copy()));
            tensors.collect()
        };
        weights::save(&path, &tensors, &[]).unwrap();
        let error = peft::load(folder.path(), &decoder).unwrap_err();
        assert!(error.message.contains(what), "{what}: {error}");
        assert!(error.hint.as_deref().unwrap().contains(hint), "{what}: {error}");
    }
}

#[test]
fn unsupported_settings_are_named() {
    let base = Case::open(root().with_file_name("qwen2_tied")).unwrap();
    let decoder = base.decoder(Device::Cpu);
    let cases: [(&str, Value, &str); 6] = [
        ("target_parameters", json!(["mlp.up_proj.weight"]), "adapted as parameters"),
        ("alora_invocation_tokens", json!([5, 9]), "from its invocation tokens on"),
        ("arrow_config", json!({ "top_k": 1 }), "chooses among several adapters"),
        ("layer_replication", json!([[0, 1]]), "repeats layers"),
        ("trainable_token_indices", json!([5, 5]), "token 5 is named twice"),
        ("trainable_token_indices", json!({ "q_proj": [5] }), "found `q_proj`"),
    ];
    for (key, value, what) in cases {
        let folder = fields("fan_in_fan_out", |json| json[key] = value);
        let error = peft::load(folder.path(), &decoder).unwrap_err();
        assert!(error.message.contains(key) && error.message.contains(what), "{error}");
    }
}

#[test]
fn an_adapter_of_another_architecture_is_named() {
    let base = Case::open(root().with_file_name("llama_untied_gqa")).unwrap();
    let decoder = base.decoder(Device::Cpu);
    let folder = fields("fan_in_fan_out", |json| {
        json["task_type"] = json!("SEQ_CLS");
        json["target_modules"] = json!(["query", "value"]);
        json["base_model_name_or_path"] = json!("bert-base-uncased");
    });
    let error = peft::load(folder.path(), &decoder).unwrap_err();
    for part in ["SEQ_CLS", "[query, value]", "llama", "q_proj"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(error.hint.unwrap().contains("bert-base-uncased"));
}

#[test]
fn a_pickle_is_an_error_with_a_hint() {
    let base = Case::open(root().with_file_name("qwen2_tied")).unwrap();
    let folder = fields("fan_in_fan_out", |_| {});
    std::fs::rename(folder.path().join("adapter_model.safetensors"), folder.path().join("adapter_model.bin")).unwrap();
    let error = peft::load(folder.path(), &base.decoder(Device::Cpu)).unwrap_err();
    assert!(
        error.message.contains("pickle") && error.hint.unwrap().contains("save_file(torch.load("),
        "{}",
        error.message
    );
}

/// Folders of `train` with `out`, and of a trial.
#[test]
fn the_folder_of_a_run_means_the_adapter_in_it() {
    let run = tempfile::tempdir().unwrap();
    let inner = run.path().join("adapter");
    std::fs::create_dir(&inner).unwrap();
    assert!(peft::find(run.path()).is_err(), "an empty folder is no adapter");
    for file in peft::FILES {
        std::fs::copy(root().join("lookahead").join(file), inner.join(file)).unwrap();
    }
    assert_eq!(peft::find(run.path()).unwrap(), inner);
    assert_eq!(peft::find(&inner).unwrap(), inner);
    std::fs::rename(&inner, run.path().join("checkpoint-20")).unwrap();
    let error = peft::find(run.path()).unwrap_err();
    assert!(error.hint.as_deref().unwrap().contains("checkpoint-20"), "{error}");
}

#[test]
fn an_adapter_for_another_task_over_the_same_layers_is_named() {
    let folder = fields("fan_in_fan_out", |json| json["task_type"] = json!("SEQ_CLS"));
    let path = folder.path().join("adapter_model.safetensors");
    let mut tensors: Vec<(String, Tensor)> = {
        let weights = Weights::open(&path).unwrap();
        weights.names().map(|name| (name.to_owned(), weights.tensor(name).unwrap().copy())).collect()
    };
    tensors.push(("base_model.model.score.weight".into(), Tensor::zeros([2, 32], (Kind::Float, Device::Cpu))));
    weights::save(&path, &tensors, &[]).unwrap();
    let base = Case::open(root().with_file_name("qwen2_tied")).unwrap();
    let error = peft::load(folder.path(), &base.decoder(Device::Cpu)).unwrap_err();
    assert!(error.message.contains("score.weight") && error.hint.unwrap().contains("SEQ_CLS"));
}

/// New rows are the mean of the old ones; transformers adds a very small noise.
#[test]
fn a_resized_vocabulary_begins_at_the_mean() {
    for name in ["qwen2_tied", "llama_untied_gqa"] {
        let mut decoder = Case::open(root().with_file_name(name)).unwrap().decoder(Device::Cpu);
        let (embeddings, head) = (decoder.embed_tokens.copy(), decoder.lm_head.weight.dense().unwrap().copy());
        let rows = embeddings.size()[0];
        decoder.resize_token_embeddings(rows + 3).unwrap();
        for (old, new) in [(&embeddings, &decoder.embed_tokens), (&head, decoder.lm_head.weight.dense().unwrap())] {
            assert!(new.narrow(0, 0, rows).equal(old));
            let mean = old.mean_dim([0i64].as_slice(), true, Kind::Float).expand([3, -1], false);
            assert!(new.narrow(0, rows, 3).equal(&mean), "{name}");
        }
        let is_one = decoder.lm_head.weight.dense().unwrap().data_ptr() == decoder.embed_tokens.data_ptr();
        assert_eq!(is_one, decoder.config.tie_word_embeddings);
        decoder.resize_token_embeddings(rows).unwrap();
        assert!(decoder.embed_tokens.equal(&embeddings) && decoder.lm_head.shape.out_features == rows);
        assert!(decoder.resize_token_embeddings(0).is_err());
    }
}
