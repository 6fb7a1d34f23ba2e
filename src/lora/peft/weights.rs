//! The tensors of an adapter's file: which there must be, which may be there, and what they say.
//!
//! `adapter_file.rs` reads them and knows their names; here they are compared with the adapter and the model.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::lora::adapter::{Adapter, Replaced};
use crate::lora::adapter_file::AdapterFile;
use crate::lora::spec::LoraSpec;
use crate::lora::targets::{match_embedding, match_targets};
use crate::model::shapes::{linear_shapes, EMBEDDING, HEAD};
use crate::model::{Config, Decoder};
use std::collections::BTreeSet;
use tch::{Kind as Dtype, Tensor};

/// Embeddings and head from the adapter's file, under the names that they have inside PEFT's wrappers.
pub fn replaced_weights(adapter: &Adapter) -> impl Iterator<Item = (String, &Tensor)> {
    let Replaced { embedding, head } = &adapter.replaced;
    let tokens = &adapter.layout.tokens;
    let is_trained = [adapter.trained_embedding().is_some(), adapter.trained_head().is_some()];
    let has_rows = [tokens.embedding.is_some(), tokens.of_head().is_some()];
    let is_target = [adapter.embedding_target.is_some(), adapter.has_head_target()];
    let modules = [(EMBEDDING, embedding), (HEAD, head)].into_iter().zip(is_trained).zip(has_rows).zip(is_target);
    modules.filter_map(|((((module, weight), is_trained), has_rows), is_target)| {
        let inside = match (is_trained, has_rows, is_target) {
            (true, ..) => ".original_module",
            (_, true, true) => ".base_layer.token_adapter.base_layer",
            (_, true, false) => ".token_adapter.base_layer",
            (_, false, true) => ".base_layer",
            (_, false, false) => "",
        };
        Some((format!("{module}{inside}.weight"), weight.as_ref()?))
    })
}

/// Refuses a vocabulary of another size, which the user can resize.
pub fn ensure_vocabulary(file: &AdapterFile, config: &Config) -> Result<()> {
    match file.vocabulary().filter(|size| *size != config.vocab_size) {
        None => Ok(()),
        Some(size) => {
            bail!(Kind::Model, "the adapter was made for a vocabulary of {size} tokens, and this model has {}", config.vocab_size; hint: "call model.resize_token_embeddings({size}) before you load it, as its author did in transformers")
        }
    }
}

/// Refuses a rank above that of the tensors before memory for it is allocated.
pub fn ensure_ranks_fit(file: &AdapterFile, spec: &LoraSpec, config: &Config) -> Result<()> {
    let rows = |name: &str| file.shape(name).and_then(|shape| shape.first().copied());
    let is_a = |name: &&str| name.ends_with("lora_A.weight") || name.ends_with("lora_embedding_A");
    let most = file.names().filter(is_a).filter_map(rows).max().unwrap_or(0);
    let linears = linear_shapes(config);
    let embedding = match_embedding(spec, &linears)?;
    match match_targets(spec, &linears)?.iter().chain(&embedding).find(|target| target.r > most) {
        None => Ok(()),
        // There is no A at all: the tensors have other names.
        Some(target) if most == 0 => Err(file.lacks(&format!("{}.lora_A.weight", target.linear.name))),
        Some(target) => Err(Error::model(format!(
            "the adapter's configuration gives `{}` the rank {}, and the largest in its weights is {most}",
            target.linear.name, target.r
        ))
        .with_hint(
            "its adapter_config.json and adapter_model.safetensors do not belong together: fetch or save both again",
        )),
    }
}

pub fn ensure_names(adapter: &Adapter, file: &AdapterFile) -> Result<()> {
    let expected: BTreeSet<&str> = adapter.parameters.names().iter().map(String::as_str).collect();
    if let Some(missing) = expected.iter().find(|name| !file.has(name)) {
        return Err(file.lacks(missing));
    }
    let of_base = base_names(adapter, file).into_iter().flatten();
    let beside: Vec<String> = of_base.chain(repeats(adapter).into_iter().map(|(name, _)| name)).collect();
    let is_known = |name: &str| expected.contains(name) || beside.iter().any(|known| known == name);
    match file.names().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(extra) => {
            bail!(Kind::Model, "the adapter does not fit this model: it holds the tensor `{}`, which matches none of its parameters", file.stored(extra); hint: "load the base that its adapter_config.json names as `base_model_name_or_path`; if that is this one, that file was changed or it adapts layers that are not supported")
        }
    }
}

/// The names of the frozen embeddings and head in the file.
fn base_names(adapter: &Adapter, file: &AdapterFile) -> [Option<String>; 2] {
    [
        file.base_weight(EMBEDDING, adapter.trained_embedding().is_some()),
        file.base_weight(HEAD, adapter.trained_head().is_some()),
    ]
}

/// Tensors that PEFT writes a second time: those of a trained module under its wrapper's name, and those
/// that head and embeddings share under both names.
fn repeats(adapter: &Adapter) -> Vec<(String, &Tensor)> {
    let mut repeats = Vec::new();
    for (module, trained) in [(EMBEDDING, adapter.trained_embedding()), (HEAD, adapter.trained_head())] {
        repeats.extend(trained.map(|weight| (format!("{module}.modules_to_save.weight"), weight)));
    }
    let copy = adapter.trained_head().filter(|_| adapter.layout.is_tied);
    repeats.extend(copy.map(|weight| (format!("{HEAD}.weight"), weight)));
    let tokens = &adapter.layout.tokens;
    let rows = adapter.embedding_rows().filter(|_| tokens.is_tied && tokens.head.is_none());
    repeats.extend(rows.map(|rows| (format!("{HEAD}.token_adapter.trainable_tokens_delta"), rows.rows)));
    repeats
}

/// The frozen embeddings and head in the file, where they differ from the base's. PEFT
/// loads them into the base; if it ties both, into both.
pub fn replaced(adapter: &Adapter, file: &AdapterFile, decoder: &Decoder) -> Result<Replaced> {
    let read = |name: Option<String>| -> Result<Option<Tensor>> {
        let Some(name) = name else { return Ok(None) };
        let weight = file.tensor(&name)?;
        if weight.size() != decoder.embed_tokens.size() {
            let (expected, stored) = (decoder.embed_tokens.size(), weight.size());
            bail!(Kind::Model, "`{}`: expected shape {expected:?}, found {stored:?}", file.stored(&name); hint: "the adapter was made for a model of another size");
        }
        Ok(Some(weight.f_to_kind(decoder.dtype)?.f_to_device(decoder.device)?))
    };
    let [embedding, head] = base_names(adapter, file);
    let (mut embedding, mut head) = (read(embedding)?, read(head)?);
    if decoder.config.tie_word_embeddings {
        if let (Some(one), Some(other)) = (&embedding, &head) {
            if !one.f_equal(other)? {
                bail!(Kind::Model, "the adapter's file holds embeddings and a head that differ, and this model has one weight for both"; hint: "it was made over a model that does not tie them: load that one");
            }
        }
        let both = head.or(embedding);
        (embedding, head) = (both.as_ref().map(Tensor::shallow_clone), both);
    }
    let embedding = embedding.filter(|weight| !weight.f_equal(&decoder.embed_tokens).unwrap_or(false));
    let base_head = decoder.lm_head.weight.to_dense(decoder.dtype)?;
    let head = head.filter(|weight| !weight.f_equal(&base_head).unwrap_or(false));
    if head.is_some() && adapter.has_head_target() && (adapter.spec.use_dora || adapter.spec.init.splits_base()) {
        bail!(Kind::Model, "the adapter's file holds another head than the base, and PiSSA, OLoRA and DoRA are computed from the base's"; hint: "load the base that the adapter was trained on");
    }
    Ok(Replaced { embedding, head })
}

/// Refuses a file whose repeated tensors differ.
pub fn ensure_repeats_agree(adapter: &Adapter, file: &AdapterFile) -> Result<()> {
    for (name, trained) in repeats(adapter).into_iter().filter(|(name, _)| file.has(name)) {
        let repeat = file.tensor(&name)?.f_to_kind(Dtype::Float)?.f_to_device(trained.device())?;
        if repeat.size() != trained.size() || !repeat.f_equal(&trained.f_detach()?)? {
            bail!(Kind::Model, "the adapter's file holds `{}` twice, with different numbers", file.stored(&name); hint: "save the adapter again");
        }
    }
    Ok(())
}
