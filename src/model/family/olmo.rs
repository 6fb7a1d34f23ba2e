//! OLMo 2: norms behind attention and MLP instead of before them, and queries and keys normalised over all heads.

use super::super::architecture::{NormKind, NormPlacement, QkNorm};
use super::llama::{self, read_attention_bias};
use super::{Declaration, Defaults, Family};

pub const OLMO2: Declaration = Declaration {
    family: Family::Olmo2,
    model_type: "olmo2",
    gguf: "olmo2",
    defaults: Defaults {
        vocab_size: 50_304,
        allows_null_head_dim: false,
        rms_norm_eps: 1e-5,
        pad_token_id: Some(1),
        ..llama::DEFAULTS
    },
    read: |fields, config| {
        config.architecture.norm_placement = NormPlacement::After;
        config.architecture.norm_kind = NormKind::Wide;
        config.architecture.qk_norm = Some(QkNorm::Whole);
        read_attention_bias(fields, config)
    },
};
