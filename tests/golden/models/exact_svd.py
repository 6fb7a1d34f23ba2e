"""PiSSA with a decomposition in f64.

PEFT decomposes in f32, where the leading singular vectors are only known to about eps · σ₁ / gap: processors
disagree from the fifth digit on, and no bound on their difference would hold everywhere. With f64 and one
rounding, every processor gives the same f32 numbers to the last place or two.
"""

import torch

_svd = torch.linalg.svd


def _in_f64(matrix: torch.Tensor, *arguments, **named):
    parts = _svd(matrix.double(), *arguments, **named)
    return tuple(part.to(matrix.dtype) for part in parts)


def install() -> None:
    """Let every `torch.linalg.svd` of this process, PEFT's among them, decompose in f64."""
    torch.linalg.svd = _in_f64
