"""Checks that transformers and peft load folders saved by lorhai as if `lorhai.json` were not in them.

    python check_manifest.py --model FOLDER [FOLDER ...] --adapter FOLDER --base FOLDER

Every folder is loaded as it is and from a copy without the manifest. Prints one line for each; exits with 1 where a
tensor is missing, left over or of another shape, or where the logits of the two differ at all.
"""

import argparse
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

MANIFEST = "lorhai.json"
IDS = torch.tensor([[1, 5, 9, 13, 17, 21, 25, 29]])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, nargs="+", required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    return parser.parse_args()


def logits_of_model(folder: Path) -> torch.Tensor:
    """Logits of a model whose tensors are exactly those of its folder."""
    AutoTokenizer.from_pretrained(folder)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    faults = [f"{kind}: {name}" for kind, names in loading.items() for name in names]
    if faults:
        sys.exit(f"{folder}: {faults}")
    with torch.no_grad():
        return model.eval()(IDS).logits


def logits_of_adapter(folder: Path, base: Path) -> torch.Tensor:
    """Logits of an adapter over its base; peft warns of adapter keys that it does not find."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, folder)
    with torch.no_grad():
        return model.eval()(IDS).logits


def compare(folder: Path, logits) -> torch.Tensor:
    """The logits of the folder, which are the same without the manifest."""
    if not (folder / MANIFEST).is_file():
        sys.exit(f"{folder}: there is no {MANIFEST}")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / folder.name
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(MANIFEST))
        ours, theirs = logits(folder), logits(copy)
    if not torch.equal(ours, theirs):
        sys.exit(f"{folder}: the logits differ without {MANIFEST}")
    print(f"{folder.name}: the same with and without {MANIFEST}")
    return ours


def main() -> None:
    """Compare all folders."""
    chosen = arguments()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    for folder in chosen.model:
        compare(folder, logits_of_model)
    adapted = compare(chosen.adapter, lambda folder: logits_of_adapter(folder, chosen.base))
    if torch.equal(adapted, logits_of_model(chosen.base)):
        sys.exit(f"{chosen.adapter}: the adapter changes nothing")


if __name__ == "__main__":
    main()
