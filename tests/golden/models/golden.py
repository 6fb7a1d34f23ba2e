"""Measures a model: logits, losses, gradients, and a short training run."""

import statistics

import torch
import torch.nn.functional as F
from peft.optimizers import create_loraplus_optimizer
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

import dropout
from tiny import generator

IGNORED = -100
SCHEDULES = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}


def pad_rows(rows: list[tuple[list[int], int]]) -> dict[str, torch.Tensor]:
    """Right-pad rows of (ids, length of the unlabelled prefix) into input_ids, labels and attention_mask."""
    time = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), time, dtype=torch.int64)
    labels = torch.full((len(rows), time), IGNORED, dtype=torch.int64)
    mask = torch.zeros(len(rows), time, dtype=torch.int64)
    for row, (ids, prefix) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, prefix : len(ids)] = torch.tensor(ids[prefix:])
        mask[row, : len(ids)] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": mask}


def random_batch(vocab: int, lengths: list[int], key: str) -> dict[str, torch.Tensor]:
    """Rows of uniform random ids, the first third of each without labels."""
    draw = generator(key, "batch")
    rows = [(torch.randint(1, vocab, (n,), generator=draw).tolist(), n // 3) for n in lengths]
    return pad_rows(rows)


def learnable_batch(vocab: int, draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Two ragged rows of a sequence that can be learnt: each id follows from the last, now and then at random."""
    rows = []
    for _ in range(2):
        length = int(torch.randint(4, 10, (), generator=draw))
        ids = [int(torch.randint(0, vocab, (), generator=draw))]
        while len(ids) < length:
            jump = int(torch.randint(0, 8, (), generator=draw)) == 0
            ids.append(int(torch.randint(0, vocab, (), generator=draw)) if jump else (5 * ids[-1] + 3) % vocab)
        rows.append((ids, int(torch.randint(0, 3, (), generator=draw))))
    return pad_rows(rows)


def logits_of(model, batch) -> torch.Tensor:
    """[rows, time, vocab] as f32 or wider.

    Without an attention mask: causal attention keeps padding on the right away from the visible positions, whereas
    a mask leaves padded rows nothing to attend to under a sliding window, which is NaN in f64.
    """
    logits = model(input_ids=batch["input_ids"], use_cache=False).logits
    return logits if logits.dtype == torch.float64 else logits.float()


def visible(logits: torch.Tensor, batch) -> torch.Tensor:
    """The logits with those at padded positions set to zero: they are not defined and must not be compared."""
    return logits.detach().float().masked_fill(batch["attention_mask"][:, :, None] == 0, 0.0)


def loss_sum(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy summed over the shifted labels."""
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def label_count(labels: torch.Tensor) -> int:
    """Number of positions that carry loss: the first column predicts nothing and is not counted."""
    return int((labels[:, 1:] != IGNORED).sum())


def mean_loss(model, batch) -> torch.Tensor:
    """The loss of one batch, per label."""
    return loss_sum(logits_of(model, batch), batch["labels"]) / label_count(batch["labels"])


def trainable(model) -> dict[str, torch.nn.Parameter]:
    """Trainable parameters by the names that PEFT saves them under, without its prefix."""
    return {saved_name(name): weight for name, weight in model.named_parameters() if weight.requires_grad}


def saved_name(name: str) -> str:
    """The name of a parameter in a saved adapter: PEFT's prefix, adapter name and wrappers removed."""
    name = name.removeprefix("base_model.model.").replace(".default.", ".").replace(".modules_to_save.", ".")
    name = name.removesuffix(".default")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def gradients(model, batch) -> dict[str, torch.Tensor]:
    """Gradients of the batch loss with respect to everything trainable."""
    model.zero_grad()
    mean_loss(model, batch).backward()
    return {name: weight.grad.detach().clone() for name, weight in trainable(model).items()}


def windows(vocab: int, steps: int, micro: int, key: str) -> list[list[dict]]:
    """The micro-batches of every optimiser step."""
    draw = generator(key, "train")
    return [[learnable_batch(vocab, draw) for _ in range(micro)] for _ in range(steps)]


def parameter_groups(model, settings: dict) -> list[dict]:
    """One group with weight decay and, if any name is excluded from it, one without."""
    excluded = set(settings.get("no_decay", []))
    named = trainable(model)
    groups = [{"params": [w for n, w in named.items() if n not in excluded], "weight_decay": settings["weight_decay"]}]
    if excluded:
        groups.append({"params": [w for n, w in named.items() if n in excluded], "weight_decay": 0.0})
    return groups


def optimizer_of(model, settings: dict) -> torch.optim.Optimizer:
    """torch's AdamW, or PEFT's LoRA+ over it."""
    how = {"lr": settings["lr"], "betas": tuple(settings["betas"]), "eps": settings["eps"]}
    if "loraplus_lr_ratio" in settings:
        how |= {"loraplus_lr_ratio": settings["loraplus_lr_ratio"], "loraplus_weight_decay": settings["weight_decay"]}
        return create_loraplus_optimizer(model, torch.optim.AdamW, **how)
    return torch.optim.AdamW(parameter_groups(model, settings), **how)


def train(model, batches: list[list[dict]], settings: dict) -> dict[str, list[float]]:
    """AdamW over windows of micro-batches, the loss of a window divided by all labels in that window."""
    optimizer = optimizer_of(model, settings)
    scheduler = SCHEDULES[settings["schedule"]](optimizer, settings["warmup_steps"], settings["steps"])
    record = {"losses": [], "grad_norms": [], "lrs": []}
    for step, window in enumerate(batches):
        labels = sum(label_count(micro["labels"]) for micro in window)
        optimizer.zero_grad()
        total = 0.0
        for number, micro in enumerate(window):
            dropout.begin(model, step, number)
            loss = loss_sum(logits_of(model, micro), micro["labels"]) / labels
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(list(trainable(model).values()), settings["max_grad_norm"])
        record["losses"].append(total)
        record["grad_norms"].append(norm.item())
        record["lrs"].append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return record


def clipping_norm(norms: list[float]) -> float:
    """A norm that clips about half of the steps."""
    return round(statistics.median(norms), 3)


def nmse(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Squared error over squared size of the expected values."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).square().sum() / expected.square().sum().clamp_min(1e-300))


def worst_nmse(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest NMSE over tensors with the same names."""
    return max(nmse(found[name], tensor) for name, tensor in expected.items())


def worst_relative(found: list[float], expected: list[float]) -> float:
    """The largest relative difference over the steps of a run."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
