//! Settings that several families read alike: the sliding window, and the number of heads.

use super::super::config::{Config, SlidingWindow};
use super::super::fields::Fields;
use crate::bail;
use crate::error::{Kind, Result};
use serde_json::Value;

/// The width of the window in tokens; `None` if it is null. `default` if the key is absent.
pub fn window_width(fields: &Fields, default: Option<i64>) -> Result<Option<i64>> {
    if fields.has("sliding_window") {
        fields.optional_size("sliding_window")
    } else {
        Ok(default)
    }
}

/// The layers with a sliding window of this width: those that `layer_types` names, else those that `uses_window` accepts.
///
/// # Errors
/// `layer_types` that names such layers, without a width.
pub fn of(
    fields: &Fields,
    config: &Config,
    width: Option<i64>,
    uses_window: impl Fn(usize) -> bool,
) -> Result<Option<SlidingWindow>> {
    let count = config.num_hidden_layers;
    match (width, layer_types(fields, count)?) {
        (None, Some(types)) if types.contains(&true) => {
            bail!(Kind::Model, "`layer_types` has \"sliding_attention\", but the sliding window is off"; hint: "set use_sliding_window to true and sliding_window to its width")
        }
        (None, _) => Ok(None),
        (Some(width), types) => {
            let layers = types.unwrap_or_else(|| (0..count).map(uses_window).collect());
            Ok(layers.contains(&true).then_some(SlidingWindow { width, layers }))
        }
    }
}

/// A window of this width in every layer. transformers ignores `layer_types` in families that do so.
pub fn in_every_layer(config: &Config, width: Option<i64>) -> Option<SlidingWindow> {
    width.map(|width| SlidingWindow { width, layers: vec![true; config.num_hidden_layers] })
}

/// Which layers use the sliding window, if `layer_types` says so.
pub fn layer_types(fields: &Fields, layers: usize) -> Result<Option<Vec<bool>>> {
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

/// Fails unless `hidden_size` is a multiple of the number of heads, as some families check.
pub fn ensure_heads_divide(config: &Config) -> Result<()> {
    let heads = config.num_attention_heads;
    if config.hidden_size % heads != 0 {
        bail!(
            Kind::Model,
            "hidden_size must be a multiple of num_attention_heads, found {} and {heads}",
            config.hidden_size
        );
    }
    Ok(())
}
