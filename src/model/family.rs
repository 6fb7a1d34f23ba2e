//! Architectures by their `model_type`: the supported ones, with the defaults of transformers for each, and
//! the names of others that must not be mistaken for a typo.

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
}

const FAMILIES: [(&str, Family); 4] =
    [("llama", Family::Llama), ("mistral", Family::Mistral), ("qwen2", Family::Qwen2), ("qwen3", Family::Qwen3)];

/// Unsupported architectures with names similar to supported ones. A name with another number or a further
/// word (`llama4`, `qwen3_moe`) needs no entry.
const OTHERS: [&str; 7] = ["llava", "mixtral", "ministral", "pixtral", "voxtral", "mllama", "dllama"];

/// The defaults of config.json that differ between families.
pub struct Defaults {
    pub vocab_size: i64,
    pub intermediate_size: i64,
    /// `None`: as many as there are heads.
    pub num_key_value_heads: Option<i64>,
    pub max_position_embeddings: i64,
    /// `None`: hidden_size / num_attention_heads.
    pub head_dim: Option<i64>,
}

impl Family {
    /// Reads `model_type`.
    pub(super) fn parse(fields: &Fields) -> Result<Self> {
        let model_type = fields.text("model_type")?;
        match FAMILIES.iter().find(|(name, _)| *name == model_type) {
            Some((_, family)) => Ok(*family),
            None => Err(Error::model(format!("the architecture `{model_type}` is not supported"))
                .with_hint(hint(&model_type, fields))),
        }
    }

    pub fn defaults(self) -> Defaults {
        match self {
            Family::Llama => Defaults {
                vocab_size: 32_000,
                intermediate_size: 11_008,
                num_key_value_heads: None,
                max_position_embeddings: 2048,
                head_dim: None,
            },
            Family::Mistral => Defaults {
                vocab_size: 32_000,
                intermediate_size: 14_336,
                num_key_value_heads: Some(8),
                max_position_embeddings: 4096 * 32,
                head_dim: None,
            },
            Family::Qwen2 | Family::Qwen3 => Defaults {
                vocab_size: 151_936,
                intermediate_size: 22_016,
                num_key_value_heads: Some(32),
                max_position_embeddings: 32_768,
                head_dim: (self == Family::Qwen3).then_some(128),
            },
        }
    }
}

fn hint(model_type: &str, fields: &Fields) -> String {
    let known = FAMILIES.map(|(name, _)| name).join(", ");
    let is_multimodal = fields.get("text_config").is_some() || fields.get("vision_config").is_some();
    match misspelt(model_type) {
        Some(near) => format!("did you mean `{near}`? (supported: {known})"),
        None if is_multimodal => format!("multimodal models are not supported; supported: {known}"),
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
    FAMILIES.iter().map(|(name, _)| *name).find(|name| {
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
            "mixtral",
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
            "qwen3_moe",
            "qwen3_next",
            "qwen3_vl",
            "qwen3_5",
            "qwen3_5_moe",
            "qwen4",
            "qwen",
            "gemma",
            "gemma2",
            "gemma3",
            "phi",
            "phi3",
            "olmo",
            "olmo2",
            "smollm3",
            "granite",
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
