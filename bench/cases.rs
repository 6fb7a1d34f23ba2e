//! What is measured: shapes of models with the batches that go through them.

use serde_json::{json, Value};

pub struct Case {
    pub name: &'static str,
    /// A `config.json`.
    pub model: Value,
    pub dtype: &'static str,
    /// One adapter each; several are trained side by side by us, one after another by the peer.
    pub ranks: &'static [i64],
    pub rows: usize,
    pub time: usize,
    /// The share of each row, at its end, that a loss is taken at.
    pub labelled: f64,
    pub dropout: f64,
    pub steps_per_round: usize,
}

const RANKS: &[i64] = &[2, 4, 8, 16, 32, 64];

impl Case {
    pub fn settings(&self) -> String {
        let Case { dtype, ranks, rows, time, labelled, dropout, .. } = self;
        format!("{dtype}, ranks {ranks:?}, {rows}×{time} tokens each, {labelled} labelled, dropout {dropout}")
    }
}

pub fn cases() -> Vec<Case> {
    let small = qwen2(64, 160, 3, [4, 2], 512, true);
    let middle = qwen2(512, 1408, 8, [8, 2], 32_000, true);
    let half_billion = qwen2(896, 4864, 24, [14, 2], 151_936, true);
    let case = |name, model: &Value, dtype, ranks, rows, time| Case {
        name,
        model: model.clone(),
        dtype,
        ranks,
        rows,
        time,
        labelled: 1.0,
        dropout: 0.0,
        steps_per_round: 1,
    };
    vec![
        Case { steps_per_round: 20, ..case("small sweep", &small, "f32", RANKS, 4, 64) },
        Case { steps_per_round: 20, dropout: 0.05, ..case("small sweep with dropout", &small, "f32", RANKS, 4, 64) },
        Case { steps_per_round: 20, ..case("small single", &small, "f32", &[16], 4, 64) },
        Case { steps_per_round: 2, ..case("middle sweep f32", &middle, "f32", RANKS, 1, 64) },
        Case { steps_per_round: 2, ..case("middle sweep bf16", &middle, "bf16", RANKS, 1, 64) },
        case("0.5B single bf16", &half_billion, "bf16", &[16], 2, 256),
        Case { labelled: 0.25, ..case("0.5B single bf16, a quarter labelled", &half_billion, "bf16", &[16], 2, 256) },
    ]
}

fn qwen2(hidden: i64, mlp: i64, layers: i64, [heads, kv_heads]: [i64; 2], vocabulary: i64, tied: bool) -> Value {
    json!({
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu",
        "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary,
        "tie_word_embeddings": tied, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 4096,
    })
}
