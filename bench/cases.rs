//! What is measured: shapes of models with the batches that go through them.

use lorhai::model::{device, processor};
use serde_json::{json, Value};

pub struct Case {
    pub name: &'static str,
    /// A `config.json`.
    pub model: Value,
    pub dtype: &'static str,
    /// One adapter each. lorhai trains several side by side, the peer one after another.
    pub ranks: &'static [i64],
    pub rows: usize,
    pub time: usize,
    /// The fraction of each row, at its end, that has labels.
    pub labelled: f64,
    pub dropout: f64,
    pub steps_per_round: usize,
    /// "cpu" or "cuda".
    pub device: &'static str,
    pub gradient_checkpointing: bool,
}

const RANKS: &[i64] = &[2, 4, 8, 16, 32, 64];

impl Case {
    pub fn settings(&self) -> String {
        let Case { dtype, ranks, rows, time, labelled, dropout, .. } = self;
        let recompute = if self.gradient_checkpointing { ", gradient checkpointing" } else { "" };
        format!(
            "{dtype}, ranks {ranks:?}, {rows}×{time} tokens each, {labelled} labelled, dropout {dropout}{recompute}"
        )
    }

    pub fn tokens(&self) -> usize {
        self.ranks.len() * self.rows * self.time
    }

    /// Operations of a step in the matrices of the base, two for each multiplication and
    /// addition: forward, and backward only to the inputs, since the base is frozen.
    pub fn matrix_flops(&self) -> lorhai::Result<f64> {
        let config = lorhai::model::Config::from_json(&self.model)?;
        let linear = lorhai::model::shapes::linear_shapes(&config);
        let parameters: i64 = linear.iter().map(|shape| shape.in_features * shape.out_features).sum();
        Ok(4.0 * parameters as f64 * self.tokens() as f64)
    }
}

fn case(
    name: &'static str,
    model: &Value,
    dtype: &'static str,
    ranks: &'static [i64],
    [rows, time]: [usize; 2],
) -> Case {
    Case {
        name,
        model: model.clone(),
        dtype,
        ranks,
        rows,
        time,
        labelled: 1.0,
        dropout: 0.0,
        steps_per_round: 1,
        device: "cpu",
        gradient_checkpointing: false,
    }
}

pub fn cases() -> Vec<Case> {
    let small = qwen2(64, 160, 3, [4, 2], 512, true);
    let middle = qwen2(512, 1408, 8, [8, 2], 32_000, true);
    let half_billion = qwen2(896, 4864, 24, [14, 2], 151_936, true);
    let half = |name| case(name, &half_billion, "bf16", &[16], [2, 256]);
    vec![
        Case { steps_per_round: 20, ..case("small sweep", &small, "f32", RANKS, [4, 64]) },
        Case { steps_per_round: 20, dropout: 0.05, ..case("small sweep with dropout", &small, "f32", RANKS, [4, 64]) },
        Case { steps_per_round: 20, ..case("small single", &small, "f32", &[16], [4, 64]) },
        Case { steps_per_round: 2, ..case("middle sweep f32", &middle, "f32", RANKS, [1, 64]) },
        Case { steps_per_round: 2, ..case("middle sweep bf16", &middle, "bf16", RANKS, [1, 64]) },
        half("0.5B single bf16"),
        Case { labelled: 0.25, ..half("0.5B single bf16, a quarter labelled") },
        Case { gradient_checkpointing: true, ..half("0.5B single bf16, gradient checkpointing") },
    ]
}

/// Single runs, whose threads wait for one another: `make bench-busy`.
pub fn busy_cases() -> Vec<Case> {
    let small = qwen2(64, 160, 3, [4, 2], 512, true);
    let stories = qwen2(64, 172, 5, [8, 4], 512, true);
    let middle = qwen2(512, 1408, 8, [8, 2], 32_000, true);
    let half_billion = qwen2(896, 4864, 24, [14, 2], 151_936, true);
    let auto = device::dtype_name(device::cpu_dtype(false, processor::multiplies_bf16()));
    vec![
        Case { steps_per_round: 40, ..case("small single", &small, "f32", &[16], [4, 64]) },
        Case { steps_per_round: 20, ..case("stories260K's shape", &stories, "f32", &[8], [8, 128]) },
        Case { steps_per_round: 2, ..case("middle single", &middle, auto, &[16], [1, 64]) },
        case("0.5B single", &half_billion, auto, &[16], [1, 64]),
    ]
}

/// Sixteen adapters.
const SIXTEEN: &[i64] = &[4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 32];

/// For a GPU: `make bench-gpu`. Cases of one model follow one another, so that its weights are made once. `make gpu-check`
/// runs those with "K=" in their names.
pub fn gpu_cases() -> Vec<Case> {
    let half_billion = qwen2(896, 4864, 24, [14, 2], 151_936, true);
    let one_and_a_half = qwen2(1536, 8960, 28, [12, 2], 151_936, true);
    let seven = qwen2(3584, 18_944, 28, [28, 4], 152_064, false);
    let gpu = |case: Case| Case { device: "cuda", steps_per_round: 3, ..case };
    let bf16 = |name, model, ranks, shape| gpu(case(name, model, "bf16", ranks, shape));
    vec![
        bf16("gpu 0.5B K=1, 1×1024", &half_billion, &[16], [1, 1024]),
        bf16("gpu 0.5B K=6, 1×1024", &half_billion, RANKS, [1, 1024]),
        bf16("gpu 0.5B K=16, 1×1024", &half_billion, SIXTEEN, [1, 1024]),
        bf16("gpu 0.5B single, 4×1024", &half_billion, &[16], [4, 1024]),
        bf16("gpu 1.5B sweep", &one_and_a_half, RANKS, [1, 1024]),
        bf16("gpu 1.5B single", &one_and_a_half, &[16], [8, 1024]),
        bf16("gpu 7B K=1, 8×1024", &seven, &[16], [8, 1024]),
        bf16("gpu 7B K=6, 1×1024", &seven, RANKS, [1, 1024]),
        bf16("gpu 7B K=16, 1×512", &seven, SIXTEEN, [1, 512]),
        Case {
            gradient_checkpointing: true,
            ..bf16("gpu 7B single, gradient checkpointing", &seven, &[16], [8, 1024])
        },
    ]
}

/// The same cases over few numbers, for a machine that is to run them, not to be measured.
pub fn tiny(cases: Vec<Case>) -> Vec<Case> {
    let (tied, untied) = (qwen2(64, 160, 2, [4, 2], 512, true), qwen2(64, 160, 2, [4, 2], 512, false));
    let tiny = |case: Case| {
        let is_tied = case.model["tie_word_embeddings"] == true;
        Case { model: if is_tied { tied.clone() } else { untied.clone() }, time: 32, steps_per_round: 1, ..case }
    };
    cases.into_iter().map(tiny).collect()
}

/// How the cost of a step grows: each case doubles one thing. `make bench-growth`.
pub fn growth_cases() -> Vec<Case> {
    let model = |width: i64, layers: i64| qwen2(width, width * 11 / 4, layers, [width / 64, 2], 8192, true);
    let small = model(256, 4);
    let grown =
        |name, model: &Value, ranks, shape| Case { steps_per_round: 5, ..case(name, model, "f32", ranks, shape) };
    let in_bf16 = |case| Case { dtype: "bf16", ..case };
    vec![
        grown("growth: rank 8, K 1, 2×64 tokens, width 256, 4 layers", &small, &[8], [2, 64]),
        grown("growth: rank 16", &small, &[16], [2, 64]),
        grown("growth: rank 32", &small, &[32], [2, 64]),
        grown("growth: rank 64", &small, &[64], [2, 64]),
        grown("growth: rank 128", &small, &[128], [2, 64]),
        grown("growth: K 2", &small, &[8, 8], [2, 64]),
        grown("growth: K 4", &small, &[8, 8, 8, 8], [2, 64]),
        grown("growth: K 8", &small, &[8, 8, 8, 8, 8, 8, 8, 8], [2, 64]),
        grown("growth: 4×64 tokens", &small, &[8], [4, 64]),
        grown("growth: 8×64 tokens", &small, &[8], [8, 64]),
        grown("growth: 1×512 tokens", &small, &[8], [1, 512]),
        grown("growth: 8 layers", &model(256, 8), &[8], [2, 64]),
        grown("growth: width 512", &model(512, 4), &[8], [2, 64]),
        grown("growth: width 1024", &model(1024, 4), &[8], [2, 64]),
        // Which dtype "auto" should choose.
        in_bf16(grown("growth: bf16", &small, &[8], [2, 64])),
        in_bf16(grown("growth: K 8 in bf16", &small, &[8, 8, 8, 8, 8, 8, 8, 8], [2, 64])),
        in_bf16(grown("growth: 1×512 tokens in bf16", &small, &[8], [1, 512])),
        in_bf16(grown("growth: width 512 in bf16", &model(512, 4), &[8], [2, 64])),
        in_bf16(grown("growth: width 1024 in bf16", &model(1024, 4), &[8], [2, 64])),
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
