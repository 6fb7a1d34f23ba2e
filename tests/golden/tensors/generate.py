"""Makes cases.json: functions of tensors in scripts, with the results and gradients of torch.

    python tests/golden/tensors/generate.py

needs torch 2.11. Each case has the script's expression, the same in Python, its arguments, the result, and the
gradients of the sum of the result times `weights`.
"""

import json
import pathlib
import re

import torch

HERE = pathlib.Path(__file__).parent
torch.manual_seed(7)

# name: (expression in a script, the same in torch, arguments). Arguments are `a`, `b` of equal shapes [3, 4];
# `row` is [4], `column` [3, 1], `positive` [3, 4] above 0, `m` [4, 5], `mask` [3, 4] of 0 and 1, `index` [3, 2] whole.
CASES = [
    ("a.exp()", "a.exp()"),
    ("positive.log()", "positive.log()"),
    ("positive.ln()", "positive.log()"),
    ("positive.log1p()", "positive.log1p()"),
    ("a.abs()", "a.abs()"),
    ("a.pow(2)", "a.pow(2)"),
    ("positive.pow(0.5)", "positive.pow(0.5)"),
    ("positive.sqrt()", "positive.sqrt()"),
    ("a.square()", "a.square()"),
    ("a.sigmoid()", "a.sigmoid()"),
    ("a.log_sigmoid()", "torch.nn.functional.logsigmoid(a)"),
    ("a.relu()", "a.relu()"),
    ("a.silu()", "torch.nn.functional.silu(a)"),
    ("a.gelu()", "torch.nn.functional.gelu(a)"),
    ("a.tanh()", "a.tanh()"),
    ("a.sign()", "a.sign()"),
    ("(a * 2).round()", "(a * 2).round()"),
    ("a.isfinite()", "a.isfinite()"),
    ("a.clamp(-0.5, 1)", "a.clamp(-0.5, 1)"),
    ("a.clamp(-0.5, ())", "a.clamp(min=-0.5)"),
    ("a.clamp((), 0.25)", "a.clamp(max=0.25)"),
    ("a.maximum(b)", "torch.maximum(a, b)"),
    ("a.minimum(row)", "torch.minimum(a, row)"),
    ("a.maximum(0.25)", "a.clamp(min=0.25)"),
    ("a + row", "a + row"),
    ("a * column", "a * column"),
    ("a - column", "a - column"),
    ("a / positive", "a / positive"),
    ("2 - a", "2 - a"),
    ("-a", "-a"),
    ("a.lt(b)", "a < b"),
    ("a.le(row)", "a <= row"),
    ("a.gt(0)", "a > 0"),
    ("a.ge(0.5)", "a >= 0.5"),
    ("mask.eq(1)", "mask == 1"),
    ("mask.ne(a)", "mask != a"),
    ("mask.logical_not()", "mask.logical_not()"),
    ("mask.logical_and(a)", "mask.logical_and(a)"),
    ("mask.logical_or(a.gt(0))", "mask.logical_or(a > 0)"),
    ("where(a.gt(0), a, b)", "torch.where(a > 0, a, b)"),
    ("where(mask, a, 0)", "torch.where(mask != 0, a, 0)"),
    ("where(a.lt(row), 1.5, a)", "torch.where(a < row, 1.5, a)"),
    ("a.masked_fill(mask, -1.5)", "a.masked_fill(mask != 0, -1.5)"),
    ("a.sum()", "a.sum()"),
    ("a.sum(0)", "a.sum(0)"),
    ("a.sum(-1, true)", "a.sum(-1, keepdim=True)"),
    ("a.mean()", "a.mean()"),
    ("a.mean(1)", "a.mean(1)"),
    ("a.mean(0, true)", "a.mean(0, keepdim=True)"),
    ("a.masked_mean(mask)", "a[mask != 0].mean()"),
    ("a.max()", "a.max()"),
    ("a.max(1).values", "a.max(1).values"),
    ("a.max(0).indices", "a.max(0).indices"),
    ("a.min()", "a.min()"),
    ("a.min(-1).values", "a.min(-1).values"),
    ("a.min(-1).indices", "a.min(-1).indices"),
    ("a.argmax()", "a.argmax()"),
    ("a.argmax(1)", "a.argmax(1)"),
    ("a.argmin()", "a.argmin()"),
    ("a.argmin(0)", "a.argmin(0)"),
    ("a.topk(2).values", "a.topk(2).values"),
    ("a.topk(2).indices", "a.topk(2).indices"),
    ("a.topk(1, 0).values", "a.topk(1, 0).values"),
    ("a.sort(1, true).values", "a.sort(1, descending=True).values"),
    ("a.sort(0, false).indices", "a.sort(0).indices"),
    ("a.cumsum(1)", "a.cumsum(1)"),
    ("positive.prod()", "positive.prod()"),
    ("a.norm()", "a.norm()"),
    ("a.norm(1, -1)", "a.norm(1, -1)"),
    ("a.norm(2, 0)", "a.norm(2, 0)"),
    ("a.std()", "a.std()"),
    ("a.std(1)", "a.std(1)"),
    ("a.std(-1, true)", "a.std(-1, keepdim=True)"),
    ("mask.any()", "mask.any()"),
    ("mask.all()", "mask.all()"),
    ("a.logsumexp(-1)", "a.logsumexp(-1)"),
    ("a.softmax(0)", "a.softmax(0)"),
    ("a.log_softmax(-1)", "a.log_softmax(-1)"),
    ("a[1]", "a[1]"),
    ("a[-1]", "a[-1]"),
    ("a[0][2]", "a[0][2]"),
    ("a[1..3]", "a[1:3]"),
    ("a[0..=1]", "a[0:2]"),
    ("a[1..9]", "a[1:9]"),
    ("a[[2, 0]]", "a[[2, 0]]"),
    ("a[a.gt(0)]", "a[a > 0]"),
    ("a[mask.select(1, 0).to(\"bool\")]", "a[mask.select(1, 0).bool()]"),
    ("a[index.select(1, 0)]", "a[index.select(1, 0).long()]"),
    ("a.select(1, -1)", "a.select(1, -1)"),
    ("a.narrow(1, 1, 2)", "a.narrow(1, 1, 2)"),
    ("a.gather(1, index)", "a.gather(1, index.long())"),
    ("a.index_select(0, index.flatten())", "a.index_select(0, index.long().flatten())"),
    ("a.masked_select(mask)", "a.masked_select(mask != 0)"),
    ("a.transpose(0, 1)", "a.transpose(0, 1)"),
    ("a.t()", "a.t()"),
    ("a.unsqueeze(0).permute([2, 0, 1])", "a.unsqueeze(0).permute(2, 0, 1)"),
    ("a.reshape([2, -1])", "a.reshape(2, -1)"),
    ("a.flatten()", "a.flatten()"),
    ("a.unsqueeze(1)", "a.unsqueeze(1)"),
    ("column.squeeze()", "column.squeeze()"),
    ("column.squeeze(1)", "column.squeeze(1)"),
    ("column.expand([-1, 2])", "column.expand(-1, 2)"),
    ("a.flip(1)", "a.flip(1)"),
    ("cat([a, b], 1)", "torch.cat([a, b], 1)"),
    ("stack([a, b], 0)", "torch.stack([a, b], 0)"),
    ("matmul(a, m)", "a @ m"),
    ("a.matmul(m)", "a @ m"),
    ("a.to(\"f64\")", "a.double()"),
    ("zeros_like(a)", "torch.zeros_like(a)"),
    ("ones_like(a)", "torch.ones_like(a)"),
    ("a.detach() * b", "a.detach() * b"),
]
NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}


def arguments(dtype):
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 0, 1]])
    made = {
        "a": torch.randn(3, 4),
        "b": torch.randn(3, 4),
        "row": torch.randn(4),
        "column": torch.randn(3, 1),
        "positive": torch.rand(3, 4) + 0.25,
        "m": torch.randn(4, 5),
        "mask": mask,
        "index": torch.tensor([[0, 2], [1, 1], [2, 0]]),
    }
    return {name: x.to(dtype) for name, x in made.items()}


def listed(x):
    return x.detach().flatten().tolist()


def case(script, python, dtype):
    values = arguments(dtype)
    used = {name: x for name, x in values.items() if re.search(rf"\b{name}\b", python)}
    for name, x in used.items():
        x.requires_grad_(name not in ("mask", "index"))
    result = eval(python, {"torch": torch}, used)
    described = {
        "script": script,
        "dtype": NAMES[dtype],
        "arguments": {name: {"shape": list(x.shape), "numbers": listed(x)} for name, x in used.items()},
        "shape": list(result.shape),
        "result": listed(result),
    }
    if result.requires_grad:
        weights = (torch.arange(result.numel()) % 7 - 3).float().reshape(result.shape)
        (result.float() * weights).sum().backward()
        described["weights"] = listed(weights)
        described["gradients"] = {name: listed(x.grad) for name, x in used.items() if x.grad is not None}
    return described


cases = [case(script, python, dtype) for dtype in NAMES for script, python in CASES]
lines = ",\n".join(json.dumps(entry) for entry in cases)
(HERE / "cases.json").write_text(f"[\n{lines}\n]\n")
print(len(cases), "cases")
