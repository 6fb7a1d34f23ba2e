"""Loads an adapter saved by lorhai with PEFT and compares its logits with those that lorhai computed.

    python check_adapter.py --base MODEL_FOLDER --adapter ADAPTER_FOLDER --ours FILE.safetensors [--tolerance 1e-10]

The file holds `input_ids` [rows, time] and `logits` [rows, time, vocab], and `attention_mask` [rows, time] where rows
are padded on the right. Prints one line of JSON; exits with 1 where the NMSE is above the tolerance or the adapter's
tensors are not exactly those PEFT expects.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

import exact_svd
import golden
from tiny import load_base


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--ours", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tolerance", type=float, default=1e-10)
    return parser.parse_args()


def compare(model, ours: Path) -> dict:
    """NMSE of the stored logits against the model's, over visible positions."""
    stored = load_file(ours)
    stored.setdefault("attention_mask", torch.ones_like(stored["input_ids"]))
    with torch.no_grad():
        expected = golden.visible(golden.logits_of(model, stored), stored)
    if stored["logits"].shape != expected.shape:
        sys.exit(f"{ours}: expected logits of shape {list(expected.shape)}, found {list(stored['logits'].shape)}")
    found = golden.visible(stored["logits"], stored)
    return {"nmse": golden.nmse(found, expected), "max_error": float((found - expected).abs().max())}


def wrong_tensors(model, adapter: Path) -> list[str]:
    """Names that the saved file lacks, or has beyond what PEFT would save for this configuration."""
    expected = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    with_embeddings = set(get_peft_model_state_dict(model, save_embedding_layers=True))
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        stored = set(file.keys())
    return sorted((expected - stored) | (stored - expected - with_embeddings))


def report(result: dict, faults: list[str], tolerance: float) -> None:
    """Print the result and exit with 1 on a failure."""
    passed = result["nmse"] <= tolerance and not faults
    print(json.dumps(result | {"tolerance": tolerance, "faults": faults, "passed": passed}))
    sys.exit(0 if passed else 1)


def main() -> None:
    """Compare one adapter."""
    chosen = arguments()
    torch.set_num_threads(1)
    exact_svd.install()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    model = PeftModel.from_pretrained(load_base(chosen.base, dtype=chosen.dtype), chosen.adapter).eval()
    report(compare(model, chosen.ours), wrong_tensors(model, chosen.adapter), chosen.tolerance)


if __name__ == "__main__":
    main()
