"""The bf16 case: a base stored in bf16 with an f32 adapter, measured in bf16 and, widened, in f32."""

from safetensors.torch import save_file

import golden
from cases import Case
from store import HERE, VERSIONS, counts, fresh, load_adapter, prefixed, write_json
from tiny import load_base, save_adapter, save_base


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


def generate(case: Case) -> None:
    """Everything of the bf16 case."""
    folder = fresh(HERE / case.name)
    save_base(case, folder)
    save_adapter(load_base(folder, dtype="bfloat16"), case.lora, case.name, folder / "adapter")
    batch = golden.random_batch(case.config["vocab_size"], case.lengths, case.name)
    wide = measure(folder, batch, dtype="float32")
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors |= wide[0] | prefixed("grad.", wide[2])
    facts = {"case": case.name, "kind": "bf16", "about": case.about, "versions": VERSIONS, "lora": case.lora}
    facts |= counts(load_adapter(folder)) | {"label_count": golden.label_count(batch["labels"])} | wide[1]
    for attention in ("eager", "sdpa"):
        narrow = measure(folder, batch, dtype="bfloat16", attention=attention)
        tensors |= prefixed(f"bf16.{attention}.", narrow[0]) | prefixed(f"bf16.{attention}.grad.", narrow[2])
        facts[f"bf16.{attention}"] = distance(narrow, wide)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "golden.json", facts)
    print(f"{case.name}:", facts["bf16.eager"])
