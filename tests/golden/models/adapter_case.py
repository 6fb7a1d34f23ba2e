"""An adapter case: a base, a PEFT adapter, its logits, losses and gradients, and twenty training steps."""

from pathlib import Path

from safetensors.torch import save_file

import golden
from cases import Case
from store import HERE, VERSIONS, base_folder, batch_tensors, counts, fresh, load_adapter, prefixed, write_json
from tiny import load_base, save_adapter, save_base

STEPS, MICRO = 20, 2


def training_settings(case: Case, model, batches, measure: bool = True) -> dict:
    """Settings of the training run; the clipping norm is found by a run without clipping, unless told not to."""
    settings = {
        "steps": STEPS,
        "gradient_accumulation_steps": MICRO,
        "lr": case.lr,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.01,
        "schedule": case.schedule,
        "warmup_steps": 3,
        "max_grad_norm": 1e9,
    }
    if measure:
        settings["max_grad_norm"] = golden.clipping_norm(golden.train(model, batches, settings)["grad_norms"])
    return settings


def check_clipping(record: dict, settings: dict) -> None:
    """Some steps must be clipped and some not, or the case does not test clipping."""
    clipped = sum(norm > settings["max_grad_norm"] for norm in record["grad_norms"])
    assert 0 < clipped < len(record["grad_norms"]), f"{clipped} steps clipped"


def train_pair(folder: Path, settings: dict, batches) -> tuple[dict, dict, dict]:
    """The training run in f32, its final weights, and how far a run in f64 ends from them."""
    model, wide = load_adapter(folder), load_adapter(folder, double=True)
    record, wide_record = golden.train(model, batches, settings), golden.train(wide, batches, settings)
    check_clipping(record, settings)
    trained = golden.trainable(model)
    noise = {
        "trained_nmse": golden.worst_nmse(golden.trainable(wide), trained),
        "losses_relative": golden.worst_relative(wide_record["losses"], record["losses"]),
    }
    return record, trained, noise


def forward_golden(folder: Path, batch) -> tuple[dict, dict, dict]:
    """Logits, losses and gradients of the base and of the adapter: tensors, numbers, and f32 against f64."""
    base, model, wide = load_base(base_folder(folder)), load_adapter(folder), load_adapter(folder, double=True)
    base_logits, adapter_logits = golden.logits_of(base, batch), golden.logits_of(model, batch)
    gradients = golden.gradients(model, batch)
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors["base_logits"] = golden.visible(base_logits, batch)
    tensors["adapter_logits"] = golden.visible(adapter_logits, batch)
    numbers = {
        "label_count": golden.label_count(batch["labels"]),
        "base_loss": golden.mean_loss(base, batch).item(),
        "adapter_loss": golden.mean_loss(model, batch).item(),
    }
    noise = {
        "logits_nmse": golden.nmse(golden.visible(golden.logits_of(wide, batch), batch), tensors["adapter_logits"]),
        "grad_nmse": golden.worst_nmse(golden.gradients(wide, batch), gradients),
    }
    check_forward(base, model, batch, numbers, tensors)
    return tensors | prefixed("grad.", gradients), numbers, noise


def check_forward(base, model, batch, numbers: dict, tensors: dict) -> None:
    """The numbers must be the library's own, and the adapter must matter."""
    theirs = base(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    assert abs(theirs.loss.item() - numbers["base_loss"]) < 1e-5, "loss differs from transformers"
    masked = golden.nmse(golden.visible(theirs.logits, batch), tensors["base_logits"])
    assert masked < 1e-12, f"the attention mask changes visible logits by an NMSE of {masked}"
    change = golden.nmse(tensors["adapter_logits"], tensors["base_logits"])
    assert change > 1e-4, f"the adapter changes the logits by an NMSE of {change} only"


def check_contrast(case: Case, folder: Path, tensors: dict) -> dict:
    """Without the settings under test the logits must be others; returns by how much."""
    if not case.contrast:
        return {}
    batch = {key: tensors[key] for key in ("input_ids", "attention_mask")}
    other = golden.visible(golden.logits_of(load_base(folder, **case.contrast), batch), batch)
    difference = golden.nmse(other, tensors["base_logits"])
    assert difference > 1e-3, f"{case.contrast} changes the logits by an NMSE of {difference} only"
    return {"contrast_nmse": difference}


def generate(case: Case) -> None:
    """Everything of one adapter case."""
    folder = fresh(HERE / case.name)
    save_base(case, folder)
    save_adapter(load_base(folder), case.lora, case.name, folder / "adapter")
    vocab = case.config["vocab_size"]
    tensors, numbers, noise = forward_golden(folder, golden.random_batch(vocab, case.lengths, case.name))
    batches = golden.windows(vocab, STEPS, MICRO, case.name)
    settings = training_settings(case, load_adapter(folder), batches)
    record, trained, training_noise = train_pair(folder, settings, batches)
    tensors |= prefixed("trained.", trained) | batch_tensors(batches)
    save_file(tensors, folder / "golden.safetensors")
    facts = {"case": case.name, "kind": "adapter", "about": case.about, "versions": VERSIONS, "lora": case.lora}
    facts |= counts(load_adapter(folder)) | numbers
    facts |= {"training": settings | record, "f64_difference": noise | training_noise}
    facts |= check_contrast(case, folder, tensors)
    write_json(folder / "golden.json", facts)
    print(f"{case.name}: loss {numbers['base_loss']:.4f} adapter {numbers['adapter_loss']:.4f}", facts["f64_difference"])
