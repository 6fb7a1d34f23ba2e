"""Shared by all goldens: where files go, how they are written, how a stored model is loaded again."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel

from tiny import load_base

HERE = Path(__file__).resolve().parent
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


def write_json(path: Path, value) -> None:
    """Readable JSON with a final newline."""
    path.write_text(json.dumps(value, indent=1) + "\n")


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def load_adapter(folder: Path, double: bool = False, **how):
    """Base and adapter as stored, in f32, or with every weight and product in f64."""
    model = PeftModel.from_pretrained(load_base(folder, **how), folder / "adapter", is_trainable=True)
    return model.double() if double else model


def counts(model) -> dict:
    """Parameter counts as PEFT gives them."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        model.print_trainable_parameters()
    trainable, everything = model.get_nb_trainable_parameters()
    return {
        "trainable_params": trainable,
        "all_params": everything,
        "print_trainable_parameters": text.getvalue().strip(),
        "targeted_modules": list(model.base_model.targeted_module_names),
    }


def batch_tensors(batches) -> dict[str, torch.Tensor]:
    """The training batches under their file keys."""
    return {
        f"step{s}.micro{m}.{key}": micro[key]
        for s, window in enumerate(batches)
        for m, micro in enumerate(window)
        for key in ("input_ids", "labels")
    }


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys with a prefix, tensors detached."""
    return {prefix + name: tensor.detach().float().clone() for name, tensor in tensors.items()}
