"""Losses of steps with momentum SGD (torch's) and Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2), in f32.

    python generate.py

trains the adapter of ../rewards/start on scripts/tiny with one batch, the samples of ../rewards/samples.json, and writes
losses.json: the loss before each step and after the last. Made with torch 2.11, transformers 5.24, peft 0.21.
"""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
REWARDS = HERE.parent / "rewards"
TINY = HERE.parents[2] / "scripts/tiny"
STEPS = 6


class Lion(torch.optim.Optimizer):
    def __init__(self, parameters, lr, betas=(0.9, 0.99), weight_decay=0.1):
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            one, two = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (m * one + p.grad * (1 - one)).sign()
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"])
                m.mul_(two).add_(p.grad, alpha=1 - two)


def batch():
    samples = json.loads((REWARDS / "samples.json").read_text())
    width = max(len(sample["prompt_ids"] + sample["ids"]) for sample in samples)
    row = lambda sample, prompt, fill: prompt + sample["ids"] + [fill] * (width - len(prompt) - len(sample["ids"]))
    ids = [row(sample, sample["prompt_ids"], 0) for sample in samples]
    labels = [row(sample, [-100] * len(sample["prompt_ids"]), -100) for sample in samples]
    mask = [row({"ids": [1] * len(sample["ids"])}, [1] * len(sample["prompt_ids"]), 0) for sample in samples]
    return torch.tensor(ids), torch.tensor(labels), torch.tensor(mask)


def losses(make):
    base = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, REWARDS / "start", is_trainable=True)
    optimizer = make([parameter for parameter in model.parameters() if parameter.requires_grad])
    ids, labels, mask = batch()
    found = []
    for step in range(STEPS + 1):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


golden = {
    "momentum": losses(lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9)),
    "lion": losses(lambda parameters: Lion(parameters, lr=2e-3)),
}
(HERE / "losses.json").write_text(json.dumps(golden, indent=1))
print(golden)
