"""Writes the golden files of tests/export.rs: merged weights as PEFT makes them, and numbers as the gguf package encodes them.

    python generate.py

Written with torch 2.11.0, peft 0.21.0 and gguf 0.19.0, on CPU, one thread. `merged_<case>.safetensors` holds
`float32.<name>` and `bfloat16.<name>`: every weight that the adapter of `../models/<case>` changes, after
`merge_and_unload` with the base loaded in that dtype. `blocks.json` holds numbers and, in hex, their bytes in each type.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
sys.path.insert(0, str(MODELS))

from tiny import load_base

CASES = ("qwen2_tied", "llama3_rope_new", "qwen2_bf16")
TYPES = ("F32", "F16", "BF16", "Q8_0")


def merged(case: str) -> dict[str, torch.Tensor]:
    """The changed weights of a case, in both dtypes."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        before = {name: weight.clone() for name, weight in load_base(MODELS / case, dtype=dtype).named_parameters()}
        model = PeftModel.from_pretrained(load_base(MODELS / case, dtype=dtype), MODELS / case / "adapter")
        for name, weight in model.merge_and_unload().named_parameters():
            if not torch.equal(weight, before[name]):
                found[f"{dtype}.{name}"] = weight.detach().clone()
    return found


def blocks() -> dict:
    """Numbers of every size, halves that round either way, zeros, and one block with a single outlier."""
    random = np.random.default_rng(0)
    rows = [
        random.standard_normal(32),
        random.standard_normal(32) * 1e-6,
        random.standard_normal(32) * 1e3,
        np.zeros(32),
        np.arange(32) - 15.5,
        np.concatenate([[127.0], np.arange(31) + 0.5]),
        np.concatenate([[-50.0], random.standard_normal(31) * 0.01]),
    ]
    numbers = np.concatenate(rows).astype(np.float32)
    encoded = {
        name.lower(): gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[name]).tobytes().hex() for name in TYPES
    }
    return {"numbers": [float(x) for x in numbers], "encoded": encoded}


def main() -> None:
    """All of it."""
    torch.set_num_threads(1)
    for case in CASES:
        save_file(merged(case), HERE / f"merged_{case}.safetensors")
    (HERE / "blocks.json").write_text(json.dumps(blocks()) + "\n")


if __name__ == "__main__":
    main()
