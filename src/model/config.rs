//! `config.json` of a decoder: which family, which sizes, and what they imply.
//!
//! Field names are transformers' own. Both the classic keys (`rope_theta`, `rope_scaling`,
//! `torch_dtype`) and those of transformers 5 (`rope_parameters`, `dtype`) are read.

use super::quantization::{torch_name, Quantization};
use super::rope::RopeScaling;
use crate::error::{Error, Kind, Result};
use crate::{bail, files, suggest};
use serde_json::Value;
use std::path::Path;
use tch::Kind as Dtype;

/// The architectures that share the one decoder of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

const FAMILIES: [(&str, Family); 4] =
    [("llama", Family::Llama), ("mistral", Family::Mistral), ("qwen2", Family::Qwen2), ("qwen3", Family::Qwen3)];

impl Family {
    fn parse(model_type: &str) -> Result<Self> {
        match FAMILIES.iter().find(|(name, _)| *name == model_type) {
            Some((_, family)) => Ok(*family),
            None => Err(Error::model(format!("the architecture `{model_type}` is not supported"))
                .with_hint(suggest::hint(model_type, FAMILIES.map(|(name, _)| name)))),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub family: Family,
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub num_key_value_heads: i64,
    pub head_dim: i64,
    pub max_position_embeddings: i64,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    pub tie_word_embeddings: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on o.
    pub o_bias: bool,
    pub mlp_bias: bool,
    /// Width of the attention window in tokens, with the layers it applies to.
    pub sliding_window: Option<SlidingWindow>,
    /// How the linear layers are quantised, if they are.
    pub quantization: Option<Quantization>,
    /// The dtype the checkpoint was saved in, as its config says.
    pub saved_dtype: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SlidingWindow {
    pub width: i64,
    /// One flag per layer.
    pub layers: Vec<bool>,
}

impl Config {
    pub fn from_folder(folder: &Path) -> Result<Self> {
        Self::from_file(&folder.join("config.json"))
    }

    pub fn from_file(path: &Path) -> Result<Self> {
        if !path.exists() {
            let error = Error::new(Kind::File, format!("there is no `{}`", path.display()));
            return Err(match path.with_file_name("adapter_config.json").exists() {
                true => error.with_hint("this is an adapter: load its base model, then model.load_adapter(folder)"),
                false => error.with_hint("give the folder of a model: it holds config.json and the weights"),
            });
        }
        Self::from_json(&files::read_json(path)?).map_err(|error| error.context(format!("`{}`", path.display())))
    }

    pub fn from_json(json: &Value) -> Result<Self> {
        let fields = Fields(json);
        let family = Family::parse(&fields.text("model_type")?)?;
        fields.refuse_unsupported()?;
        let hidden_size = fields.size("hidden_size")?;
        let num_attention_heads = fields.size("num_attention_heads")?;
        let num_hidden_layers = fields.layers()?;
        let attention_bias = fields.flag("attention_bias", false)?;
        let config = Config {
            family,
            vocab_size: fields.size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: fields.size_or("num_key_value_heads", num_attention_heads)?,
            head_dim: fields.size_or("head_dim", default_head_dim(family, hidden_size, num_attention_heads))?,
            max_position_embeddings: fields.size_or("max_position_embeddings", 2048)?,
            rms_norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
            rope_theta: fields.rope_theta()?,
            rope_scaling: RopeScaling::from_json(fields.rope())?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            qkv_bias: family == Family::Qwen2 || (family != Family::Mistral && attention_bias),
            o_bias: matches!(family, Family::Llama | Family::Qwen3) && attention_bias,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias", false)?,
            sliding_window: sliding_window(&fields, family, num_hidden_layers)?,
            quantization: fields.get("quantization_config").map(Quantization::from_json).transpose()?,
            saved_dtype: fields.saved_dtype(),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if heads % groups != 0 {
            bail!(
                Kind::Model,
                "num_attention_heads must be a multiple of num_key_value_heads, found {heads} and {groups}"
            );
        }
        if self.head_dim < 2 || self.head_dim % 2 != 0 {
            bail!(
                Kind::Model,
                "head_dim must be even and at least 2 for rotary embeddings, found {}", self.head_dim;
                hint: "where config.json does not say, it is hidden_size / num_attention_heads"
            );
        }
        Ok(())
    }

    /// Whether queries and keys are normalised per head before the rotation (Qwen3).
    pub fn qk_norm(&self) -> bool {
        self.family == Family::Qwen3
    }

    /// The number of parameters, tied weights counted once.
    pub fn parameter_count(&self) -> u64 {
        super::shapes::parameter_shapes(self).iter().map(|(_, shape)| shape.iter().product::<i64>() as u64).sum()
    }
}

/// Puts the dtype that weights are saved in into a `config.json`. transformers 5 writes `dtype`;
/// earlier ones read `torch_dtype` alone.
pub fn set_saved_dtype(config: &mut Value, dtype: Dtype) {
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    config[key] = torch_name(dtype).into();
}

/// transformers derives the head size from the hidden size, except that Qwen3 states 128.
fn default_head_dim(family: Family, hidden_size: i64, heads: i64) -> i64 {
    match family {
        Family::Qwen3 => 128,
        _ => hidden_size / heads,
    }
}

/// Mistral slides in every layer; Qwen from layer `max_window_layers` on, if it is told to.
fn sliding_window(fields: &Fields, family: Family, layers: usize) -> Result<Option<SlidingWindow>> {
    let slides = match family {
        Family::Llama => false,
        Family::Mistral => true,
        Family::Qwen2 | Family::Qwen3 => fields.flag("use_sliding_window", false)?,
    };
    // Mistral's configuration class slides over 4096 tokens where the file says nothing.
    let absent = family == Family::Mistral && fields.0.get("sliding_window").is_none();
    let width = if absent { Some(4096) } else { fields.optional_size("sliding_window")? };
    let Some(width) = width.filter(|_| slides) else {
        return Ok(None);
    };
    let first = match family {
        Family::Mistral => 0,
        _ => fields.optional_size("max_window_layers")?.unwrap_or(28) as usize,
    };
    let layers = match fields.get("layer_types").and_then(Value::as_array) {
        Some(types) => types.iter().map(|kind| kind == "sliding_attention").collect(),
        None => (0..layers).map(|layer| layer >= first).collect(),
    };
    Ok(Some(SlidingWindow { width, layers }))
}

/// Reads typed fields of `config.json`, naming the field in every error.
struct Fields<'a>(&'a Value);

impl<'a> Fields<'a> {
    /// The field, absent if null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn wrong(name: &str, expected: &str, found: &Value) -> Error {
        Error::model(format!("`{name}`: expected {expected}, found {found}"))
    }

    fn text(&self, name: &str) -> Result<String> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(Self::wrong(name, "a string", other)),
            None => Err(Error::model(format!("`{name}` is missing"))
                .with_hint("is this the config.json of a transformers model?")),
        }
    }

    fn optional_size(&self, name: &str) -> Result<Option<i64>> {
        // 2^31 bounds every product of two sizes within i64.
        match self.get(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(size) if (1..1 << 31).contains(&size) => Ok(Some(size)),
                _ => Err(Self::wrong(name, "a positive whole number", value)),
            },
        }
    }

    fn size(&self, name: &str) -> Result<i64> {
        self.optional_size(name)?
            .ok_or_else(|| Error::model(format!("`{name}` is missing: expected a positive whole number")))
    }

    /// Bounded, because memory is set aside for each before any weight is looked at.
    fn layers(&self) -> Result<usize> {
        const MOST: i64 = 10_000;
        match self.size("num_hidden_layers")? {
            count if count <= MOST => Ok(count as usize),
            count => bail!(Kind::Model, "`num_hidden_layers`: expected at most {MOST}, found {count}"),
        }
    }

    fn size_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.optional_size(name)?.unwrap_or(default))
    }

    fn number_or(&self, name: &str, default: f64) -> Result<f64> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(Self::wrong(name, "a positive number", value)),
            },
        }
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(Self::wrong(name, "true or false", other)),
        }
    }

    fn rope(&self) -> Option<&'a Value> {
        self.get("rope_parameters").or_else(|| self.get("rope_scaling"))
    }

    fn rope_theta(&self) -> Result<f64> {
        match self.rope().and_then(|rope| rope.get("rope_theta")) {
            Some(_) => Fields(self.rope().unwrap_or(&Value::Null)).number_or("rope_theta", 10_000.0),
            None => self.number_or("rope_theta", 10_000.0),
        }
    }

    fn saved_dtype(&self) -> Option<String> {
        self.get("dtype").or_else(|| self.get("torch_dtype")).and_then(Value::as_str).map(str::to_owned)
    }

    fn refuse_unsupported(&self) -> Result<()> {
        match self.get("hidden_act").or_else(|| self.get("hidden_activation")) {
            None => Ok(()),
            Some(Value::String(name)) if name == "silu" || name == "swish" => Ok(()),
            Some(other) => Err(Self::wrong("hidden_act", "\"silu\"", other)),
        }
    }
}
