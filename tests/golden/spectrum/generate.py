"""Spectra of adapters by dense SVD in numpy (f64), for `tests/spectrum.rs`.

Reads the golden adapters over `qwen2_tied` in ../models and forms every ΔW = s·B·A whole:

    python generate.py > spectrum.json
"""
import json
import re
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

MODELS = Path(__file__).parent.parent / "models"
ADAPTERS = {"adapter": "qwen2_tied/adapter", "all_linear": "pefts/all_linear", "patterns": "pefts/patterns"}
RANKS = [1, 2, 3]


def pattern(table, name, default):
    for key in sorted(table):
        if re.match(rf"(.*\.)?({key})$", name):
            return table[key]
    return default


def layers(folder):
    """Name -> (A [r, in], B [out, r], scale), f64."""
    config = json.loads((MODELS / folder / "adapter_config.json").read_text())
    tensors = load_file(MODELS / folder / "adapter_model.safetensors")
    found = {}
    for key in tensors:
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        a = tensors[key].astype(np.float64)
        b = tensors[key.replace("lora_A", "lora_B")].astype(np.float64)
        r = pattern(config.get("rank_pattern") or {}, name, config["r"])
        alpha = pattern(config.get("alpha_pattern") or {}, name, config["lora_alpha"])
        found[name] = (a, b, alpha / (r ** 0.5 if config.get("use_rslora") else r))
    return found


def spectrum(a, b, scale):
    delta = scale * (b @ a)
    u, values, vh = np.linalg.svd(delta, full_matrices=False)
    kept = values[: a.shape[0]]
    shares = kept / kept.sum()
    shares = shares[shares > 0]
    energy = np.cumsum(kept**2) / np.sum(kept**2)
    return {
        "values": kept.tolist(),
        "effective_rank": float(np.exp(-(shares * np.log(shares)).sum())),
        "rank_90": int(np.searchsorted(energy, 0.9) + 1),
        "rank_99": int(np.searchsorted(energy, 0.99) + 1),
        # Rows of the best approximations of ΔW, one after another.
        "truncated": {k: ((u[:, :k] * values[:k]) @ vh[:k]).ravel().tolist() for k in RANKS if k <= a.shape[0]},
    }


def similarity(one, other, side):
    grids = {}
    for name in sorted(set(one) & set(other)):
        pick = (lambda layer: layer[0].T) if side == "A" else (lambda layer: layer[1])
        u = np.linalg.svd(pick(one[name]), full_matrices=False)[0]
        v = np.linalg.svd(pick(other[name]), full_matrices=False)[0]
        count = range(1, u.shape[1] + 1), range(1, v.shape[1] + 1)
        phi = [[np.linalg.norm(u[:, :i].T @ v[:, :j]) ** 2 / min(i, j) for j in count[1]] for i in count[0]]
        grids[name] = phi
    return grids


adapters = {name: layers(folder) for name, folder in ADAPTERS.items()}
# The approximations are many numbers: one layer of each adapter will do.
spectra = {name: {layer: spectrum(*found) for layer, found in own.items()} for name, own in adapters.items()}
for own in spectra.values():
    for layer in sorted(own)[1:]:
        del own[layer]["truncated"]
json.dump(
    {
        "folders": ADAPTERS,
        "spectra": spectra,
        "similarity": {side: similarity(adapters["adapter"], adapters["all_linear"], side) for side in "AB"},
    },
    sys.stdout,
)
print()
