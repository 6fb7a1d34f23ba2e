"""Adapters that PEFT reads and that have more than LoRA in their file, or other names: logits of the stored folder.

Each lies over the base that `golden.json` names, after `resize` of its vocabulary where there is one.
"""

import json

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

import golden
from cases import SEVEN
from store import HERE, VERSIONS, fresh, write_json
from tiny import generator, load_base, save_adapter

# As Unsloth 2026 writes it for the layers of a language model.
UNSLOTH = (
    r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense|mixer).*?\.(?:q_proj|v_proj|o_proj))"
    r"|(?:\bmodel\.layers\.[\d]{1,}(?!.*\.experts\.)\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)"
    r"\.(?:(?:q_proj|v_proj|o_proj)))"
)


def with_default_name(tensors: dict) -> dict:
    """The names of the running model's state dict."""

    def named(key: str) -> str:
        head, _, tail = key.rpartition(".")
        return f"{head}.default.{tail}" if "lora_" in head else f"{key}.default" if "lora_" in tail else key

    return {named(key): tensor for key, tensor in tensors.items()}


def own_embeddings(tensors: dict) -> dict:
    """Embeddings and head other than the base's."""
    changed = dict(tensors)
    for key in [key for key in tensors if key.endswith(("embed_tokens.weight", "lm_head.weight"))]:
        noise = torch.randn(tensors[key].shape, generator=generator("own_embeddings", "vocabulary"))
        changed[key] = tensors[key] + 0.1 * noise
    return changed


# name: (what it shows, base, LoraConfig arguments, arguments of save_pretrained, resize, keys of the
# configuration that are changed or, as None, taken out, function of the tensors)
ADAPTERS = {
    "lookahead": ("Unsloth's expression", "qwen2_tied", {"r": 2, "target_modules": UNSLOTH}, {}, None, {}, None),
    "adapter_name": (
        "names that carry the adapter's",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj", "embed_tokens"], "use_rslora": True},
        {"save_embedding_layers": False},
        None,
        {},
        with_default_name,
    ),
    "default_rank": (
        "no r: 8",
        "qwen2_tied",
        {"r": 8, "target_modules": ["q_proj"]},
        {},
        None,
        {"r": None},
        None,
    ),
    "fan_in_fan_out": (
        "fan_in_fan_out true over linear layers, which PEFT takes for false",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj", "down_proj"]},
        {},
        None,
        {"fan_in_fan_out": True},
        None,
    ),
    "one_matrix": (
        "ensure_weight_tying on LoRA matrices of head and embeddings",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
        {},
        None,
        {},
        None,
    ),
    "base_layers": (
        "the base's own embeddings and head beside LoRA on both",
        "llama_untied_gqa",
        {"r": 2, "target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {},
        None,
        {},
        None,
    ),
    "same_embeddings": (
        "save_embedding_layers with the base's own",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj"]},
        {"save_embedding_layers": True},
        None,
        {},
        None,
    ),
    "own_tied": (
        "save_embedding_layers with embeddings that are not the base's, tied",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj"]},
        {"save_embedding_layers": True},
        None,
        {},
        own_embeddings,
    ),
    "own_untied": (
        "save_embedding_layers with embeddings and a head that are not the base's",
        "llama_untied_gqa",
        {"r": 2, "target_modules": ["q_proj", "v_proj"]},
        {"save_embedding_layers": True},
        None,
        {},
        own_embeddings,
    ),
    "resized_tied": (
        "made after resize_token_embeddings(100): PEFT saves the embeddings by itself",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj"]},
        {"save_embedding_layers": True},
        100,
        {},
        own_embeddings,
    ),
    "resized_untied": (
        "made after resize_token_embeddings(88), with a trained head and LoRA on the embeddings",
        "llama_untied_gqa",
        {"r": 2, "target_modules": SEVEN, "modules_to_save": ["embed_tokens", "lm_head"]},
        {},
        88,
        {},
        None,
    ),
    "resized_saved": (
        "made after resize_token_embeddings(100): a trained copy of tied embeddings beside the base's, in three forms",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"save_embedding_layers": True},
        100,
        {},
        None,
    ),
    "resized_tokens_tied": (
        "made after resize_token_embeddings(100): rows of tied embeddings, which PEFT writes at both ends",
        "qwen2_tied",
        {"r": 2, "target_modules": ["q_proj"], "trainable_token_indices": [97, 98, 5]},
        {"save_embedding_layers": True},
        100,
        {},
        None,
    ),
    "resized_tokens": (
        "made after resize_token_embeddings(90): rows of the embeddings, and a trained head",
        "llama_untied_gqa",
        {"r": 2, "target_modules": ["q_proj"], "trainable_token_indices": [85, 3], "modules_to_save": ["lm_head"]},
        {"save_embedding_layers": True},
        90,
        {},
        None,
    ),
    "resized_lora": (
        "made after resize_token_embeddings(72), which cuts rows off; LoRA on embeddings and head",
        "llama_untied_gqa",
        {"r": 2, "target_modules": ["k_proj", "embed_tokens", "lm_head"]},
        {},
        72,
        {},
        None,
    ),
}


def base_of(name: str, resize: int | None):
    """The base, with another vocabulary where one is asked for; its new rows are random numbers."""
    base = load_base(HERE / name)
    if resize:
        base.resize_token_embeddings(resize)
    return base


def save(name: str, folder) -> None:
    """Write one adapter; B and whatever begins at zero are random."""
    _, base, lora, save_arguments, resize, changes, rename = ADAPTERS[name]
    model = save_adapter(base_of(base, resize), lora, f"embedding_adapters/{name}", folder)
    with torch.no_grad():
        for key, weight in golden.trainable(model).items():
            if "lora_embedding_A" in key or "lora_" not in key:
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator(name, key)))
    model.save_pretrained(folder, **save_arguments)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | changes
    config = {key: value for key, value in config.items() if key not in changes or changes[key] is not None}
    config["target_modules"] = sorted(config["target_modules"]) if "(" not in str(lora["target_modules"]) else UNSLOTH
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    if rename:
        path = folder / "adapter_model.safetensors"
        save_file(rename(load_file(path)), path, metadata={"format": "pt"})


def generate(name: str = "embedding_adapters") -> None:
    """Writes every adapter, then loads it again and records its logits."""
    root = fresh(HERE / name)
    tensors = {}
    facts = {"kind": "embedding_adapters", "versions": VERSIONS, "adapters": {}}
    for adapter, (about, base, _, _, resize, _, _) in ADAPTERS.items():
        save(adapter, root / adapter)
        model = PeftModel.from_pretrained(base_of(base, resize), root / adapter).eval()
        plain = base_of(base, resize)
        vocab = min(resize or 64, 64)
        batch = golden.random_batch(vocab, [8, 5], name)
        logits = golden.logits_of(model, batch)
        change = golden.nmse(logits, golden.logits_of(plain, batch))
        assert change > 1e-4, f"{adapter}: changes the logits by an NMSE of {change} only"
        tensors |= {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        tensors[f"{adapter}.logits"] = golden.visible(logits, batch)
        facts["adapters"][adapter] = {"about": about, "base": base, "resize": resize}
    save_file(tensors, root / "golden.safetensors")
    write_json(root / "golden.json", facts)
    print(f"{name}: {len(ADAPTERS)} adapters")
