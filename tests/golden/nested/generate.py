"""Gradients of nested ranks by PyTorch in f64, for `tests/nested.rs`.

The model is `qwen2_tied` in ../models, and an adapter of rank 4 on q_proj and down_proj of both layers has random A and B. The
forward pass is transformers' (angles of rotary embeddings are in f32 there, as in lorhai); the adapted layers are written here as the definition says: base(x) + s (x A[:k]ᵀ) B[:, :k]ᵀ.

    python generate.py

writes `nested.safetensors`: A and B under PEFT's names, the gradient of the summed loss of each row through each prefix
("row0.r2.rank.<name>" with a scale of alpha / k, "….fixed.…" with alpha / r), those of all rows with the weighted mean of the
prefixes' outputs in each layer ("outputs.…"), and the losses in `nested.json`.
"""
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from transformers.models.qwen2 import modeling_qwen2

HERE = Path(__file__).parent
RANKS, ALPHA, WEIGHTS = [1, 2, 4], 6.0, [0.5, 0.25, 0.25]
TARGETS = ["self_attn.q_proj", "mlp.down_proj"]
ROWS, TIME = 3, 7


def norm(self, x):
    """RMSNorm in the dtype of its input: transformers' computes in f32."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


class Nested(torch.nn.Module):
    """A linear layer with an adapter of which `terms` take part: pairs of a rank and a scale."""

    def __init__(self, base, a, b):
        super().__init__()
        self.base, self.a, self.b, self.terms = base, a, b, []

    def forward(self, x):
        y = self.base(x)
        for rank, scale in self.terms:
            y = y + scale * (x @ self.a[:rank].T) @ self.b[:, :rank].T
        return y


def main():
    torch.set_num_threads(1)
    torch.manual_seed(7)
    modeling_qwen2.Qwen2RMSNorm.forward = norm
    model = AutoModelForCausalLM.from_pretrained(HERE.parent / "models/qwen2_tied", dtype=torch.float64).eval()
    model.requires_grad_(False)
    layers, tensors = {}, {}
    for number, block in enumerate(model.model.layers):
        for target in TARGETS:
            owner = block.get_submodule(target.rpartition(".")[0])
            short = target.rpartition(".")[2]
            base = getattr(owner, short)
            # Values that f32 holds, so that both precisions compute with the same ones.
            draw = lambda *shape: (0.3 * torch.randn(*shape)).float().double().requires_grad_()
            a, b = draw(RANKS[-1], base.in_features), draw(base.out_features, RANKS[-1])
            layer = Nested(base, a, b)
            setattr(owner, short, layer)
            name = f"model.layers.{number}.{target}"
            layers[f"{name}.lora_A.weight"], layers[f"{name}.lora_B.weight"] = (layer, a), (layer, b)
    tensors |= {name: leaf.detach().clone() for name, (_, leaf) in layers.items()}
    ids = torch.randint(0, model.config.vocab_size, (ROWS, TIME))

    def record(prefix, rows, terms):
        for layer, leaf in layers.values():
            layer.terms, leaf.grad = terms, None
        logits = model(input_ids=ids[rows]).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[rows][:, 1:].flatten(), reduction="sum")
        loss.backward()
        losses[prefix] = loss.item()
        tensors.update({f"{prefix}.{name}": leaf.grad.clone() for name, (_, leaf) in layers.items()})

    losses = {}
    for kind, scale in {"rank": lambda rank: ALPHA / rank, "fixed": lambda rank: ALPHA / RANKS[-1]}.items():
        for rank in RANKS:
            for row in range(ROWS):
                record(f"row{row}.r{rank}.{kind}", [row], [(rank, scale(rank))])
        mean = [(rank, weight * scale(rank)) for rank, weight in zip(RANKS, WEIGHTS)]
        record(f"outputs.{kind}", list(range(ROWS)), mean)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "nested.safetensors")
    about = {"ranks": RANKS, "alpha": ALPHA, "weights": WEIGHTS, "ids": ids.tolist(), "losses": losses}
    (HERE / "nested.json").write_text(json.dumps(about) + "\n")


main()
