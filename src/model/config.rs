//! `config.json` of a decoder: its family, its sizes, and what they imply.
//!
//! Field names and defaults are those of transformers. Reads both the classic keys (`rope_theta`,
//! `rope_scaling`, `torch_dtype`) and those of transformers 5 (`rope_parameters`, `dtype`), with the
//! precedence of transformers if both are there. Leaves the defaults of each family to `family/`, rotary
//! settings to `rope_scaling.rs`.

use super::activation::Activation;
use super::architecture::{Architecture, ExpertShapes};
use super::family::wrapper::{self, Wrapper};
pub use super::family::Family;
use super::family::{window, RopeKeys};
use super::fields::Fields;
use super::quantization::{torch_name, Quantization};
use super::rope_scaling::{self, RopeDefaults, RopeScaling};
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
    /// The channels of each head that rotate, of its first ones.
    pub rotary_dim: i64,
    /// The token whose embedding is not trained, as transformers has it.
    pub pad_token_id: Option<i64>,
    /// How its layers differ from Llama's.
    pub architecture: Architecture,
    /// The multimodal model that it is a part of.
    pub wrapper: Option<&'static Wrapper>,
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

/// Which rotary frequencies a layer uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerRotation {
    /// It leaves queries and keys as they are.
    None,
    Global,
    /// Those of layers with a sliding window, where they differ.
    Local,
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
        let inner = wrapper::language_model(json);
        let fields = Fields(&inner);
        let family = Family::parse(&fields)?;
        ensure_supported(&fields)?;
        let declaration = family.declaration();
        let defaults = &declaration.defaults;
        let hidden_size = fields.size_or("hidden_size", defaults.hidden_size)?;
        let num_attention_heads = fields.size_or("num_attention_heads", defaults.num_attention_heads)?;
        let num_key_value_heads = if !fields.has("num_key_value_heads") {
            defaults.num_key_value_heads
        } else if defaults.allows_null_key_value_heads {
            fields.optional_size("num_key_value_heads")?
        } else {
            Some(fields.size_or("num_key_value_heads", 0)?)
        };
        let head_dim = match fields.get("head_dim") {
            None if defaults.allows_null_head_dim => hidden_size / num_attention_heads,
            _ => fields.size_or("head_dim", defaults.head_dim.unwrap_or(hidden_size / num_attention_heads))?,
        };
        let mut config = Config {
            family,
            vocab_size: fields.size_or("vocab_size", defaults.vocab_size)?,
            hidden_size,
            intermediate_size: fields.size_or("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers: fields.layers(defaults.num_hidden_layers)?,
            num_attention_heads,
            num_key_value_heads: num_key_value_heads.unwrap_or(num_attention_heads),
            head_dim,
            max_position_embeddings: fields.size_or("max_position_embeddings", defaults.max_position_embeddings)?,
            rms_norm_eps: fields.number_or("rms_norm_eps", defaults.rms_norm_eps)?,
            rope_theta: defaults.rope_theta,
            rope_scaling: RopeScaling::None,
            hidden_act: Activation::parse(&fields, defaults.activation_key, defaults.activation)?,
            tie_word_embeddings: fields.flag("tie_word_embeddings", defaults.tie_word_embeddings)?,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            rotary_dim: head_dim,
            pad_token_id: if fields.has("pad_token_id") {
                fields.get("pad_token_id").and_then(Value::as_i64)
            } else {
                defaults.pad_token_id
            },
            architecture: Architecture::default(),
            wrapper: Wrapper::of(json),
            sliding_window: None,
            quantization: fields.get("quantization_config").map(Quantization::from_json).transpose()?,
            saved_dtype: saved_dtype(&fields),
            attention_dropout: fields.get("attention_dropout").and_then(Value::as_f64).unwrap_or(0.0),
        };
        if defaults.rope_keys == RopeKeys::Partial {
            config.rotary_dim = rope_scaling::rotary_dim(&fields, head_dim)?;
        }
        if defaults.rope_keys != RopeKeys::ByLayerType {
            let rope = RopeDefaults::of(defaults, &config);
            (config.rope_theta, config.rope_scaling) = rope_scaling::from_fields(&fields, config.rotary_dim, &rope)?;
        }
        window::layer_types(&fields, config.num_hidden_layers)?;
        (declaration.read)(&fields, &mut config)?;
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
                hint: "the default of head_dim is hidden_size / num_attention_heads"
            );
        }
        Ok(())
    }

    /// Notes for the user on what is ignored.
    pub fn notes(&self) -> Vec<String> {
        let dropout = Some(self.attention_dropout).filter(|dropout| *dropout > 0.0).map(|dropout| {
            format!("config.json: attention_dropout {dropout} is not applied; transformers applies it in training")
        });
        let wrapper = self.wrapper.map(|wrapper| {
            format!(
                "a multimodal model ({}): its language model is loaded, and a saved or merged model is that alone ({})",
                wrapper.model_type, wrapper.inner_type
            )
        });
        let experts = self.architecture.experts.as_ref();
        let auxiliary_loss = experts.and_then(|experts| experts.auxiliary_loss).map(|weight| {
            format!(
                "config.json: output_router_logits is true, for which transformers adds {weight} times a loss for evenly used \
                 experts in training; lorhai does not add it"
            )
        });
        dropout.into_iter().chain(wrapper).chain(auxiliary_loss).collect()
    }

    /// The row of the embeddings that has no gradient.
    pub fn padding(&self) -> Option<i64> {
        self.pad_token_id.filter(|id| (0..self.vocab_size).contains(id))
    }

    /// Whether this layer attends only within the sliding window.
    pub fn uses_sliding_window(&self, layer: usize) -> bool {
        self.sliding_window.as_ref().is_some_and(|window| window.layers.get(layer).copied().unwrap_or(false))
    }

    /// The number of tokens beyond which `generate` reads a text anew, because the frequencies of all its tokens are others
    /// then. transformers does so for Phi-3 alone.
    pub fn rereads_beyond(&self) -> Option<i64> {
        match &self.rope_scaling {
            RopeScaling::LongRope { original_max_position_embeddings: context, .. } if self.family == Family::Phi3 => {
                Some(*context as i64)
            }
            _ => None,
        }
    }

    /// The experts of this layer, if it has experts in the place of an MLP.
    pub fn experts(&self, layer: usize) -> Option<&ExpertShapes> {
        let experts = self.architecture.experts.as_ref()?;
        experts.layers.get(layer).copied().unwrap_or(false).then_some(experts)
    }

    /// The rotation of queries and keys in this layer.
    pub fn rotation(&self, layer: usize) -> LayerRotation {
        let architecture = &self.architecture;
        match architecture.unrotated_layers.get(layer) {
            Some(true) => LayerRotation::None,
            _ if architecture.local_rope.is_some() && self.uses_sliding_window(layer) => LayerRotation::Local,
            _ => LayerRotation::Global,
        }
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
