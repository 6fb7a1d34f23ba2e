"""Builds the tiny random models and their adapters, and saves them in the Hugging Face and PEFT layouts."""

import json
import zlib
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from cases import Case

CONFIG_CLASSES = {
    "qwen2": Qwen2Config,
    "llama": LlamaConfig,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "smollm3": SmolLM3Config,
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3TextConfig,
    "olmo2": Olmo2Config,
    "granite": GraniteConfig,
    "phi3": Phi3Config,
    "qwen3_moe": Qwen3MoeConfig,
    "mixtral": MixtralConfig,
}
WRITTEN_BESIDE = ["generation_config.json", "README.md"]
SHARD_SIZE = "50KB"
# Experts one by one: the grouped products have no f64.
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}


def generator(*key) -> torch.Generator:
    """Random numbers that depend on the key alone, not on which cases were made before."""
    return torch.Generator().manual_seed(zlib.crc32("/".join(map(str, key)).encode()))


def randomise(model: torch.nn.Module, key: str) -> None:
    """Fill every weight so that a wrong norm, bias, head split or rotation shows up in the logits.

    Projections keep the variance of their input, norms lie around 1, and biases are far from 0; the library's own
    initialisation (standard deviation 0.02, biases 0) would leave attention almost uniform and hide mistakes.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator(key, name))
            if "norm" in name:
                # Gemma adds one to the weight.
                weight.copy_((0.0 if "gemma" in model.config.model_type else 1.0) + 0.2 * noise)
            elif name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif "embed" in name or "lm_head" in name:
                weight.copy_(0.3 * noise)
            else:
                # Also of experts, which are stacked.
                weight.copy_(noise / weight.shape[-1] ** 0.5)


def save_base(case: Case, folder: Path) -> None:
    """Write config.json and the weights of a case."""
    config = CONFIG_CLASSES[case.family](**case.config)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **EAGER)
    randomise(model, case.name)
    model = model.to(getattr(torch, case.dtype))
    model.save_pretrained(folder, **({"max_shard_size": SHARD_SIZE} if case.shards else {}))
    remove_extras(folder)
    if case.other_head:
        add_head(folder / "model.safetensors", case)
    if case.classic:
        rewrite_classic(folder / "config.json", case)


def add_head(path: Path, case: Case) -> None:
    """Put an output head beside the embedding that the configuration ties it to."""
    tensors = load_file(path)
    noise = torch.randn(tensors["model.embed_tokens.weight"].shape, generator=generator(case.name, "head"))
    save_file(tensors | {"lm_head.weight": 0.3 * noise}, path, metadata={"format": "pt"})


def rewrite_classic(path: Path, case: Case) -> None:
    """Turn the configuration into the form that transformers 4 wrote."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if case.legacy_rope_type:
        rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.49.0"
    for key in ["layer_types", *case.omit]:
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def remove_extras(folder: Path) -> None:
    """Drop what the libraries write beside the files under test."""
    for name in WRITTEN_BESIDE:
        (folder / name).unlink(missing_ok=True)


def load_base(folder: Path, dtype="float32", attention="eager", **overrides):
    """The base model as stored, with `overrides` of its configuration, ready for evaluation."""
    config = AutoConfig.from_pretrained(folder)
    config = type(config)(**(config.to_dict() | overrides)) if overrides else config
    return AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=getattr(torch, dtype), **EAGER | {"attn_implementation": attention}
    ).eval()


def save_adapter(base, lora: dict, key: str, folder: Path):
    """Wrap `base` in a fresh PEFT adapter with B made random (it would not matter as initialised), and save it."""
    torch.manual_seed(zlib.crc32(key.encode()))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **lora))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=generator(key, name)))
    model.peft_config["default"].base_model_name_or_path = f"tiny/{key}"
    model.save_pretrained(folder)
    remove_extras(folder)
    sort_sets(folder / "adapter_config.json")
    return model


def sort_sets(path: Path) -> None:
    """PEFT writes sets in hash order; sort them so that two runs give the same bytes."""
    config = json.loads(path.read_text())
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
