//! Multimodal models whose language model is a family of its own: Gemma 3 beside its vision tower.
//!
//! Only the language model is loaded and trained. An adapter names its modules as in the whole model, so that PEFT loads it
//! there; a merged or saved model is the language model alone.

use serde_json::Value;
use std::borrow::Cow;

/// A multimodal architecture.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrapper {
    /// In config.json.
    pub model_type: &'static str,
    /// Of its language model.
    pub inner_type: &'static str,
    /// What module names of the language model begin with, in the place of `model.`.
    prefix: &'static str,
    /// The same in files of earlier versions of transformers.
    earlier_prefix: &'static str,
    /// The output head, in those files.
    earlier_head: &'static str,
    /// transformers' class for the language model alone.
    inner_class: &'static str,
}

const WRAPPERS: [Wrapper; 1] = [Wrapper {
    model_type: "gemma3",
    inner_type: "gemma3_text",
    prefix: "model.language_model.",
    earlier_prefix: "language_model.model.",
    earlier_head: "language_model.lm_head.",
    inner_class: "Gemma3ForCausalLM",
}];

/// Keys of the whole that hold for its language model.
const SHARED_KEYS: [&str; 4] = ["dtype", "torch_dtype", "quantization_config", "tie_word_embeddings"];

impl Wrapper {
    /// The multimodal architecture of a config.json, if it is one.
    pub fn of(config: &Value) -> Option<&'static Wrapper> {
        let model_type = config.get("model_type")?.as_str()?;
        WRAPPERS.iter().find(|wrapper| wrapper.model_type == model_type)
    }

    /// The whole model's name for a module or tensor of the language model.
    pub fn outer_name(&self, name: &str) -> String {
        match name.strip_prefix("model.") {
            Some(rest) => format!("{}{rest}", self.prefix),
            None => name.to_owned(),
        }
    }

    /// Undoes [`Self::outer_name`]; `None` if it is not part of the language model.
    pub fn inner_name(&self, name: &str) -> Option<String> {
        let of_layers = [self.prefix, self.earlier_prefix].into_iter().find_map(|prefix| name.strip_prefix(prefix));
        let head = || name.strip_prefix(self.earlier_head).or_else(|| name.strip_prefix("lm_head."));
        match of_layers {
            Some(rest) => Some(format!("model.{rest}")),
            None => head().map(|rest| format!("lm_head.{rest}")),
        }
    }
}

/// The name of an adapter's tensor in the language model, whichever wrapper it was saved with.
pub fn unwrapped(name: &str) -> Cow<'_, str> {
    WRAPPERS.iter().find_map(|wrapper| wrapper.inner_name(name)).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// The config.json of the language model: of a multimodal model its `text_config`, with what the whole says of dtype,
/// quantisation and head.
pub fn language_model(config: &Value) -> Cow<'_, Value> {
    let Some(wrapper) = Wrapper::of(config) else { return Cow::Borrowed(config) };
    let mut inner = config.get("text_config").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if let Some(fields) = inner.as_object_mut() {
        fields.insert("model_type".to_owned(), wrapper.inner_type.into());
        fields.insert("architectures".to_owned(), serde_json::json!([wrapper.inner_class]));
        for key in SHARED_KEYS {
            if let Some(value) = config.get(key) {
                fields.insert(key.to_owned(), value.clone());
            }
        }
    }
    Cow::Owned(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        let wrapper = Wrapper::of(&serde_json::json!({ "model_type": "gemma3" })).unwrap();
        for (inner, outer, earlier) in [
            (
                "model.layers.0.mlp.up_proj.weight",
                "model.language_model.layers.0.mlp.up_proj.weight",
                "language_model.model.layers.0.mlp.up_proj.weight",
            ),
            ("lm_head.weight", "lm_head.weight", "language_model.lm_head.weight"),
        ] {
            assert_eq!(wrapper.outer_name(inner), outer);
            assert_eq!(wrapper.inner_name(outer).as_deref(), Some(inner));
            assert_eq!(wrapper.inner_name(earlier).as_deref(), Some(inner));
        }
        for other in ["vision_tower.encoder.weight", "model.vision_tower.embed.weight", "multi_modal_projector.weight"]
        {
            assert_eq!(wrapper.inner_name(other), None);
        }
    }
}
