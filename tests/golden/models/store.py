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

import dropout
from cases import VARIANTS
from tiny import load_base

BASES = {case.name: case.base for case in VARIANTS}
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


def base_folder(folder: Path) -> Path:
    """Where the base of a case lies: with an older case for a variant, else in its own folder."""
    return folder.parent / BASES.get(folder.name, folder.name)


def load_adapter(folder: Path, double: bool = False, **how):
    """Base and adapter as stored, in f32, or with every weight and product in f64; with lorhai's dropout."""
    base = load_base(base_folder(folder), **how)
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    dropout.install(model)
    return model.double().eval() if double else model.eval()


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
