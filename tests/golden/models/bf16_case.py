"""A base stored in bf16 or f16 with an f32 adapter, measured in that dtype and, widened, in f32."""

import torch
from safetensors.torch import save_file

import dropout
import golden
from cases import Case
from store import HERE, VERSIONS, batch_tensors, counts, fresh, load_adapter, prefixed, write_json
from tiny import load_base, save_adapter, save_base

KINDS = {"bfloat16": "bf16", "float16": "f16"}
TRAINING = {"steps": 8, "lr": 5e-3}


def measure(folder, batch, **how) -> tuple[dict, dict, dict]:
    """Logits, losses and adapter gradients under a dtype and an attention implementation."""
    base, model = load_base(folder, **how), load_adapter(folder, **how)
    logits = {
        "base_logits": golden.visible(golden.logits_of(base, batch), batch),
        "adapter_logits": golden.visible(golden.logits_of(model, batch), batch),
    }
    losses = {
        "base_loss": golden.mean_loss(base, batch).item(),
        "adapter_loss": golden.mean_loss(model, batch).item(),
    }
    return logits, losses, golden.gradients(model, batch)


def distance(found: tuple[dict, dict, dict], wide: tuple[dict, dict, dict]) -> dict:
    """How far a bf16 run lies from the f32 run: the bound for any other bf16 implementation is of this size."""
    logits, losses, gradients = found
    return losses | {
        "base_logits_nmse": golden.nmse(logits["base_logits"], wide[0]["base_logits"]),
        "adapter_logits_nmse": golden.nmse(logits["adapter_logits"], wide[0]["adapter_logits"]),
        "grad_nmse": golden.worst_nmse(gradients, wide[2]),
    }


def train(folder, batches, scale: float, **how) -> list[float]:
    """The losses of a short run with Adam; the loss is scaled for its way backward, as a GradScaler does."""
    model = load_adapter(folder, **how)
    optimizer = torch.optim.AdamW(golden.trainable(model).values(), lr=TRAINING["lr"], weight_decay=0.0)
    losses = []
    for step, (batch,) in enumerate(batches):
        dropout.begin(model, step, 0)
        optimizer.zero_grad()
        loss = golden.mean_loss(model, batch)
        (loss * scale).backward()
        for weight in golden.trainable(model).values():
            weight.grad /= scale
        optimizer.step()
        losses.append(loss.item())
    return losses


def training(folder, batches) -> dict:
    """Losses in f32, and how far those in f16 lie from them at most."""
    wide = train(folder, batches, 1.0, dtype="float32")
    narrow = [train(folder, batches, 1024.0, dtype="float16", attention=which) for which in ("eager", "sdpa")]
    return TRAINING | {"losses": wide, "distance": max(golden.worst_relative(losses, wide) for losses in narrow)}


def generate(case: Case) -> None:
    """Everything of one case."""
    folder = fresh(HERE / case.name)
    save_base(case, folder)
    save_adapter(load_base(folder, dtype=case.dtype), case.lora, case.name, folder / "adapter")
    batch = golden.random_batch(case.config["vocab_size"], case.lengths, case.name)
    wide = measure(folder, batch, dtype="float32")
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors |= wide[0] | prefixed("grad.", wide[2])
    kind = KINDS[case.dtype]
    facts = {"case": case.name, "kind": kind, "about": case.about, "versions": VERSIONS, "lora": case.lora}
    facts |= counts(load_adapter(folder)) | {"label_count": golden.label_count(batch["labels"])} | wide[1]
    for attention in ("eager", "sdpa"):
        narrow = measure(folder, batch, dtype=case.dtype, attention=attention)
        facts[f"{kind}.{attention}"] = distance(narrow, wide)
    if kind == "f16":
        batches = golden.windows(case.config["vocab_size"], TRAINING["steps"], 1, case.name)
        facts["training"] = training(folder, batches)
        tensors |= batch_tensors(batches)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "golden.json", facts)
    print(f"{case.name}:", facts[f"{kind}.eager"], facts.get("training"))
