"""Compares a GGUF file of lorhai with the names and shapes that the gguf package knows for the architecture.

    python gguf_names.py FILE.gguf FOLDER

`FOLDER` holds the same model as transformers saves it. Prints a line for each tensor that the file has under another name
or in another shape, lacks, or has beyond. Needs gguf, which is llama.cpp's own.
"""

import json
import re
import struct
import sys
from collections import Counter
from pathlib import Path

import gguf

EXPERT = re.compile(r"\.experts\.\d+\.")


def shapes_in(path: Path) -> dict[str, list[int]]:
    """Names and shapes of the tensors in a safetensors file."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def with_stacked_experts(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    """Matrices of experts as llama.cpp has them: those of a layer in one tensor."""
    counts = Counter(EXPERT.sub(".experts.", name) for name in shapes)
    stacked = {}
    for name, shape in shapes.items():
        joint = EXPERT.sub(".experts.", name)
        stacked[joint] = shape if joint == name else [counts[joint], *shape]
    return stacked


def main(file: str, folder: str) -> None:
    """One pair."""
    reader = gguf.GGUFReader(file)
    found = {tensor.name: [int(size) for size in reversed(tensor.shape)] for tensor in reader.tensors}
    architecture = reader.get_field("general.architecture").contents()
    layers = reader.get_field(f"{architecture}.block_count").contents()
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, layers)
    # Frequencies are in no checkpoint: llama.cpp's converter computes them.
    found = {name: shape for name, shape in found.items() if not name.startswith("rope_f")}
    for name, shape in with_stacked_experts(shapes_in(Path(folder) / "model.safetensors")).items():
        expected = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found.pop(expected, None) != shape:
            print(f"{name}: expected {expected} {shape}")
    for name in found:
        print(f"{name}: not expected")


if __name__ == "__main__":
    main(*sys.argv[1:])
