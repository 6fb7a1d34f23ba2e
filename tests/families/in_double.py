"""Runs a model of transformers in f64 throughout.

`model.double()` alone leaves norms, softmax and some losses in f32, where transformers says so by name. Rotations stay
in f32: there the f32 numbers are the model's own.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode


class Widening(TorchFunctionMode):
    """Turns every conversion to f32 into one to f64, except while it is paused."""

    def __init__(self):
        super().__init__()
        self.is_paused = False

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.is_paused:
            return func(*args, **kwargs)
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(widened, args), **{key: widened(value) for key, value in kwargs.items()})


def widened(value):
    """f64 in the place of f32, anything else as it is."""
    return torch.float64 if value is torch.float32 else value


@contextmanager
def in_double(model):
    """Within it, `model`, whose weights are f64, computes in f64."""
    mode = Widening()

    def pause(*_):
        mode.is_paused = True

    def resume(*_):
        mode.is_paused = False

    rotary = [module for module in model.modules() if type(module).__name__.endswith("RotaryEmbedding")]
    hooks = [hook for module in rotary for hook in (module.register_forward_pre_hook(pause), module.register_forward_hook(resume))]
    try:
        with mode:
            yield model
    finally:
        for hook in hooks:
            hook.remove()
