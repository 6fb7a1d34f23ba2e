"""What transformers makes of small config.json files: `python generate.py` writes golden.json beside this file.

Every case is one family's small configuration (`small`) with `changes` and without the keys in `drop`: set to null,
spelt twice with different values. `resolved` holds what is then other than `usual`, what `small` itself comes to.
The model is built on the meta device, so defaults may be as large as they are. A case that transformers refuses, or
whose forward pass fails, has `error` in the place of `resolved`.
"""

import json
import os
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).parent
DROP = object()  # leaves the key out

SMALL = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}
FAMILIES = ["llama", "mistral", "qwen2", "qwen3"]
LONG = {"short_factor": [1.0 + i / 8 for i in range(8)], "long_factor": [2.0 + i for i in range(8)]}


def yarn(**more) -> dict:
    return {"rope_type": "yarn", "factor": 4.0} | more


# For every family: what is changed in SMALL.
EVERYWHERE = (
    [{key: DROP} for key in SMALL]
    + [{key: None} for key in SMALL]
    + [
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_scaling": {"type": "dynamic", "rope_type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}},
        {"rope_scaling": None, "rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        {"rope_scaling": {}, "rope_parameters": {"rope_type": "linear", "factor": 2.0}},
        {
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
            "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 300.0},
        },
        {
            "rope_scaling": {"rope_type": "unheard_of"},
            "rope_parameters": {"rope_type": "default", "rope_theta": 300.0},
        },
        {
            "rope_scaling": {"rope_type": "default"},
            "rope_parameters": {"rope_type": "unheard_of", "rope_theta": 300.0},
        },
        {"rope_parameters": {"rope_theta": 300.0}},
        {"rope_parameters": {"rope_type": "default"}, "rope_theta": DROP},
        {"rope_parameters": {"rope_type": "default", "rope_theta": None}},
        {"rope_scaling": {"factor": 3.0}},
        {"rope_scaling": {"rope_type": None, "type": "linear", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "linear"}},
        {"rope_scaling": {"rope_type": "mrope", "mrope_section": [2, 2, 4]}},
        {"rope_scaling": yarn()},
        {"rope_scaling": yarn(original_max_position_embeddings=16)},
        {"rope_scaling": yarn(), "original_max_position_embeddings": 16},
        {"rope_scaling": yarn(original_max_position_embeddings=32), "original_max_position_embeddings": 16},
        {"rope_scaling": yarn(original_max_position_embeddings=16, factor=None)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, attention_factor=0.7)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, mscale=0.5, mscale_all_dim=0.9)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, mscale=0.5)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, beta_fast=4, beta_slow=2)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, beta_fast=None, beta_slow=0)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, truncate=False)},
        {"rope_scaling": yarn(original_max_position_embeddings=16, truncate=None)},
        {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        {"rope_scaling": {"rope_type": "longrope"} | LONG},
        {"rope_scaling": {"rope_type": "longrope", "original_max_position_embeddings": 16} | LONG},
        {"rope_scaling": {"rope_type": "longrope"} | LONG, "original_max_position_embeddings": 16},
        {"rope_scaling": {"rope_type": "longrope", "factor": 8.0} | LONG},
        {"rope_scaling": {"rope_type": "longrope", "attention_factor": 1.5} | LONG},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}},
        {
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            "original_max_position_embeddings": 32,
        },
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}},
        {"rope_scaling": {"rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.5}},
        {"partial_rotary_factor": 0.5},
        {"partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0}}},
        {"dtype": "float16", "torch_dtype": "bfloat16"},
        {"torch_dtype": "bfloat16"},
        {"dtype": None, "torch_dtype": "bfloat16"},
        {"hidden_act": "gelu"},
        {"hidden_act": "unheard_of"},
        {"hidden_act": DROP, "hidden_activation": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"sliding_window": 5},
        {"sliding_window": None},
        {"sliding_window": 5, "use_sliding_window": True},
        {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
        {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 0},
        {"sliding_window": None, "use_sliding_window": True, "max_window_layers": 0},
        {"use_sliding_window": True, "max_window_layers": 0},
        {"sliding_window": 5, "use_sliding_window": False, "max_window_layers": 0},
        {
            "sliding_window": 5,
            "use_sliding_window": True,
            "max_window_layers": 0,
            "layer_types": ["full_attention", "sliding_attention"],
        },
        {"sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"]},
        {"sliding_window": 5, "use_sliding_window": True, "layer_types": ["full_attention"]},
        {"sliding_window": 5, "use_sliding_window": True, "layer_types": ["attention", "sliding_attention"]},
        {"sliding_window": 5, "use_sliding_window": True, "layer_types": ["chunked_attention", "full_attention"]},
        {"num_key_value_heads": 3},
    ]
)


def configuration(family: str, changes: dict) -> dict:
    config = {"model_type": family} | SMALL | changes
    return {key: value for key, value in config.items() if value is not DROP}


def frequencies(rotary) -> dict:
    """A few of the frequencies, and what cosines and sines are multiplied by."""
    values = rotary.inv_freq.float()
    at = sorted({0, 1, len(values) // 2, len(values) - 1})
    return {"at": at, "inv_freq": [float(f"{float(values[i]):.9g}") for i in at], "attention_scaling": float(rotary.attention_scaling)}


def resolve(config: dict) -> dict:
    """What the model that transformers builds of it is like."""
    path = HERE / "config.json"
    path.write_text(json.dumps(config))
    try:
        read = AutoConfig.from_pretrained(HERE)
    finally:
        path.unlink()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(read)
    layers = model.model.layers
    names = {name for name, _ in model.named_parameters()}
    count = sum(weight.numel() for weight in model.parameters())
    if count < 1_000_000:
        # A mask or a rotation that cannot be made shows in a forward pass alone.
        AutoModelForCausalLM.from_config(read)(torch.arange(6)[None])
    rotary = type(model.model.rotary_emb)(read)
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in layers]
    if read.model_type == "mistral":
        windows = [read.sliding_window] * len(layers)
    return {
        "parameters": count,
        "vocab_size": read.vocab_size,
        "hidden_size": read.hidden_size,
        "intermediate_size": read.intermediate_size,
        "num_hidden_layers": len(layers),
        "num_attention_heads": read.num_attention_heads,
        "num_key_value_heads": read.num_key_value_heads,
        "head_dim": layers[0].self_attn.head_dim,
        "max_position_embeddings": read.max_position_embeddings,
        "rms_norm_eps": read.rms_norm_eps,
        "tie_word_embeddings": bool(read.tie_word_embeddings),
        "hidden_act": read.hidden_act,
        "qkv_bias": "model.layers.0.self_attn.q_proj.bias" in names,
        "o_bias": "model.layers.0.self_attn.o_proj.bias" in names,
        "mlp_bias": "model.layers.0.mlp.up_proj.bias" in names,
        "windows": sorted(set(windows), key=str) if len(set(windows)) == 1 else windows,
        "dtype": None if read.dtype is None else str(read.dtype).removeprefix("torch."),
        "rope": frequencies(rotary),
    }


def without_usual(resolved: dict, usual: dict) -> dict:
    """What a change made of the configuration that is SMALL otherwise."""
    return {key: value for key, value in resolved.items() if value != usual[key]}


def main() -> None:
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    cases = []
    usuals = {}
    for family in FAMILIES:
        usual = usuals[family] = resolve(configuration(family, {}))
        for changes in EVERYWHERE:
            config = configuration(family, changes)
            shown = {key: value for key, value in changes.items() if value is not DROP}
            case = {"family": family, "changes": shown, "drop": [key for key in changes if key not in shown]}
            try:
                case["resolved"] = without_usual(resolve(config), usual)
            except Exception as error:  # whatever transformers raises, it refuses
                case["error"] = type(error).__name__
            cases.append(case)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    lines = ",\n".join(json.dumps(case) for case in cases)
    (HERE / "golden.json").write_text(f'{{"versions": {json.dumps(versions)}, "small": {json.dumps(SMALL)},\n"usual": {json.dumps(usuals)},\n"cases": [\n{lines}\n]}}\n')
    print(len(cases), "cases,", sum("error" in case for case in cases), "refused")


if __name__ == "__main__":
    main()
