"""The families that the harness knows: what their random configurations are made of.

A configuration begins as `base`, arguments of the family's configuration class in transformers, and takes one value of
every axis, in their order. A value is what it changes, or a function from the configuration so far to that. A seeded draw
(`draw.py`) brings every value of every axis into at least one configuration. `SHAPES` are the axes that change what the
weights look like; of every other axis the harness checks that its values give different logits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

Config = dict
Value = dict | Callable[[Config], dict]

# Settings that llama.cpp may not have: GGUF files are then made of the same weights under the first value of each axis.
NOT_IN_GGUF = {"activation", "rope"}
SHAPES = {"sizes", "heads", "head size", "head", "experts"}


ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Family:
    """One architecture."""

    name: str  # `model_type` in config.json
    base: Config
    axes: dict[str, list[Value]]
    attention: list[str] = field(default_factory=lambda: list(ATTENTION))
    # Every layer that carries an adapter in lorhai: PEFT's "all-linear" means experts too.
    all_linear: str | list[str] = "all-linear"


def sizes(layers: int, **more) -> Config:
    """What every family has, without special tokens: a tiny vocabulary has no room for the usual ids."""
    base = {"vocab_size": 80, "num_hidden_layers": layers, "max_position_embeddings": 64}
    return base | {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None} | more


def head_dim(config: Config) -> int:
    """The size of a head, stated or implied."""
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def rope(kind: str, theta: float = 10000.0, **more) -> Value:
    """A rotation that other settings do not change, beside what earlier axes say of it."""
    return lambda config: {
        "rope_parameters": config.get("rope_parameters", {}) | {"rope_type": kind, "rope_theta": theta, **more}
    }


def longrope(config: Config) -> dict:
    """A factor for each frequency, others for rows above 16 tokens."""
    stated = config.get("rope_parameters", {})
    count = int(head_dim(config) * stated.get("partial_rotary_factor", 1.0)) // 2
    factors = {
        "short_factor": [1.0 + i / 8 for i in range(count)],
        "long_factor": [2.0 + i for i in range(count)],
    }
    parameters = stated | {"rope_type": "longrope", "rope_theta": 500.0, **factors}
    if "original_max_position_embeddings" not in config:
        return {"rope_parameters": parameters | {"original_max_position_embeddings": 16}}
    return {"rope_parameters": parameters, "original_max_position_embeddings": 16}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
LINEAR = rope("linear", factor=4.0)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=16)

SIZES = [{"hidden_size": 24, "intermediate_size": 40}, {"hidden_size": 48, "intermediate_size": 64}]
# With these sizes heads of 4, 6, 8, 12 and 16 channels.
HEADS = [
    {"num_attention_heads": 4, "num_key_value_heads": 2},
    {"num_attention_heads": 4, "num_key_value_heads": 4},
    {"num_attention_heads": 6, "num_key_value_heads": 2},
    {"num_attention_heads": 3, "num_key_value_heads": 1},
]
HEAD_DIM = [{"head_dim": 10}, {"head_dim": 16}]
HEAD = [{"tie_word_embeddings": True}, {"tie_word_embeddings": False}]
EPS = [{"rms_norm_eps": 1e-6}, {"rms_norm_eps": 0.05}]
ACT = [{"hidden_act": "silu"}, {"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}]
ATTENTION_BIAS = [{"attention_bias": False}, {"attention_bias": True}]
MLP_BIAS = [{"mlp_bias": False}, {"mlp_bias": True}]
ROPE = [rope("default"), rope("default", 50.0), LINEAR, YARN, rope("llama3", 500.0, **LLAMA3), longrope]
SHAPE_AXES = {"sizes": SIZES, "heads": HEADS, "head": HEAD}
SHAPE_AXES_WITH_HEAD_DIM = SHAPE_AXES | {"head size": [{}, *HEAD_DIM]}

# Qwen slides from layer `max_window_layers` on, or where `layer_types` says so.
QWEN_WINDOW = [
    {},
    {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    {
        "use_sliding_window": True,
        "sliding_window": 7,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
]
GEMMA_AXES = {
    "activation": [{"hidden_activation": "gelu_pytorch_tanh"}, {"hidden_activation": "silu"}],
    "attention bias": ATTENTION_BIAS,
    "scale of scores": [{"query_pre_attn_scalar": 256}, {"query_pre_attn_scalar": 8}, {"query_pre_attn_scalar": 3}],
}
GEMMA_SHAPE_AXES = SHAPE_AXES | {"head size": [{"head_dim": 8}, *HEAD_DIM]}


def gemma3_rope(local: float, kind: str = "default", theta: float = 10000.0, **more) -> Value:
    """Two rotations: one of the layers with a window, one of the others, which scaling changes."""
    return {
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
            "full_attention": {"rope_type": kind, "rope_theta": theta, **more},
        }
    }


MOE_AXES = {
    "experts": [{"num_experts": 4, "num_experts_per_tok": 2}, {"num_experts": 8, "num_experts_per_tok": 3}],
    "shares": [{"norm_topk_prob": True}, {"norm_topk_prob": False}],
}

FAMILIES = [
    Family(
        "llama",
        sizes(3),
        SHAPE_AXES_WITH_HEAD_DIM
        | {
            "attention bias": ATTENTION_BIAS,
            "mlp bias": MLP_BIAS,
            "activation": ACT,
            "eps": EPS,
            "rope": [*ROPE, lambda config: {"max_position_embeddings": 16} | rope("dynamic", factor=3.0)(config)],
        },
    ),
    Family(
        "mistral",
        sizes(3),
        SHAPE_AXES_WITH_HEAD_DIM
        | {
            "window": [{"sliding_window": None}, {"sliding_window": 4}, {"sliding_window": 9}],
            "activation": ACT,
            "eps": EPS,
            "rope": ROPE,
        },
    ),
    Family(
        "qwen2",
        sizes(3),
        SHAPE_AXES_WITH_HEAD_DIM | {"window": QWEN_WINDOW, "activation": ACT, "eps": EPS, "rope": ROPE},
    ),
    Family(
        "qwen3",
        sizes(3),
        SHAPE_AXES
        | {
            "head size": [{"head_dim": 8}, *HEAD_DIM],
            "attention bias": ATTENTION_BIAS,
            "window": QWEN_WINDOW,
            "activation": ACT,
            "eps": EPS,
            "rope": ROPE,
        },
    ),
    Family(
        "smollm3",
        sizes(4),
        SHAPE_AXES_WITH_HEAD_DIM
        | {
            "attention bias": ATTENTION_BIAS,
            "mlp bias": MLP_BIAS,
            "activation": ACT,
            "eps": EPS,
            "layers without rope": [
                {"no_rope_layer_interval": 4},
                {"no_rope_layer_interval": 2},
                {"no_rope_layers": [1, 1, 1, 1]},
                {"no_rope_layers": [0, 1, 1, 0]},
            ],
            # It slides in the layers without a rotation, or where `layer_types` says so.
            "window": [
                {},
                lambda config: {"use_sliding_window": True, "sliding_window": 5},
                {
                    "use_sliding_window": True,
                    "sliding_window": 4,
                    "layer_types": ["sliding_attention", "full_attention"] * 2,
                },
            ],
            "rope": ROPE,
        },
    ),
    Family(
        "gemma2",
        sizes(4),
        GEMMA_SHAPE_AXES
        | GEMMA_AXES
        | {
            # Caps that a tiny model's numbers reach.
            "cap of scores": [{"attn_logit_softcapping": 2.0}, {"attn_logit_softcapping": None}],
            "cap of logits": [{"final_logit_softcapping": 3.0}, {"final_logit_softcapping": None}],
            "window": [
                {"sliding_window": 5},
                {"sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"] * 2},
                {"sliding_window": 4, "layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
            ],
            "eps": EPS,
            "rope": [rope("default"), rope("default", 50.0), LINEAR],
        },
    ),
    Family(
        "gemma3_text",
        sizes(4),
        GEMMA_SHAPE_AXES
        | GEMMA_AXES
        | {
            "cap of logits": [{"final_logit_softcapping": None}, {"final_logit_softcapping": 3.0}],
            "window": [
                {"sliding_window": 5, "sliding_window_pattern": 2},
                {"sliding_window": 4, "sliding_window_pattern": 3},
                {"sliding_window": 9, "layer_types": ["full_attention", "sliding_attention"] * 2},
            ],
            "eps": EPS,
            "rope": [
                gemma3_rope(10000.0, theta=1e6),
                gemma3_rope(20.0, theta=500.0),
                gemma3_rope(100.0, "linear", 500.0, factor=8.0),
            ],
        },
    ),
    Family(
        "olmo2",
        sizes(3),
        SHAPE_AXES | {"attention bias": ATTENTION_BIAS, "activation": ACT, "eps": EPS, "rope": ROPE},
    ),
    Family(
        "granite",
        sizes(3),
        SHAPE_AXES
        | {
            "attention bias": ATTENTION_BIAS,
            "mlp bias": MLP_BIAS,
            "activation": ACT,
            "eps": EPS,
            "embeddings times": [{"embedding_multiplier": 1.0}, {"embedding_multiplier": 5.0}],
            "logits over": [{"logits_scaling": 1.0}, {"logits_scaling": 4.0}],
            "residual times": [{"residual_multiplier": 1.0}, {"residual_multiplier": 0.3}],
            "scores times": [{"attention_multiplier": 0.4}, {"attention_multiplier": 0.1}, {}],
            "rope": ROPE,
        },
    ),
    Family(
        "phi3",
        sizes(3, original_max_position_embeddings=64),
        {
            "sizes": SIZES,
            # Of the heads of 3 the rotation leaves none out.
            "heads": HEADS[:3],
            "head": HEAD,
            "window": [{"sliding_window": None}, {"sliding_window": 5}, {"sliding_window": 9}],
            "activation": ACT,
            "eps": EPS,
            "rotated share": [{}, {"rope_parameters": {"partial_rotary_factor": 0.5}}],
            "rope": [rope("default"), rope("default", 50.0), longrope],
        },
        attention=["qkv_proj", "o_proj"],
    ),
    Family(
        "qwen3_moe",
        sizes(3, moe_intermediate_size=20),
        SHAPE_AXES
        | {
            "head size": [{"head_dim": 8}, *HEAD_DIM],
            "attention bias": ATTENTION_BIAS,
            "window": QWEN_WINDOW[:3],
            "activation": ACT,
            "eps": EPS,
            "layers without experts": [{}, {"mlp_only_layers": [1]}, {"decoder_sparse_step": 2}],
            "rope": ROPE,
        }
        | MOE_AXES,
        all_linear=ATTENTION,
    ),
    Family(
        "mixtral",
        sizes(3),
        SHAPE_AXES_WITH_HEAD_DIM
        | {
            "window": [{"sliding_window": None}, {"sliding_window": 4}],
            "activation": ACT,
            "eps": EPS,
            "experts": [
                {"num_local_experts": 4, "num_experts_per_tok": 2},
                {"num_local_experts": 8, "num_experts_per_tok": 3},
            ],
            "rope": ROPE[:3],
        },
        all_linear=ATTENTION,
    ),
]
BY_NAME = {family.name: family for family in FAMILIES}
