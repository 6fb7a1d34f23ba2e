"""Adapters whose configuration is not what PEFT writes today: older key sets, other spellings of the same thing.

All lie over the base of `qwen2_tied`; what each must give is what PEFT makes of the stored folder.
"""

import json

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

import golden
from cases import ATTENTION, SEVEN
from store import HERE, VERSIONS, fresh, write_json
from tiny import load_base, save_adapter

BASE = "qwen2_tied"

# The keys that PEFT 0.4 wrote, and those that any reader may rely on.
PEFT_0_4 = [
    "base_model_name_or_path", "bias", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "revision",
    "target_modules", "task_type",
]  # fmt: skip
MINIMAL = ["peft_type", "r", "lora_alpha", "target_modules"]

# name: (what it shows, LoraConfig arguments, keys kept or None, changes to adapter_config.json)
ADAPTERS = {
    "peft_0_4": (
        "the keys of PEFT 0.4, dropout 0.05 (no effect in evaluation)",
        {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        PEFT_0_4,
        {"lora_dropout": 0.05},
    ),
    "minimal": (
        "four keys only",
        {"r": 2, "lora_alpha": 8, "target_modules": ATTENTION},
        MINIMAL,
        {},
    ),
    "null_targets": (
        "target_modules null: the family's default, q_proj and v_proj",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
        PEFT_0_4,
        {"target_modules": None},
    ),
    "all_linear": (
        "target_modules kept as the text all-linear",
        {"r": 2, "lora_alpha": 4, "target_modules": "all-linear"},
        None,
        {"target_modules": "all-linear"},
    ),
    "regex": (
        "target_modules as a regular expression over the whole name, classic keys",
        {"r": 4, "lora_alpha": 8, "target_modules": r".*\.mlp\.(up|down)_proj"},
        PEFT_0_4,
        {},
    ),
    "float_alpha": (
        "lora_alpha 16.0 and init_lora_weights gaussian",
        {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": "gaussian"},
        None,
        {"lora_alpha": 16.0},
    ),
    "patterns": (
        "overlapping rank_pattern keys: the first that matches counts, in the order of the file",
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": SEVEN,
            "rank_pattern": {r"layers.0.*": 2, "layers.0.mlp.down_proj": 3, "o_proj": 6},
            "alpha_pattern": {r"model.layers.1\..*_proj": 6, "q_proj": 32},
            "use_rslora": True,
        },
        None,
        {},
    ),
    "bf16_tensors": (
        "tensors stored in bf16, used in f32",
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "k_proj"]},
        None,
        {},
    ),
}


def rewrite(folder, keys: list[str] | None, changes: dict) -> None:
    """Keep only `keys` of adapter_config.json and apply `changes`."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    kept = config if keys is None else {key: config[key] for key in keys}
    path.write_text(json.dumps(kept | changes, indent=2, sort_keys=True))


def narrow(folder) -> None:
    """Store the tensors in bf16."""
    path = folder / "adapter_model.safetensors"
    tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def generate(name: str = "pefts") -> None:
    """Writes every adapter, then loads it again and records its logits."""
    root, source = fresh(HERE / name), HERE / BASE
    batch = golden.random_batch(load_base(source).config.vocab_size, [8, 5], name)
    tensors = {key: batch[key] for key in ("input_ids", "attention_mask")}
    facts = {"kind": "older_adapters", "base": BASE, "versions": VERSIONS, "adapters": {}}
    for adapter, (about, lora, keys, changes) in ADAPTERS.items():
        save_adapter(load_base(source), lora, f"{name}/{adapter}", root / adapter)
        rewrite(root / adapter, keys, changes)
        if adapter == "bf16_tensors":
            narrow(root / adapter)
        model = PeftModel.from_pretrained(load_base(source), root / adapter).eval()
        tensors[f"{adapter}.logits"] = golden.visible(golden.logits_of(model, batch), batch)
        facts["adapters"][adapter] = {"about": about, "targeted_modules": model.base_model.targeted_module_names}
    save_file(tensors, root / "golden.safetensors")
    write_json(root / "golden.json", facts)
    print(f"{name}: {len(ADAPTERS)} adapters")
