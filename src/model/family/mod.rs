//! Model families: a declaration for each supported one, by its `model_type`, and the names of others that must not be
//! mistaken for a typo.
//!
//! Each file declares one family or a few that are alike: the defaults of transformers for its config.json, and how its
//! layers differ from Llama's (`architecture.rs`). CONTRIBUTING.md says how to add one.

mod gemma;
mod llama;
mod moe;
mod olmo;
mod phi;
pub(super) mod window;
pub mod wrapper;

use super::config::Config;
use super::fields::Fields;
use crate::error::{Error, Result};
use crate::suggest;

/// The supported architectures, which share one decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
    SmolLm3,
    Gemma2,
    Gemma3,
    Olmo2,
    Granite,
    Phi3,
    Qwen3Moe,
    Mixtral,
}

/// What a family is: its name, the defaults of its config.json, and how it differs from Llama.
pub struct Declaration {
    pub family: Family,
    /// The `model_type` in config.json.
    pub model_type: &'static str,
    /// llama.cpp's name of the architecture.
    pub gguf: &'static str,
    pub defaults: Defaults,
    /// Reads the keys that are not common to all families, and sets what differs from Llama.
    pub read: fn(&Fields, &mut Config) -> Result<()>,
}

const FAMILIES: [&Declaration; 12] = [
    &llama::LLAMA,
    &llama::MISTRAL,
    &llama::QWEN2,
    &llama::QWEN3,
    &llama::SMOLLM3,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &olmo::OLMO2,
    &llama::GRANITE,
    &phi::PHI3,
    &moe::QWEN3_MOE,
    &moe::MIXTRAL,
];

/// Unsupported architectures with names similar to supported ones. A name with another number or a further
/// word (`llama4`, `qwen2_moe`) needs no entry.
const OTHERS: [&str; 8] = ["llava", "ministral", "pixtral", "voxtral", "mllama", "dllama", "granitemoe", "olmoe"];

/// The defaults of a family's config.json, and which of its keys may be null.
pub struct Defaults {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    /// `None`: as many as there are heads.
    pub num_key_value_heads: Option<i64>,
    /// Whether null means as many as there are heads; an error if not.
    pub allows_null_key_value_heads: bool,
    /// `None`: hidden_size / num_attention_heads.
    pub head_dim: Option<i64>,
    /// Whether null means the default; an error if not.
    pub allows_null_head_dim: bool,
    pub max_position_embeddings: i64,
    /// `None`: as `max_position_embeddings`.
    pub original_max_position_embeddings: Option<i64>,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope_keys: RopeKeys,
    pub tie_word_embeddings: bool,
    pub pad_token_id: Option<i64>,
    /// The key of the activation function.
    pub activation_key: &'static str,
    pub activation: &'static str,
}

/// How config.json states the rotation of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeKeys {
    /// Once for all layers.
    Common,
    /// As `Common`; transformers also has settings for each type of layer, which lorhai refuses.
    CommonOnly,
    /// As `Common`, perhaps for a part of each head (`partial_rotary_factor`). The types "su" and "yarn" are earlier names of
    /// "longrope".
    Partial,
    /// For each type of layer: [`Declaration::read`] reads it.
    ByLayerType,
}

impl Family {
    /// Reads `model_type`.
    pub(super) fn parse(fields: &Fields) -> Result<Self> {
        let model_type = fields.text("model_type")?;
        match FAMILIES.iter().find(|known| known.model_type == model_type) {
            Some(known) => Ok(known.family),
            None => Err(Error::model(format!("the architecture `{model_type}` is not supported"))
                .with_hint(hint(&model_type, fields))),
        }
    }

    /// What this family is.
    pub fn declaration(self) -> &'static Declaration {
        FAMILIES.into_iter().find(|known| known.family == self).unwrap_or(&llama::LLAMA)
    }

    /// Every family's `model_type`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().map(|known| known.model_type)
    }
}

fn hint(model_type: &str, fields: &Fields) -> String {
    let known = Family::names().collect::<Vec<_>>().join(", ");
    let is_multimodal = fields.get("text_config").is_some() || fields.get("vision_config").is_some();
    match misspelt(model_type) {
        Some(near) => format!("did you mean `{near}`? (supported: {known})"),
        None if is_multimodal => {
            format!("of multimodal models only gemma3 is supported, by its language model; supported: {known}")
        }
        None => {
            format!(
                "changing model_type in config.json does not change the architecture; supported architectures: {known}"
            )
        }
    }
}

/// The architecture that `model_type` is a typo of: with the same digits, no further words and almost the
/// same letters; and `model_type` must not be another architecture.
fn misspelt(model_type: &str) -> Option<&'static str> {
    let typed: String = model_type.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    if OTHERS.contains(&typed.as_str()) {
        return None;
    }
    let split = |name: &str| -> (String, String) { name.chars().partition(char::is_ascii_digit) };
    let (digits, letters) = split(&typed);
    Family::names().find(|name| {
        let (known_digits, known_letters) = split(name);
        digits == known_digits
            && letters.len().abs_diff(known_letters.len()) <= 1
            && suggest::nearest(&letters, [known_letters.as_str()]).is_some()
            && (digits.is_empty() || typed.ends_with(&digits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_have_a_suggestion_and_other_architectures_none() {
        for (name, meant) in [
            ("lama", "llama"),
            ("Llama", "llama"),
            ("LLaMA", "llama"),
            ("mistrall", "mistral"),
            ("qwen-2", "qwen2"),
            ("Qwen3", "qwen3"),
            ("qwne3", "qwen3"),
        ] {
            assert_eq!(misspelt(name), Some(meant), "{name}");
        }
        // The model types of transformers whose names are nearest.
        for name in [
            "llama4",
            "llama4_text",
            "mllama",
            "llava",
            "video_llava",
            "ministral",
            "ministral3",
            "mistral3",
            "mistral4",
            "pixtral",
            "voxtral",
            "qwen2_moe",
            "qwen2_vl",
            "qwen2_5_vl",
            "qwen2_5_omni",
            "qwen2_audio",
            "qwen3_next",
            "qwen3_vl",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen4",
            "qwen",
            "gemma",
            "gemma3",
            "gemma4",
            "phi",
            "phi4mm",
            "gemma3n",
            "granitemoe",
            "olmo3",
            "olmoe",
            "olmo",
            "cohere",
            "exaone4",
            "gpt2",
            "opt",
            "bloom",
            "falcon",
            "stablelm",
            "glm4",
            "deepseek_v3",
            "internlm2",
            "baichuan",
        ] {
            assert_eq!(misspelt(name), None, "{name}");
        }
    }
}
