"""Loads a model folder saved by lorhai with transformers and compares its logits with those that lorhai computed.

    python check_loads.py --model MODEL_FOLDER --ours FILE.safetensors [--tolerance 1e-10]

The file is as for check_adapter.py. Prints one line of JSON; exits with 1 where the NMSE is above the tolerance or a
tensor is missing, left over or of another shape.
"""

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoModelForCausalLM

from check_adapter import compare, report


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--ours", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tolerance", type=float, default=1e-10)
    return parser.parse_args()


def main() -> None:
    """Compare one model."""
    chosen = arguments()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    model, loading = AutoModelForCausalLM.from_pretrained(
        chosen.model, dtype=getattr(torch, chosen.dtype), attn_implementation="eager", output_loading_info=True
    )
    faults = [f"{kind}: {name}" for kind, names in loading.items() for name in names]
    report(compare(model.eval(), chosen.ours), faults, chosen.tolerance)


if __name__ == "__main__":
    main()
