//! Phi-3 and Phi-4: one matrix for queries, keys and values and one for gate and up; a part of each head may stay unrotated.

use super::super::architecture::Projections;
use super::llama;
use super::window::{self, window_width};
use super::{Declaration, Defaults, Family, RopeKeys};
use crate::bail;
use crate::error::Kind;

pub const PHI3: Declaration = Declaration {
    family: Family::Phi3,
    model_type: "phi3",
    gguf: "phi3",
    defaults: Defaults {
        vocab_size: 32_064,
        hidden_size: 3072,
        intermediate_size: 8192,
        allows_null_head_dim: false,
        max_position_embeddings: 4096,
        original_max_position_embeddings: Some(4096),
        rms_norm_eps: 1e-5,
        pad_token_id: Some(32_000),
        rope_keys: RopeKeys::Partial,
        ..llama::DEFAULTS
    },
    read: |fields, config| {
        config.architecture.projections = Projections::Fused;
        for name in ["resid_pdrop", "embd_pdrop"] {
            if let Some(p) = fields.get(name).and_then(serde_json::Value::as_f64).filter(|p| *p > 0.0) {
                bail!(Kind::Model, "`{name}`: expected 0, found {p}: dropout of the base is not supported"; hint: "set it to 0 in config.json; LoRA's own dropout is `dropout` of add_lora");
            }
        }
        let width = window_width(fields, None)?;
        config.sliding_window = window::in_every_layer(config, width);
        Ok(())
    },
};
