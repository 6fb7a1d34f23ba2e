"""The other direction: what transformers and PEFT make of the adapters and models that lorhai saved.

For each model of `parity.py draw` there may be a folder `ours` with `adapter/`, `merged/`, `base/` and `logits.safetensors`,
the logits that lorhai computes with that adapter. The answer is `ours/check.json`: deviations by name, and faults in words.
"""

import json
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import golden
from build import load
from check_adapter import wrong_tensors


def read(folder: Path) -> tuple:
    """A model, and what transformers misses in its file or does not know."""
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    return model.eval(), [f"{folder.name}: {kind}: {name}" for kind, names in loading.items() for name in names]


def logits_of(model, batch: dict) -> torch.Tensor:
    with torch.no_grad():
        return golden.visible(golden.logits_of(model, batch), batch)


def check(folder: Path) -> dict:
    """One model."""
    ours = folder / "ours"
    batch = load_file(ours / "logits.safetensors")
    expected = golden.visible(batch["logits"], batch)
    model = PeftModel.from_pretrained(load(folder), ours / "adapter").eval()
    faults = [f"adapter: {name}" for name in wrong_tensors(model, ours / "adapter")]
    found = {"adapter logits": golden.nmse(logits_of(model, batch), expected)}
    merged, of_merged = read(ours / "merged")
    found["merged logits"] = golden.nmse(logits_of(merged, batch), expected)
    theirs = model.merge_and_unload().state_dict()
    found["merged weights"] = golden.worst_nmse(merged.state_dict(), theirs)
    base, of_base = read(ours / "base")
    stored = load(folder).state_dict()
    changed = [name for name, weight in base.state_dict().items() if not torch.equal(weight, stored[name])]
    return found | {"base weights": len(changed), "faults": faults + of_merged + of_base}


def check_all(out: Path) -> None:
    """Every model with a folder `ours`."""
    # Not finished where lorhai failed on the way.
    for ours in sorted(out.glob("**/ours")):
        if not (ours / "base").is_dir():
            continue
        (ours / "check.json").write_text(json.dumps(check(ours.parent), indent=1) + "\n")
