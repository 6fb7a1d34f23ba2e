"""A full-parameter case: no adapter, every weight is trained, a tied head counts once."""

from pathlib import Path

from safetensors.torch import save_file

import golden
from cases import Case
from store import HERE, VERSIONS, batch_tensors, fresh, prefixed, write_json
from tiny import load_base, save_base

STEPS, MICRO = 5, 2


def settings_of(case: Case, model) -> dict:
    """Settings of the run; `no_decay` names the weights that weight decay leaves alone."""
    spared = [name for name in golden.trainable(model) if "norm" in name or name.endswith("bias")]
    return {
        "steps": STEPS,
        "gradient_accumulation_steps": MICRO,
        "lr": case.lr,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.1,
        "no_decay": spared if case.spare_norms else [],
        "schedule": case.schedule,
        "warmup_steps": 1,
        "max_grad_norm": 1e9,
    }


def run(folder: Path, batch, batches, settings: dict, double: bool) -> tuple[dict, dict, dict]:
    """Gradients of one batch, the record of the training run and the weights after it."""
    model = load_base(folder)
    model = model.double() if double else model
    gradients = golden.gradients(model, batch)
    record = golden.train(model, batches, settings)
    return gradients, record, golden.trainable(model)


def generate(case: Case) -> None:
    """Everything of one full-parameter case."""
    folder = fresh(HERE / case.name)
    save_base(case, folder)
    vocab, model = case.config["vocab_size"], load_base(folder)
    batch = golden.random_batch(vocab, case.lengths, case.name)
    batches = golden.windows(vocab, STEPS, MICRO, case.name)
    settings = settings_of(case, model)
    dry = run(folder, batch, batches, settings, double=False)[1]
    settings["max_grad_norm"] = golden.clipping_norm(dry["grad_norms"])
    gradients, record, trained = run(folder, batch, batches, settings, double=False)
    wide_gradients, wide_record, wide_trained = run(folder, batch, batches, settings, double=True)
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors["base_logits"] = golden.visible(golden.logits_of(model, batch), batch)
    tensors |= prefixed("grad.", gradients) | prefixed("trained.", trained) | batch_tensors(batches)
    save_file(tensors, folder / "golden.safetensors")
    facts = {"case": case.name, "kind": "full", "about": case.about, "versions": VERSIONS}
    facts |= {"all_params": model.num_parameters(), "label_count": golden.label_count(batch["labels"])}
    facts |= {"base_loss": golden.mean_loss(model, batch).item(), "training": settings | record}
    facts["f64_difference"] = {
        "grad_nmse": golden.worst_nmse(wide_gradients, gradients),
        "trained_nmse": golden.worst_nmse(wide_trained, trained),
        "losses_relative": golden.worst_relative(wide_record["losses"], record["losses"]),
    }
    write_json(folder / "golden.json", facts)
    print(f"{case.name}: loss {facts['base_loss']:.4f}", facts["f64_difference"])
