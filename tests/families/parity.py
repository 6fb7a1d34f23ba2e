"""The Python half of the parity harness (tests/families/main.rs runs it).

    python parity.py names                          the families that are declared
    python parity.py draw OUT CASES FAMILY …        models, adapters, and what transformers and PEFT compute with them
    python parity.py counts OUT FAMILY …            parameters of real configurations
    python parity.py check OUT                      what transformers and PEFT make of the files that lorhai saved

`draw` writes a folder `OUT/family/number` for each model: the model as transformers saves it, `adapter/` as PEFT does,
`golden.json` and `golden.safetensors` (those of tests/golden/models/README.md, in f64). Needs torch, transformers and peft.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

# What writes the golden files measures here too.
sys.path.append(str(Path(__file__).resolve().parent.parent / "golden/models"))

import build
import check
import measure
import real
from declarations import BY_NAME, FAMILIES
from draw import draw


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def draw_family(out: Path, count: int, name: str) -> None:
    """All models of a family; every two values of an axis must give other logits in one, every weight in the loss of one."""
    family, contrasts, silent, heard = BY_NAME[name], {}, set(), set()
    for drawn in draw(family, count):
        folder = out / name / drawn.name
        folder.mkdir(parents=True)
        lora = build.save(drawn, folder)
        tensors, facts = measure.record(drawn, folder, lora)
        facts |= {"case": f"{name}/{drawn.name}", "kind": "family", "choices": drawn.choices}
        measure.save(tensors, folder / "golden.safetensors")
        write_json(folder / "golden.json", facts)
        for axis, change in facts["contrasts"].items():
            contrasts[axis] = max(contrasts.get(axis, 0.0), change)
        weights = {key.removeprefix("full_grad.") for key in tensors if key.startswith("full_grad.")}
        silent |= {without_layer(key) for key in facts["silent"]}
        heard |= {without_layer(key) for key in weights - set(facts["silent"])}
    hidden = [axis for axis, change in contrasts.items() if change < measure.VISIBLE]
    assert not hidden, f"{name}: in no configuration the logits tell values apart: {hidden} of {contrasts}"
    assert silent <= heard, f"{name}: no configuration needs {sorted(silent - heard)}"
    write_json(out / name / "contrasts.json", contrasts)


def without_layer(name: str) -> str:
    """The name of a weight without the number of its layer."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    match arguments:
        case ["names"]:
            print(json.dumps([family.name for family in FAMILIES]))
        case ["draw", out, count, *names]:
            for name in names:
                draw_family(Path(out), int(count), name)
        case ["counts", out, *names]:
            write_json(Path(out), real.counts(names))
        case ["check", out]:
            check.check_all(Path(out))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
