"""lorhai's dropout in Python: masks that depend on (seed, step, micro-batch, layer, row, column, channel) alone.

With it PEFT can be trained under the very masks that lorhai draws; src/random.rs and src/native/rows.inc are the
originals.
"""

import numpy as np
import torch

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key(seed: int, *path: str | int) -> np.ndarray:
    """The key of a stream of random numbers; names are hashed by FNV-1a."""
    with np.errstate(over="ignore"):
        found = mix(np.array([seed], np.uint64) + GOLDEN)
        for part in path:
            number = np.array([part if isinstance(part, int) else fnv(part)], np.uint64)
            turned = (found << np.uint64(17)) | (found >> np.uint64(47))
            found = mix(turned ^ mix(number + GOLDEN))
        return found


def fnv(name: str) -> int:
    """FNV-1a over the bytes of a name, 64 bits."""
    found = 0xCBF29CE484222325
    for byte in name.encode():
        found = ((found ^ byte) * 0x100000001B3) % 2**64
    return found


def mask(stream: np.ndarray, shape, share: float) -> torch.Tensor:
    """[rows, time, width] of 0 and 1 / (1 - share): 64 random bits serve two neighbouring channels."""
    rows, time, width = shape
    row, column, pair = np.meshgrid(*(np.arange(n, dtype=np.uint64) for n in (rows, time, (width + 1) // 2)), indexing="ij")
    counter = (row << np.uint64(40)) | (column << np.uint64(20)) | pair
    with np.errstate(over="ignore"):
        bits = mix(stream + counter * GOLDEN)
    halves = np.stack([bits & np.uint64(0xFFFFFFFF), bits >> np.uint64(32)], axis=-1).reshape(rows, time, -1)
    kept = halves[:, :, :width] >= np.uint64(int(share * 4294967295.0))
    return torch.from_numpy(kept.astype(np.float32)) * np.float32(1.0 / (1.0 - share))


class CountedDropout(torch.nn.Module):
    """Takes the place of PEFT's dropout in the layer `name`."""

    def __init__(self, name: str, share: float):
        super().__init__()
        self.name, self.share, self.at = name, share, (0, 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * mask(key(0, "dropout", *self.at, self.name), x.shape, self.share).to(x.dtype)


def install(model) -> None:
    """Put lorhai's dropout in the place of torch's, wherever the adapter has any."""
    for name, module in list(model.named_modules()):
        held = getattr(module, "lora_dropout", {})
        if "default" in held and isinstance(held["default"], torch.nn.Dropout):
            held["default"] = CountedDropout(name.removeprefix("base_model.model."), held["default"].p)


def begin(model, step: int, micro: int) -> None:
    """Turn dropout on, with the masks of one micro-batch. Nothing else in these models differs in training."""
    model.train()
    for module in model.modules():
        if isinstance(module, CountedDropout):
            module.at = (step, micro)
