//! Checkpoints whose names or tensors differ from those that the configuration implies.
//!
//! Checked against transformers 5.24: it accepts names with one `model.` more or less, ties whichever end is there,
//! keeps a head that differs, ignores unknown tensors, and fills missing ones with random numbers, which is an error
//! here.

use crate::cases::*;
use lorhai::hub::weights::{self, Weights};
use lorhai::lora::{LoadOptions, Model};
use lorhai::model::{load, Config, Decoder, NoAdapters};
use std::path::Path;
use tch::{Device, Kind, Tensor};

type Named = Vec<(String, Tensor)>;

fn stored(case: &Case) -> Named {
    let weights = Weights::open(&case.folder).unwrap();
    weights.names().map(|name| (name.to_owned(), weights.tensor(name).unwrap())).collect()
}

fn read(case: &Case, tensors: &Named) -> lorhai::Result<Decoder> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    weights::save(&path, tensors, &[]).unwrap();
    let config = Config::from_folder(&case.folder).unwrap();
    load::load(config, &Weights::open(&path).unwrap(), Kind::Float, Device::Cpu)
}

fn renamed(case: &Case, rename: impl Fn(&str) -> String) -> Named {
    stored(case).into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect()
}

#[track_caller]
fn same_logits(case: &Case, what: &str, actual: &Decoder, expected: &Decoder) {
    let batch = case.batch("");
    let both = [actual, expected].map(|decoder| logits(decoder, &batch, &NoAdapters));
    assert!(both[0].equal(&both[1]), "{}: {what}", case.name);
}

fn case(name: &str) -> Case {
    cases("adapter").into_iter().find(|case| case.name == name).unwrap()
}

#[test]
fn one_prefix_more_or_less_is_accepted() {
    for case in ["llama_tied", "llama_untied_gqa", "qwen2_tied", "mistral"].map(case) {
        let expected = case.decoder(Device::Cpu);
        let base = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
        let wrapped = |name: &str| format!("model.{name}");
        let mixed = |name: &str| if name.contains("layers.0") { base(name) } else { name.to_owned() };
        type Rename<'a> = &'a dyn Fn(&str) -> String;
        let ways: [(&str, Rename); 3] = [("base", &base), ("wrapped", &wrapped), ("mixed", &mixed)];
        for (what, rename) in ways {
            let actual = read(&case, &renamed(&case, rename)).unwrap();
            assert!(actual.notes.is_empty(), "{:?}", actual.notes);
            same_logits(&case, what, &actual, &expected);
        }
    }
}

#[test]
fn either_end_of_a_tied_model_is_enough() {
    let case = case("llama_tied");
    let expected = case.decoder(Device::Cpu);
    let head = |name: &str| name.replace("model.embed_tokens", "lm_head");
    same_logits(&case, "head alone", &read(&case, &renamed(&case, head)).unwrap(), &expected);
    let mut both = stored(&case);
    let embedding = both.iter().find(|(name, _)| name.contains("embed_tokens")).unwrap().1.copy();
    both.push(("lm_head.weight".into(), embedding));
    let actual = read(&case, &both).unwrap();
    assert!(actual.config.tie_word_embeddings && actual.notes.is_empty(), "{:?}", actual.notes);
    same_logits(&case, "both ends alike", &actual, &expected);
}

/// A difference that disappears in the dtype does not count.
#[test]
fn a_head_that_differs_stays_untied_when_saved() {
    let case = case("llama_other_head");
    let read_in = |dtype: &str, folder: &Path| {
        let options = LoadOptions { dtype: dtype.into(), device: "cpu".into(), ..LoadOptions::default() };
        Model::load(folder.to_str().unwrap(), &options, &mut ()).unwrap()
    };
    let mut model = read_in("f32", &case.folder);
    assert!(!model.decoder().config.tie_word_embeddings);
    assert!(
        model.decoder().notes[0].contains("`lm_head.weight` in the checkpoint differs"),
        "{:?}",
        model.decoder().notes
    );
    let tied = Config { tie_word_embeddings: true, ..model.decoder().config.clone() };
    let head = (tied.vocab_size * tied.hidden_size) as u64;
    assert_eq!(model.decoder().config.parameter_count(), tied.parameter_count() + head);
    let folder = tempfile::tempdir().unwrap();
    model.save(folder.path(), false).unwrap();
    assert!(!Config::from_folder(folder.path()).unwrap().tie_word_embeddings);
    let again = read_in("f32", folder.path());
    assert!(again.decoder().notes.is_empty(), "{:?}", again.decoder().notes);
    same_logits(&case, "saved", again.decoder(), model.decoder());

    let mut close = stored(&case);
    let embedding = close.iter().find(|(name, _)| name.contains("embed_tokens")).unwrap().1.copy();
    close
        .iter_mut()
        .filter(|(name, _)| name == "lm_head.weight")
        .for_each(|(_, head)| *head = &embedding * (1.0 + 1e-7));
    let path = folder.path().join("close.safetensors");
    weights::save(&path, &close, &[]).unwrap();
    for (dtype, is_tied) in [(Kind::Float, false), (Kind::BFloat16, true)] {
        let config = Config::from_folder(&case.folder).unwrap();
        let actual = load::load(config, &Weights::open(&path).unwrap(), dtype, Device::Cpu).unwrap();
        assert_eq!(actual.config.tie_word_embeddings, is_tied, "{dtype:?}");
    }
}

#[test]
fn unknown_tensors_beside_the_network_are_noted_and_those_within_it_are_errors() {
    let case = case("llama_untied_gqa");
    let expected = case.decoder(Device::Cpu);
    let with = |name: &str, shape: &[i64]| {
        let mut tensors = stored(&case);
        tensors.push((name.to_owned(), Tensor::ones(shape, (Kind::Float, Device::Cpu))));
        read(&case, &tensors)
    };
    for name in ["score.weight", "v_head.summary.weight"] {
        let actual = with(name, &[2, 32]).unwrap();
        assert!(actual.notes.len() == 1 && actual.notes[0].contains(name), "{:?}", actual.notes);
        same_logits(&case, name, &actual, &expected);
    }
    for name in
        ["model.layers.0.self_attn.q_proj.bias", "model.layers.9.mlp.up_proj.weight", "lm_head.bias", "layers.0.x"]
    {
        let error = with(name, &[32]).unwrap_err();
        assert!(error.message.contains(name) && error.message.contains("does not account for"), "{error}");
    }
    // Older checkpoints contain the frequencies, which must equal those of the configuration.
    let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
    let other = with(name, &[4]).unwrap();
    assert!(other.notes.len() == 1 && other.notes[0].contains(name), "{:?}", other.notes);
    let mut tensors = stored(&case);
    let config = &expected.config;
    let own = config.rope_scaling.frequencies(config.head_dim, config.rope_theta, 0).unwrap();
    tensors.push((name.to_owned(), own.to_kind(Kind::BFloat16)));
    assert!(read(&case, &tensors).unwrap().notes.is_empty());
}

#[test]
fn a_missing_tensor_is_an_error() {
    let case = case("llama_untied_gqa");
    for prefix in ["_orig_mod.", "module.", "base_model.model.", "transformer."] {
        let error = read(&case, &renamed(&case, |name| format!("{prefix}{name}"))).unwrap_err();
        assert!(error.hint.as_deref().unwrap().contains(&format!("`{prefix}`")), "{error:?}");
    }
    let without_head = || stored(&case).into_iter().filter(|(name, _)| name != "lm_head.weight").collect::<Named>();
    let error = read(&case, &without_head()).unwrap_err();
    assert!(error.message.contains("`lm_head.weight`") && error.hint.unwrap().contains("tie_word_embeddings"));
    let mut classifier = without_head();
    classifier.push(("score.weight".into(), Tensor::ones([2, 32], (Kind::Float, Device::Cpu))));
    assert!(read(&case, &classifier).unwrap_err().hint.unwrap().contains("not a language model"));
    let twice: Named = stored(&case)
        .into_iter()
        .flat_map(|(name, tensor)| {
            let base = name.strip_prefix("model.").unwrap_or("").to_owned();
            [(base, tensor.copy()), (name, tensor)].into_iter().filter(|(name, _)| !name.is_empty())
        })
        .collect();
    assert!(read(&case, &twice).unwrap_err().message.contains("twice"));
}
