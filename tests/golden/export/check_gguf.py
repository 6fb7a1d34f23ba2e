"""Reads a GGUF file of lorhai with the gguf package, and compares each tensor with gguf's own encoding.

    python check_gguf.py --plain F32.gguf --file Q8_0.gguf

`--plain` is the same model exported as f32. Every tensor of `--file` must have the bytes that `gguf.quants` makes of the
plain one. Prints one line of JSON; exits with 1 where one differs.
"""

import argparse
import json
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import quantize


def main() -> None:
    """Compare one pair of files."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plain", required=True)
    parser.add_argument("--file", required=True)
    chosen = parser.parse_args()
    plain = {tensor.name: tensor for tensor in GGUFReader(chosen.plain).tensors}
    tensors = GGUFReader(chosen.file).tensors
    different = []
    for tensor in tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        numbers = np.array(plain[tensor.name].data, dtype=np.float32).reshape(shape)
        expected = quantize(numbers, tensor.tensor_type).tobytes()
        if np.ascontiguousarray(tensor.data).tobytes() != expected:
            different.append(tensor.name)
    types = sorted({tensor.tensor_type.name for tensor in tensors})
    passed = not different and len(tensors) == len(plain)
    print(json.dumps({"tensors": len(tensors), "types": types, "different": different, "passed": passed}))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
