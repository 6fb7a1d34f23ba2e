"""Builds a drawn model with weights that let every mistake show, and saves it with an adapter of PEFT."""

import json
from pathlib import Path

import torch
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS
from transformers import AutoConfig, AutoModelForCausalLM

from declarations import NOT_IN_GGUF
from draw import Drawn
from tiny import generator, load_base, remove_extras, save_adapter


def build(name: str, config: dict):
    """The model of transformers with its own initial weights."""
    config = AutoConfig.for_model(name, **config)
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    return model.eval()


def load(folder: Path):
    """The model as stored, in f32; experts one after another, which other implementations cannot do in f64."""
    model = load_base(folder)
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    return model


def randomise(model, key: str) -> None:
    """As `tiny.randomise`; norms lie around what they are at first, which is 1, or 0 where the model adds 1.

    Projections keep the variance of their input and biases are far from 0, so that a wrong norm, bias, head split or
    rotation shows in the logits.
    """
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator(key, name))
            if "norm" in name:
                weight.add_(0.2 * noise)
            elif name.endswith("bias") or "embed" in name or "lm_head" in name:
                weight.copy_(0.3 * noise)
            else:
                weight.copy_(noise / weight.shape[-1] ** 0.5)


def save(drawn: Drawn, folder: Path) -> dict:
    """Write the model and its adapter; returns the arguments of the adapter's configuration class."""
    key = f"{drawn.family.name}/{drawn.name}"
    model = build(drawn.family.name, drawn.config())
    randomise(model, key)
    model.save_pretrained(folder)
    remove_extras(folder)
    if drawn.is_classic():
        rewrite_classic(folder / "config.json", drawn.config())
    write_tokenizer(folder, model.config.vocab_size)
    save_plain(drawn, folder)
    lora = drawn.adapter() | {"target_modules": targets(drawn)}
    save_adapter(load(folder), lora, key, folder / "adapter")
    return lora


def save_plain(drawn: Drawn, folder: Path) -> None:
    """`plain/`: the same weights under a configuration that llama.cpp runs, if it runs the family."""
    plain = folder / "plain"
    first = {axis: 0 for axis in drawn.family.axes if axis in NOT_IN_GGUF}
    build(drawn.family.name, drawn.config(first)).config.save_pretrained(plain)
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (plain / name).symlink_to(Path("..") / name)


def targets(drawn: Drawn) -> str | list[str]:
    """The adapter's targets; those of attention where PEFT has none of its own for the family."""
    chosen = drawn.adapter()["target_modules"]
    if chosen is None:
        return PEFT_TARGETS.get(drawn.family.name, drawn.family.attention)
    return {"attention": drawn.family.attention, "all-linear": drawn.family.all_linear}[chosen]


def rewrite_classic(path: Path, arguments: dict) -> None:
    """Turn config.json into the form of transformers 4, which most models on the hub have, and see that it means the same."""
    read = AutoConfig.from_pretrained(path.parent)
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.49.0"
    if "sliding_window_pattern" in arguments:
        config["sliding_window_pattern"] = arguments["sliding_window_pattern"]
    # `layer_types` is younger than most models; it stays where nothing else says the same.
    for attempt in ({key: value for key, value in config.items() if key != "layer_types"}, config):
        path.write_text(json.dumps(attempt, indent=2, sort_keys=True) + "\n")
        again = AutoConfig.from_pretrained(path.parent)
        if getattr(again, "layer_types", None) == getattr(read, "layer_types", None):
            break
    assert again.rope_parameters == read.rope_parameters, f"{path}: {again.rope_parameters}, expected {read.rope_parameters}"


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """A tokenizer of as many characters as the model has ids, for GGUF files; llama.cpp takes none without a merge."""
    characters = [chr(code) for code in (0x10A, 0x120, *range(0x21, 0x7F), *range(0xA1, 0xAC))]
    vocabulary = {"<end>": 0} | {letter: at for at, letter in enumerate(characters[: vocab_size - 2], start=1)}
    vocabulary["()"] = vocab_size - 1
    end = {"id": 0, "content": "<end>", "special": True}
    end |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": ["( )"]}
    model |= dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"))
    tokenizer = {"version": "1.0", "added_tokens": [end], "pre_tokenizer": level, "decoder": level, "model": model}
    tokenizer |= dict.fromkeys(("truncation", "padding", "normalizer", "post_processor"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
