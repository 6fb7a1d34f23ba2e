//! `config.json` of a decoder: its family, its sizes, and what they imply.
//!
//! Field names and defaults are those of transformers. Reads both the classic keys (`rope_theta`,
//! `rope_scaling`, `torch_dtype`) and those of transformers 5 (`rope_parameters`, `dtype`), with the
//! precedence of transformers if both are there. Leaves the defaults of each family to `family.rs`, rotary
//! settings to `rope_scaling.rs`.

use super::activation::Activation;
pub use super::family::Family;
use super::fields::Fields;
use super::quantization::{torch_name, Quantization};
use super::rope_scaling::{self, RopeScaling};
use crate::error::{Error, Kind, Result};
use crate::{bail, files, native};
use serde_json::Value;
use std::path::Path;
use tch::Kind as Dtype;

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
    pub hidden_act: Activation,
    pub tie_word_embeddings: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// Bias on o.
    pub o_bias: bool,
    pub mlp_bias: bool,
    /// The sliding window of attention, and the layers that use it.
    pub sliding_window: Option<SlidingWindow>,
    /// How the linear layers are quantised, if they are.
    pub quantization: Option<Quantization>,
    /// The dtype that the checkpoint was saved in, according to config.json.
    pub saved_dtype: Option<String>,
    /// Dropout of attention weights in training, which lorhai does not implement.
    pub attention_dropout: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SlidingWindow {
    /// In tokens.
    pub width: i64,
    /// One flag per layer.
    pub layers: Vec<bool>,
}

impl Config {
    /// Whether our own loops multiply its matrices in f32 (`native/product.h`).
    pub fn has_small_matrices(&self) -> bool {
        self.hidden_size.saturating_mul(self.intermediate_size) <= native::SMALL_PRODUCT
    }

    pub fn from_folder(folder: &Path) -> Result<Self> {
        Self::from_file(&folder.join("config.json"))
    }

    pub fn from_file(path: &Path) -> Result<Self> {
        if !path.exists() {
            let error = Error::new(Kind::File, format!("there is no `{}`", path.display()));
            return Err(if path.with_file_name("adapter_config.json").exists() {
                error.with_hint("this is an adapter: load its base model, then model.load_adapter(folder)")
            } else {
                error.with_hint("give the folder of a model: it holds config.json and the weights")
            });
        }
        Self::from_json(&files::read_json(path)?).map_err(|error| error.context(format!("`{}`", path.display())))
    }

    pub fn from_json(json: &Value) -> Result<Self> {
        let fields = Fields(json);
        let family = Family::parse(&fields)?;
        ensure_supported(&fields)?;
        let defaults = family.defaults();
        let hidden_size = fields.size_or("hidden_size", 4096)?;
        let num_attention_heads = fields.size_or("num_attention_heads", 32)?;
        let num_hidden_layers = fields.layers(32)?;
        let attention_bias = fields.flag("attention_bias", false)?;
        let max_position_embeddings = fields.size_or("max_position_embeddings", defaults.max_position_embeddings)?;
        // In families for which transformers allows null, null means as many as there are heads.
        let num_key_value_heads = match (family, fields.has("num_key_value_heads")) {
            (Family::Mistral, true) => Some(fields.size_or("num_key_value_heads", 0)?),
            (_, true) => fields.optional_size("num_key_value_heads")?,
            (_, false) => defaults.num_key_value_heads,
        };
        let head_dim = match (family, fields.get("head_dim")) {
            (Family::Llama | Family::Mistral, None) => hidden_size / num_attention_heads,
            _ => fields.size_or("head_dim", defaults.head_dim.unwrap_or(hidden_size / num_attention_heads))?,
        };
        let allows_nested_rope = matches!(family, Family::Qwen2 | Family::Qwen3);
        let (rope_theta, rope_scaling) =
            rope_scaling::from_fields(&fields, head_dim, max_position_embeddings, allows_nested_rope)?;
        let config = Config {
            family,
            vocab_size: fields.size_or("vocab_size", defaults.vocab_size)?,
            hidden_size,
            intermediate_size: fields.size_or("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: num_key_value_heads.unwrap_or(num_attention_heads),
            head_dim,
            max_position_embeddings,
            rms_norm_eps: fields.number_or("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            hidden_act: Activation::parse(&fields)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", false)?,
            qkv_bias: family == Family::Qwen2 || (family != Family::Mistral && attention_bias),
            o_bias: matches!(family, Family::Llama | Family::Qwen3) && attention_bias,
            mlp_bias: family == Family::Llama && fields.flag("mlp_bias", false)?,
            sliding_window: sliding_window(&fields, family, num_hidden_layers)?,
            quantization: fields.get("quantization_config").map(Quantization::from_json).transpose()?,
            saved_dtype: saved_dtype(&fields),
            attention_dropout: fields.get("attention_dropout").and_then(Value::as_f64).unwrap_or(0.0),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if self.family == Family::Llama && self.hidden_size % heads != 0 {
            bail!(
                Kind::Model,
                "hidden_size must be a multiple of num_attention_heads, found {} and {heads}",
                self.hidden_size
            );
        }
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
                hint: "the default of head_dim is hidden_size / num_attention_heads"
            );
        }
        Ok(())
    }

    /// Notes for the user on settings that are ignored.
    pub fn notes(&self) -> Option<String> {
        let dropout = self.attention_dropout;
        (dropout > 0.0).then(|| {
            format!("config.json: attention_dropout {dropout} is not applied; transformers applies it in training")
        })
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

/// Sets the dtype of saved weights in a `config.json`. transformers 5 writes `dtype`; earlier versions read
/// only `torch_dtype`.
pub fn set_saved_dtype(config: &mut Value, dtype: Dtype) {
    let key = if config.get("dtype").is_some() { "dtype" } else { "torch_dtype" };
    config[key] = torch_name(dtype).into();
}

/// Mistral uses the sliding window in every layer. Qwen uses it from layer `max_window_layers` on, if
/// `use_sliding_window` is true. `layer_types` overrides both.
fn sliding_window(fields: &Fields, family: Family, layers: usize) -> Result<Option<SlidingWindow>> {
    const DEFAULT_WIDTH: i64 = 4096;
    let types = layer_types(fields, layers)?;
    let width =
        if fields.has("sliding_window") { fields.optional_size("sliding_window")? } else { Some(DEFAULT_WIDTH) };
    let (is_used, first_layer) = match family {
        Family::Llama => return Ok(None),
        Family::Mistral => (true, 0),
        Family::Qwen2 | Family::Qwen3 => {
            (fields.flag("use_sliding_window", false)?, fields.size_or("max_window_layers", 28)? as usize)
        }
    };
    match (width.filter(|_| is_used), types) {
        (None, Some(types)) if types.contains(&true) => {
            bail!(Kind::Model, "`layer_types` has \"sliding_attention\", but the sliding window is off"; hint: "set use_sliding_window to true and sliding_window to its width")
        }
        (None, _) => Ok(None),
        (Some(width), types) => {
            let layers = types.unwrap_or_else(|| (0..layers).map(|layer| layer >= first_layer).collect());
            Ok(layers.contains(&true).then_some(SlidingWindow { width, layers }))
        }
    }
}

/// Which layers use the sliding window, if `layer_types` says so.
fn layer_types(fields: &Fields, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(value) = fields.get("layer_types") else { return Ok(None) };
    let types = value.as_array().ok_or_else(|| Fields::wrong("layer_types", "an array", value))?;
    if types.len() != layers {
        bail!(Kind::Model, "`layer_types`: expected {layers} entries, one for each layer, found {}", types.len());
    }
    let uses_sliding_window = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention" | "attention") => Ok(false),
        _ => Err(Fields::wrong("layer_types", "\"full_attention\" or \"sliding_attention\"", kind)),
    };
    types.iter().map(uses_sliding_window).collect::<Result<_>>().map(Some)
}

/// `dtype` overrides `torch_dtype`.
fn saved_dtype(fields: &Fields) -> Option<String> {
    fields.get("dtype").or_else(|| fields.get("torch_dtype")).and_then(Value::as_str).map(str::to_owned)
}

fn ensure_supported(fields: &Fields) -> Result<()> {
    if fields.get("per_layer_config").is_some() {
        bail!(Kind::Model, "`per_layer_config`: layers with different settings are not supported");
    }
    Ok(())
}
