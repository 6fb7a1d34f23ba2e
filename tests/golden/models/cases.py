"""The tables of tiny models: what each case is meant to catch.

Only data lives here; `tiny.py` builds the models, `golden.py` measures them, `generate.py` writes the files.
`config` holds the arguments of the transformers configuration class, `lora` those of PEFT's `LoraConfig`.
"""

from dataclasses import dataclass, field

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ATTENTION = SEVEN[:4]


@dataclass
class Case:
    """One folder of golden files."""

    name: str
    family: str  # a key of CONFIG_CLASSES in tiny.py
    about: str
    config: dict
    lora: dict  # empty: full-parameter training
    classic: bool  # config.json as transformers 4 wrote it (rope_theta, rope_scaling, torch_dtype)
    schedule: str = "linear"  # linear | cosine
    lr: float = 5e-3
    lengths: list[int] = field(default_factory=lambda: [16, 11, 7])  # ids per row of the measured batch
    shards: bool = False
    omit: list[str] = field(default_factory=list)  # keys left out of config.json, as in older checkpoints
    legacy_rope_type: bool = False  # `type` in place of `rope_type` inside rope_scaling
    dtype: str = "float32"  # of the stored base
    spare_norms: bool = False  # full-parameter training without weight decay on norms and biases
    contrast: dict = field(default_factory=dict)  # settings under test: without them the logits must differ
    other_head: bool = False  # a head that is not the embedding, beside a configuration that ties them


def shape(**over) -> dict:
    """Sizes shared by most cases: about 20,000 weights, 80 KB in f32."""
    base = {
        "vocab_size": 80,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }
    return base | over


def rope(kind: str, theta: float, **more) -> dict:
    """The `rope_parameters` entry of a configuration."""
    return {"rope_type": kind, "rope_theta": theta, **more}


DEFAULT_ROPE = rope("default", 10000.0)
LLAMA3_ROPE = rope(
    "llama3",
    500000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)

CASES = [
    Case(
        name="qwen2_tied",
        family="qwen2",
        about="Qwen2, tied head, biases on q, k, v; seven targets by list",
        config=shape(
            tie_word_embeddings=True, vocab_size=96, intermediate_size=64, rope_parameters=rope("default", 1e6)
        ),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
    ),
    Case(
        name="qwen2_untied_gqa",
        family="qwen2",
        about="Qwen2, untied head, 2 key-value heads for 4 query heads; all-linear, r 8, cosine",
        config=shape(vocab_size=96),
        lora={"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        classic=False,
        schedule="cosine",
    ),
    Case(
        name="qwen2_mha",
        family="qwen2",
        about="Qwen2, as many key-value heads as query heads, 3 layers; q and v, r 2, alpha a float",
        config=shape(num_key_value_heads=4, num_hidden_layers=3, intermediate_size=40, vocab_size=64),
        lora={"r": 2, "lora_alpha": 4.5, "target_modules": ["q_proj", "v_proj"]},
        classic=True,
        lr=1e-2,
    ),
    Case(
        name="qwen2_sharded",
        family="qwen2",
        about="Qwen2 in two shards with an index; attention only",
        config=shape(tie_word_embeddings=True),
        lora={"r": 2, "lora_alpha": 8, "target_modules": ATTENTION},
        classic=False,
        schedule="cosine",
        shards=True,
    ),
    Case(
        name="qwen2_window",
        family="qwen2",
        about="Qwen2 with use_sliding_window: full attention in layer 0, a window of 5 in layer 1",
        config=shape(use_sliding_window=True, sliding_window=5, max_window_layers=1),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ATTENTION},
        classic=True,
        contrast={"use_sliding_window": False, "layer_types": None},
    ),
    Case(
        name="llama_tied",
        family="llama",
        about="Llama, tied head, config.json without num_key_value_heads and head_dim; r 1",
        config=shape(tie_word_embeddings=True, num_key_value_heads=4, rms_norm_eps=1e-5),
        lora={"r": 1, "lora_alpha": 2, "target_modules": SEVEN},
        classic=True,
        omit=["num_key_value_heads", "head_dim", "attention_bias", "mlp_bias", "rope_scaling"],
        schedule="cosine",
        lr=1e-2,
    ),
    Case(
        name="llama_untied_gqa",
        family="llama",
        about="Llama, untied head, 1 key-value head for 4 query heads; targets by regular expression, rsLoRA",
        config=shape(num_key_value_heads=1),
        lora={
            "r": 4,
            "lora_alpha": 6,
            "use_rslora": True,
            "target_modules": r"model\.layers\.\d+\.(self_attn\.(q|o)_proj|mlp\.(gate|down)_proj)",
        },
        classic=False,
    ),
    Case(
        name="llama3_rope",
        family="llama",
        about="Llama 3.1 rope scaling with all three bands (kept, blended, divided); rank_pattern and alpha_pattern",
        config=shape(
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            rope_parameters=LLAMA3_ROPE,
        ),
        lora={
            "r": 4,
            "lora_alpha": 8,
            "target_modules": SEVEN,
            "rank_pattern": {"q_proj": 6, "layers.1.self_attn.k_proj": 1, r"layers\.0\..*(up|gate)_proj": 2},
            "alpha_pattern": {"o_proj": 24, "model.layers.1.mlp.down_proj": 3},
        },
        classic=True,
        lengths=[20, 13, 6],
        contrast={"rope_parameters": rope("default", 500000.0)},
    ),
    Case(
        name="llama3_rope_new",
        family="llama",
        about="Llama 3.1 rope scaling in the configuration form of transformers 5; rank_pattern with rsLoRA",
        config=shape(
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            vocab_size=64,
            rope_parameters=LLAMA3_ROPE,
        ),
        lora={
            "r": 4,
            "lora_alpha": 8,
            "use_rslora": True,
            "target_modules": "all-linear",
            "rank_pattern": {"down_proj": 2},
            "alpha_pattern": {r"layers\.0\.self_attn\..*": 5},
        },
        classic=False,
        lengths=[20, 13, 6],
        schedule="cosine",
        contrast={"rope_parameters": rope("default", 500000.0)},
    ),
    Case(
        name="llama_linear_rope",
        family="llama",
        about="Llama with linear rope scaling under the old key `type`; layers_to_transform as a list",
        config=shape(rope_parameters=rope("linear", 10000.0, factor=2.5)),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN, "layers_to_transform": [1]},
        classic=True,
        legacy_rope_type=True,
        contrast={"rope_parameters": DEFAULT_ROPE},
    ),
    Case(
        name="llama_head_dim",
        family="llama",
        about="Llama with head_dim 12, not hidden/heads; all-linear without two excluded modules, 3 layers",
        config=shape(head_dim=12, num_hidden_layers=3, intermediate_size=32, vocab_size=64),
        lora={
            "r": 4,
            "lora_alpha": 4,
            "target_modules": "all-linear",
            "exclude_modules": ["o_proj", "layers.1.mlp.down_proj"],
        },
        classic=False,
        schedule="cosine",
    ),
    Case(
        name="llama_bias",
        family="llama",
        about="Llama with attention_bias and mlp_bias; exclude_modules as a regular expression",
        config=shape(attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
        lora={"r": 4, "lora_alpha": 16, "target_modules": SEVEN, "exclude_modules": r".*layers\.0\.mlp\..*"},
        classic=True,
    ),
    Case(
        name="qwen3_tied",
        family="qwen3",
        about="Qwen3, tied head, norms on q and k, head_dim 16; one layer by layers_to_transform as an integer",
        config=shape(head_dim=16, tie_word_embeddings=True, intermediate_size=32, vocab_size=64),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN, "layers_to_transform": 0, "layers_pattern": "layers"},
        classic=False,
    ),
    Case(
        name="qwen3_untied_gqa",
        family="qwen3",
        about="Qwen3, untied head, 2 key-value heads for 4 query heads, 3 layers; seven targets",
        config=shape(head_dim=8, num_hidden_layers=3, intermediate_size=32, vocab_size=64),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
        schedule="cosine",
    ),
    Case(
        name="mistral",
        family="mistral",
        about="Mistral, sliding_window null; seven targets",
        config=shape(sliding_window=None),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
    ),
    Case(
        name="mistral_window",
        family="mistral",
        about="Mistral with a sliding window of 4, shorter than the rows; up and down projections",
        config=shape(sliding_window=4, head_dim=8),
        lora={"r": 4, "lora_alpha": 8, "target_modules": ["up_proj", "down_proj"]},
        classic=False,
        contrast={"sliding_window": None},
    ),
]

# Small: what they test does not depend on sizes.
TINY = {"vocab_size": 40, "intermediate_size": 24}
CASES += [
    Case(
        name="llama_yarn",
        family="llama",
        about="Llama with yarn: mscale, betas, an original context and a passage that is not truncated",
        config=shape(
            **TINY,
            head_dim=16,
            rope_parameters=rope(
                "yarn",
                10000.0,
                factor=4.0,
                original_max_position_embeddings=16,
                beta_fast=8.0,
                beta_slow=0.5,
                mscale=1.5,
                mscale_all_dim=0.5,
                truncate=False,
            ),
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]},
        classic=True,
        contrast={"rope_parameters": rope("yarn", 10000.0, factor=4.0, original_max_position_embeddings=16)},
    ),
    Case(
        name="qwen2_yarn",
        family="qwen2",
        about="Qwen2 with yarn added by hand as Qwen's documentation has it",
        config=shape(
            **TINY | {"vocab_size": 80},
            rope_parameters=rope("yarn", 100.0, factor=4.0, original_max_position_embeddings=16),
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["k_proj", "gate_proj"]},
        classic=True,
        legacy_rope_type=True,
        contrast={"rope_parameters": rope("default", 100.0)},
    ),
    Case(
        name="llama_dynamic",
        family="llama",
        about="Llama with dynamic scaling, a batch longer than its positions; relu",
        config=shape(
            **TINY, hidden_act="relu", max_position_embeddings=12, rope_parameters=rope("dynamic", 10000.0, factor=8.0)
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "down_proj"]},
        classic=False,
        contrast={"rope_parameters": DEFAULT_ROPE},
    ),
    Case(
        name="qwen3_longrope",
        family="qwen3",
        about="Qwen3 with longrope, a batch longer than the original context; the training batches are shorter; gelu by tanh",
        config=shape(
            **TINY,
            head_dim=8,
            hidden_act="gelu_pytorch_tanh",
            rope_parameters=rope(
                "longrope",
                10000.0,
                short_factor=[1.0, 1.1, 1.2, 1.3],
                long_factor=[2.0, 3.0, 4.0, 5.0],
                original_max_position_embeddings=12,
            ),
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"]},
        classic=True,
        contrast={"rope_parameters": rope("linear", 10000.0, factor=1.0)},
    ),
    Case(
        name="llama_other_head",
        family="llama",
        about="Llama whose configuration ties a head that the checkpoint has of its own; gelu",
        config=shape(**TINY, tie_word_embeddings=True, hidden_act="gelu"),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["o_proj", "lm_head"]},
        classic=False,
        other_head=True,
        contrast={"hidden_act": "silu"},
    ),
]

# The families that differ from Llama in their layers.
FUSED = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
GEMMA = {"head_dim": 8, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 5, "query_pre_attn_scalar": 12}
LOCAL_ROPE = {
    "full_attention": rope("linear", 1000.0, factor=2.0),
    "sliding_attention": rope("default", 100.0),
}
LONG_ROPE = rope(
    "longrope", 10000.0, short_factor=[1.0, 1.1, 1.2], long_factor=[2.0, 3.0, 4.0], partial_rotary_factor=0.75
)
CASES += [
    Case(
        name="smollm3_window",
        family="smollm3",
        about="SmolLM3, tied: the second of three layers without rotary embedding and with a window of 5",
        config=shape(
            num_hidden_layers=3,
            tie_word_embeddings=True,
            no_rope_layers=[1, 0, 1],
            use_sliding_window=True,
            sliding_window=5,
            pad_token_id=0,
        ),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=False,
        contrast={"use_sliding_window": False, "layer_types": ["full_attention"] * 3, "no_rope_layers": [1, 1, 1]},
    ),
    Case(
        name="smollm3_biases",
        family="smollm3",
        about="SmolLM3, untied, with biases; every second layer without rotary embedding, by the interval",
        config=shape(**TINY, no_rope_layer_interval=2, attention_bias=True, mlp_bias=True, pad_token_id=0),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["k_proj", "up_proj"]},
        classic=True,
        omit=["no_rope_layers"],
        schedule="cosine",
        contrast={"no_rope_layers": [1, 1]},
    ),
    Case(
        name="gemma2_capped",
        family="gemma2",
        about="Gemma 2, tied: low caps on scores and logits, a window of 5 in layer 0, a query scale of its own",
        config=shape(
            **GEMMA,
            tie_word_embeddings=True,
            attn_logit_softcapping=1.5,
            final_logit_softcapping=3.0,
            rope_parameters=rope("default", 100.0),
        ),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
        contrast={"attn_logit_softcapping": 50.0},
    ),
    Case(
        name="gemma2_plain",
        family="gemma2",
        about="Gemma 2, untied, without caps, with biases of attention and as many key-value heads as heads",
        config=shape(
            **TINY,
            **GEMMA,
            num_key_value_heads=4,
            attention_bias=True,
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": "all-linear"},
        classic=False,
        contrast={"query_pre_attn_scalar": 8},
    ),
    Case(
        name="gemma3_local",
        family="gemma3_text",
        about="Gemma 3, tied: other rotations in layers with a window, scaled ones in the others, norms on q and k",
        config=shape(**GEMMA, num_hidden_layers=3, tie_word_embeddings=True, rope_parameters=LOCAL_ROPE)
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=False,
        contrast={"rope_parameters": LOCAL_ROPE | {"sliding_attention": rope("default", 1000.0)}},
    ),
    Case(
        name="olmo2",
        family="olmo2",
        about="OLMo 2: norms behind attention and MLP, queries and keys normalised over all heads",
        config=shape(num_hidden_layers=3, intermediate_size=40, pad_token_id=0, eos_token_id=1),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
        schedule="cosine",
    ),
    Case(
        name="granite",
        family="granite",
        about="Granite, tied: multipliers of embeddings, residual stream, scores and logits; biases",
        config=shape(
            tie_word_embeddings=True,
            attention_bias=True,
            embedding_multiplier=3.0,
            residual_multiplier=0.4,
            attention_multiplier=0.2,
            logits_scaling=0.5,
        ),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
        contrast={"residual_multiplier": 1.0},
    ),
    Case(
        name="phi3_partial",
        family="phi3",
        about="Phi-3: fused projections, half of each head rotated, a window of 5",
        config=shape(
            pad_token_id=0,
            sliding_window=5,
            rope_parameters=rope("default", 100.0, partial_rotary_factor=0.5),
        ),
        lora={"r": 4, "lora_alpha": 8, "target_modules": FUSED},
        classic=False,
        contrast={"rope_parameters": rope("default", 100.0, partial_rotary_factor=1.0)},
    ),
    Case(
        name="phi3_longrope",
        family="phi3",
        about="Phi-4: longrope of three quarters of a head, a batch longer than the original context; tied",
        config=shape(
            **TINY,
            pad_token_id=0,
            tie_word_embeddings=True,
            original_max_position_embeddings=12,
            rope_parameters=LONG_ROPE,
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["qkv_proj", "down_proj"]},
        classic=True,
        contrast={"rope_parameters": LONG_ROPE | {"long_factor": [1.0, 1.1, 1.2]}},
    ),
]

# Mixtures of experts: adapters lie on attention.
CASES += [
    Case(
        name="qwen3_moe",
        family="qwen3_moe",
        about="Qwen3-MoE: an MLP in layer 0, 5 experts in the others, two for each token with normalised weights",
        config=shape(
            **TINY,
            head_dim=8,
            num_hidden_layers=3,
            num_experts=5,
            num_experts_per_tok=2,
            moe_intermediate_size=16,
            norm_topk_prob=True,
            mlp_only_layers=[0],
        ),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ATTENTION},
        classic=True,
        contrast={"norm_topk_prob": False},
    ),
    Case(
        name="mixtral",
        family="mixtral",
        about="Mixtral: 4 experts, two for each token; a window of 5",
        config=shape(**TINY, num_local_experts=4, num_experts_per_tok=2, sliding_window=5),
        lora={"r": 2, "lora_alpha": 4, "target_modules": ATTENTION},
        classic=False,
        contrast={"num_experts_per_tok": 1},
    ),
]

BF16_CASES = [
    Case(
        name="gemma3_bf16",
        family="gemma3_text",
        about="Gemma 3 stored in bf16: scaled embeddings and norms that round as transformers rounds",
        config=shape(**TINY, **GEMMA, rope_parameters=LOCAL_ROPE, tie_word_embeddings=True),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=False,
        dtype="bfloat16",
    ),
    Case(
        name="qwen2_f16",
        family="qwen2",
        about="Qwen2 stored in f16 under an f32 adapter, trained with a scaled loss",
        config=shape(**TINY),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
        dtype="float16",
    ),
    Case(
        name="qwen2_bf16",
        family="qwen2",
        about="Qwen2 stored in bf16 under an f32 adapter",
        config=shape(intermediate_size=64, vocab_size=64),
        lora={"r": 4, "lora_alpha": 8, "target_modules": SEVEN},
        classic=True,
        dtype="bfloat16",
    ),
]

FULL_CASES = [
    Case(
        name="full_gemma3",
        family="gemma3_text",
        about="every weight of a Gemma 3 trained, norms around zero, tied head",
        config=shape(
            **GEMMA, intermediate_size=32, vocab_size=56, tie_word_embeddings=True, rope_parameters=LOCAL_ROPE
        ),
        lora={},
        classic=False,
        lr=2e-3,
    ),
    Case(
        name="full_phi3",
        family="phi3",
        about="every weight of a Phi-3 trained, untied head",
        config=shape(
            intermediate_size=32,
            vocab_size=56,
            pad_token_id=0,
            rope_parameters=rope("default", 100.0, partial_rotary_factor=0.5),
        ),
        lora={},
        classic=False,
        lr=2e-3,
        spare_norms=True,
    ),
    Case(
        name="full_qwen2_tied",
        family="qwen2",
        about="every weight trained, tied head, weight decay on all of them",
        config=shape(tie_word_embeddings=True, intermediate_size=40, vocab_size=56),
        lora={},
        classic=True,
        lr=2e-3,
    ),
    Case(
        name="full_llama_untied",
        family="llama",
        about="every weight trained, untied head, no weight decay on norms and biases",
        # A short period, so that the gradients of the key biases are not lost in rounding.
        config=shape(
            intermediate_size=32, vocab_size=56, attention_bias=True, rope_parameters=rope("default", 100.0)
        ),
        lora={},
        classic=False,
        schedule="cosine",
        lr=2e-3,
        spare_norms=True,
    ),
    Case(
        name="full_qwen3_untied",
        family="qwen3",
        about="every weight trained, norms on q and k, untied head, no weight decay on norms",
        config=shape(intermediate_size=32, vocab_size=56, head_dim=8),
        lora={},
        classic=False,
        lr=2e-3,
        spare_norms=True,
    ),
]


@dataclass
class Variant:
    """An adapter of another kind over the base of a case above."""

    name: str
    base: str
    about: str
    lora: dict
    lr: float = 5e-3
    schedule: str = "linear"
    loraplus: float | None = None  # the learning-rate ratio of LoRA+
    lengths: list[int] = field(default_factory=lambda: [16, 11, 7])


VARIANTS = [
    Variant(
        name="dora_qwen2",
        base="qwen2_tied",
        about="DoRA on seven targets, three of them with biases",
        lora={"r": 4, "lora_alpha": 8, "use_dora": True, "target_modules": SEVEN},
    ),
    Variant(
        name="dora_llama",
        base="llama_untied_gqa",
        about="DoRA with rsLoRA, rank_pattern and alpha_pattern, the output head among its targets",
        lora={
            "r": 4,
            "lora_alpha": 6,
            "use_dora": True,
            "use_rslora": True,
            "target_modules": ["q_proj", "down_proj", "lm_head"],
            "rank_pattern": {"q_proj": 6, "layers.1.mlp.down_proj": 1},
            "alpha_pattern": {"down_proj": 3},
        },
        schedule="cosine",
    ),
    Variant(
        name="dora_dropout_llama",
        base="llama_bias",
        about="DoRA with dropout, where the base's product is taken once more, of the dropped input",
        lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.25, "use_dora": True, "target_modules": ["v_proj", "up_proj"]},
    ),
    Variant(
        name="dropout_qwen2",
        base="qwen2_tied",
        about="plain LoRA with dropout",
        lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": ["q_proj", "down_proj"]},
    ),
    Variant(
        name="pissa_qwen2",
        base="qwen2_untied_gqa",
        about="PiSSA: the base is a residual",
        lora={"r": 4, "lora_alpha": 8, "init_lora_weights": "pissa", "target_modules": ATTENTION},
        lr=1e-3,
    ),
    Variant(
        name="pissa_llama",
        base="llama_tied",
        about="PiSSA with dropout and a rank_pattern",
        lora={
            "r": 4,
            "lora_alpha": 4,
            "lora_dropout": 0.2,
            "init_lora_weights": "pissa",
            "target_modules": ["q_proj", "down_proj"],
            "rank_pattern": {"down_proj": 2},
        },
        lr=1e-3,
    ),
    Variant(
        name="olora_qwen2",
        base="qwen2_mha",
        about="OLoRA: the base is a residual",
        lora={"r": 3, "lora_alpha": 3, "init_lora_weights": "olora", "target_modules": ["q_proj", "v_proj"]},
        lr=1e-3,
    ),
    Variant(
        name="olora_llama",
        base="llama_untied_gqa",
        about="OLoRA on an MLP, whose matrices are tall and wide",
        lora={"r": 4, "lora_alpha": 2, "init_lora_weights": "olora", "target_modules": ["up_proj", "down_proj"]},
        lr=1e-3,
        schedule="cosine",
    ),
    Variant(
        name="pissa_dora_llama",
        base="llama_bias",
        about="DoRA over PiSSA's residual base, with dropout",
        lora={
            "r": 4,
            "lora_alpha": 8,
            "lora_dropout": 0.1,
            "use_dora": True,
            "init_lora_weights": "pissa",
            "target_modules": ["k_proj", "gate_proj"],
        },
        lr=1e-3,
    ),
    Variant(
        name="saved_qwen2",
        base="qwen2_tied",
        about="modules_to_save: embeddings and output head, tied in the base, are two copies",
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        lr=2e-3,
    ),
    Variant(
        name="saved_llama",
        base="llama_bias",
        about="modules_to_save: the output head of a tied base, and a layer with a bias that is a target too",
        lora={
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["q_proj", "o_proj"],
            "modules_to_save": ["lm_head", "o_proj"],
        },
        lr=2e-3,
    ),
    Variant(
        name="bias_qwen2",
        base="qwen2_untied_gqa",
        about="bias all: k_proj has one and is no target",
        lora={"r": 4, "lora_alpha": 8, "bias": "all", "target_modules": ["q_proj", "v_proj"]},
    ),
    Variant(
        name="bias_llama",
        base="llama_bias",
        about="bias lora_only, under DoRA",
        lora={"r": 4, "lora_alpha": 8, "bias": "lora_only", "use_dora": True, "target_modules": ["q_proj", "down_proj"]},
    ),
    Variant(
        name="loraplus_qwen2",
        base="qwen2_tied",
        about="LoRA+ over DoRA, biases and a saved module: which of them take the larger rate",
        # Not the bias of k_proj: its gradient is all rounding, which Adam makes large.
        lora={
            "r": 4,
            "lora_alpha": 8,
            "bias": "lora_only",
            "use_dora": True,
            "target_modules": ["q_proj", "down_proj"],
            "modules_to_save": ["lm_head"],
        },
        lr=1e-3,
        loraplus=4.0,
    ),
    Variant(
        name="loraplus_llama",
        base="llama_tied",
        about="LoRA+ with a ratio of 16",
        lora={"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]},
        lr=1e-3,
        schedule="cosine",
        loraplus=16.0,
    ),
    Variant(
        name="embedded_qwen2",
        base="qwen2_tied",
        about="LoRA on embeddings whose weight the head shares: the head stays the base's",
        lora={"r": 3, "lora_alpha": 2, "target_modules": ["q_proj", "embed_tokens"]},
        lr=1e-3,
    ),
    Variant(
        name="embedded_llama",
        base="llama_untied_gqa",
        about="LoRA on embeddings and head, rsLoRA, a rank of their own; norms of two kinds are saved",
        lora={
            "r": 2,
            "lora_alpha": 1,
            "use_rslora": True,
            "rank_pattern": {"embed_tokens": 3},
            "alpha_pattern": {"embed_tokens": 2},
            "target_modules": ["v_proj", "embed_tokens", "lm_head"],
            "modules_to_save": ["post_attention_layernorm", "model.norm"],
        },
        lr=1e-3,
    ),
    Variant(
        name="norms_qwen3",
        base="qwen3_tied",
        about="modules_to_save norm: every module whose name ends so, those of queries and keys too",
        lora={"r": 2, "lora_alpha": 4, "target_modules": ["down_proj"], "modules_to_save": ["norm"]},
        lr=2e-3,
    ),
    Variant(
        name="behind_b_llama",
        base="llama_bias",
        about="lora_bias, with trained biases of the base beside it",
        lora={
            "r": 4,
            "lora_alpha": 6,
            "lora_bias": True,
            "bias": "lora_only",
            "target_modules": ["q_proj", "o_proj", "down_proj"],
        },
        lr=2e-3,
    ),
    Variant(
        name="tokens_qwen2",
        base="qwen2_tied",
        about="trainable_token_indices over a tied weight: the head follows; the head is a target of LoRA as well",
        lora={
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["q_proj", "lm_head"],
            "trainable_token_indices": [5, 90, 9, 40, 41, 42],
        },
        lr=2e-3,
    ),
    Variant(
        name="tokens_llama",
        base="llama_untied_gqa",
        about="trainable_token_indices of embeddings and head, other ones in each",
        lora={
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["q_proj"],
            "trainable_token_indices": {"embed_tokens": [3, 50, 9, 17, 18], "lm_head": [50, 4, 60, 61]},
        },
        lr=2e-3,
    ),
    Variant(
        name="one_copy_qwen2",
        base="qwen2_tied",
        about="ensure_weight_tying: head and embeddings are trained in one copy",
        lora={
            "r": 2,
            "lora_alpha": 4,
            "target_modules": ["q_proj"],
            "modules_to_save": ["embed_tokens"],
            "ensure_weight_tying": True,
        },
        lr=2e-3,
    ),
]
