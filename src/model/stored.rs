//! Matches the tensors of a checkpoint to those of the decoder: names with and without `model.`, tied
//! weights of which only one is there, and tensors that the decoder does not have.
//!
//! Accepts what transformers accepts, except that a missing tensor is an error: transformers would fill it
//! with random numbers.

use super::config::Config;
use super::quantization;
use super::shapes::{parameter_shapes, EMBEDDING};
use crate::error::{Error, Result};
use crate::hub::weights::Weights;
use std::collections::{BTreeMap, BTreeSet};

/// The weight of the output head.
pub const HEAD: &str = "lm_head.weight";
const BASE: &str = "model.";

/// The tensors of a checkpoint, by the decoder's names.
pub struct CheckpointNames {
    /// From the decoder's name to the checkpoint's.
    names: BTreeMap<String, String>,
    /// Whether the configuration ties the head to the embedding, but the checkpoint has both.
    pub has_both_ends: bool,
    /// Tensors beside the network, which are ignored.
    pub unused: Vec<String>,
    /// `rotary_emb.inv_freq` of older checkpoints; the configuration determines it too.
    pub frequencies: Vec<String>,
}

impl CheckpointNames {
    /// Fails unless the checkpoint has every tensor that the configuration implies, and no other tensor of the
    /// network: ignoring one would silently change the output of the model.
    pub fn find(config: &Config, weights: &Weights) -> Result<CheckpointNames> {
        let embedding = format!("{EMBEDDING}.weight");
        let mut expected: BTreeSet<String> = parameter_shapes(config).into_iter().map(|(name, _)| name).collect();
        expected.insert(HEAD.to_owned());
        let mut stored = CheckpointNames {
            names: BTreeMap::new(),
            has_both_ends: false,
            unused: Vec::new(),
            frequencies: Vec::new(),
        };
        let (mut unexpected, mut parts) = (Vec::new(), Vec::new());
        for name in weights.names() {
            match canonical(name, &expected, config) {
                Some(known) => {
                    if let Some(other) = stored.names.insert(known.clone(), name.to_owned()) {
                        return Err(Error::model(format!(
                            "the checkpoint holds `{known}` twice: as `{other}` and as `{name}`"
                        ))
                        .with_hint("remove the one that does not belong to this model"));
                    }
                }
                None if name.ends_with("rotary_emb.inv_freq") => stored.frequencies.push(name.to_owned()),
                None if config.quantization.is_some() && quantization::weight_of_part(name).is_some() => {
                    parts.push(name);
                }
                None if is_inside(name, config) => unexpected.push(name),
                None => stored.unused.push(name.to_owned()),
            }
        }
        let has_head = stored.names.contains_key(HEAD);
        if config.tie_word_embeddings {
            stored.has_both_ends = has_head && stored.names.contains_key(&embedding);
            if has_head && !stored.has_both_ends {
                let head = stored.names.remove(HEAD).unwrap_or_default();
                stored.names.insert(embedding, head);
            }
        }
        let missing = expected.iter().filter(|name| !stored.names.contains_key(*name));
        let missing: Vec<&String> = missing.filter(|name| !(config.tie_word_embeddings && *name == HEAD)).collect();
        if let Some(first) = missing.first() {
            let error = format!("the checkpoint lacks the tensor `{first}` ({} missing in all)", missing.len());
            return Err(Error::model(error).with_hint(hint(&missing, &expected, config, weights)));
        }
        unexpected.extend(parts.into_iter().filter(|part| {
            let weight = quantization::weight_of_part(part).and_then(|weight| canonical(weight, &expected, config));
            weight.is_none()
        }));
        if let Some(first) = unexpected.first() {
            return Err(Error::model(format!(
                "the checkpoint holds {} tensor(s) that config.json does not account for, first `{first}`",
                unexpected.len()
            ))
            .with_hint(
                "ignoring them would change the model's output; check config.json (biases, layers, architecture)",
            ));
        }
        Ok(stored)
    }

    /// A note for the user on ignored tensors.
    pub fn notes(&self) -> Vec<String> {
        const SHOWN: usize = 3;
        let Some(first) = self.unused.get(..SHOWN.min(self.unused.len())).filter(|names| !names.is_empty()) else {
            return Vec::new();
        };
        let names = first.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = if self.unused.len() > SHOWN { ", …" } else { "" };
        let count = self.unused.len();
        vec![format!("ignored {count} tensor(s) of the checkpoint that are not part of a language model of this architecture: {names}{more}")]
    }

    /// The checkpoint's name for the decoder's tensor `name`.
    pub fn name<'a>(&'a self, name: &'a str) -> &'a str {
        self.names.get(name).map_or(name, String::as_str)
    }
}

/// The decoder's name for the checkpoint's `name`. A base model saved without its head lacks the prefix
/// `model.`, and one that was wrapped again has it twice.
fn canonical(name: &str, expected: &BTreeSet<String>, config: &Config) -> Option<String> {
    if let Some(wrapper) = config.wrapper {
        return wrapper.inner_name(name).filter(|name| expected.contains(name));
    }
    let with = || Some(format!("{BASE}{name}")).filter(|name| expected.contains(name));
    let without = || name.strip_prefix(BASE).filter(|name| expected.contains(*name)).map(str::to_owned);
    expected.get(name).cloned().or_else(with).or_else(without)
}

/// Whether a tensor of this name is part of the network, not of something beside it.
fn is_inside(name: &str, config: &Config) -> bool {
    if let Some(wrapper) = config.wrapper {
        return wrapper.inner_name(name).is_some();
    }
    let first = name.split('.').next().unwrap_or_default();
    ["model", "layers", "embed_tokens", "norm", "lm_head"].contains(&first)
}

fn hint(missing: &[&String], expected: &BTreeSet<String>, config: &Config, weights: &Weights) -> String {
    if let Some(prefix) = common_prefix(expected, config, weights) {
        return format!(
            "the names of its tensors begin with `{prefix}`, as in a wrapped model (torch.compile, DataParallel, PEFT): \
             transformers would fill all weights with random numbers. Save the inner model, or remove `{prefix}` \
             from the names in the safetensors files"
        );
    }
    if missing == [HEAD] {
        let classifier = ["score.weight", "classifier.weight", "qa_outputs.weight"];
        let classifier = classifier.into_iter().find(|name| weights.info(name).is_some());
        return match classifier {
            Some(name) => format!("it has `{name}` instead of an output head: it is not a language model"),
            None => "transformers would fill the output head with random numbers; if the head is tied to the embedding, set \
                     tie_word_embeddings to true in config.json, else fetch the complete model"
                .to_owned(),
        };
    }
    "the download may be incomplete, or config.json belongs to another model".to_owned()
}

/// The prefix of the names of most tensors.
fn common_prefix(expected: &BTreeSet<String>, config: &Config, weights: &Weights) -> Option<String> {
    const PROBE: &str = "norm.weight";
    let probes = weights.names().filter_map(|name| name.strip_suffix(PROBE));
    let mut prefixes = probes.filter_map(|before| {
        let before = before.strip_suffix(BASE).unwrap_or(before);
        (!before.is_empty() && before != BASE && !before.contains("layers.")).then(|| before.to_owned())
    });
    let prefix = prefixes.next()?;
    let all = weights.names().filter_map(|name| name.strip_prefix(&prefix));
    let fitting = all.filter(|name| canonical(name, expected, config).is_some()).count();
    (fitting * 2 > weights.len()).then_some(prefix)
}
