"""A variant case: an adapter case of another kind (DoRA, PiSSA …) over the base of an older case."""

import zlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

import adapter_case
import golden
from adapter_case import MICRO, STEPS
from cases import Variant
from store import HERE, VERSIONS, batch_tensors, counts, fresh, load_adapter, prefixed, write_json
from tiny import generator, load_base, remove_extras, sort_sets


def perturb(model, key: str, residual: bool) -> None:
    """Move everything trainable away from where it starts, so that each part matters."""
    with torch.no_grad():
        for name, weight in golden.trainable(model).items():
            noise = torch.randn(weight.shape, generator=generator(key, name))
            if "lora_B" in name:
                weight.copy_(0.1 * noise + (weight if residual else 0.0))
            elif "lora_A" not in name:
                weight.mul_(1.0 + 0.1 * noise).add_(0.02 * noise)


def save_variant(case: Variant, folder) -> dict[str, torch.Tensor]:
    """Save the adapter; gives what it holds when fresh, of the parts that no random number goes into."""
    torch.manual_seed(zlib.crc32(case.name.encode()))
    model = get_peft_model(load_base(HERE / case.base), LoraConfig(task_type="CAUSAL_LM", **case.lora))
    residual = "init_lora_weights" in case.lora
    start = {name: weight for name, weight in golden.trainable(model).items() if residual or "lora_" not in name}
    start |= {name: weight for name, weight in golden.trainable(model).items() if "magnitude" in name}
    start = prefixed("fresh.", start)
    perturb(model, case.name, residual)
    model.peft_config["default"].base_model_name_or_path = f"tiny/{case.base}"
    model.save_pretrained(folder)
    remove_extras(folder)
    sort_sets(folder / "adapter_config.json")
    return start


def training_settings(case: Variant, model, batches) -> dict:
    """As an adapter case's; biases and norms without weight decay, as transformers' Trainer and LoRA+ keep it."""
    settings = adapter_case.training_settings(case, model, batches, measure=False)
    settings["no_decay"] = [name for name in golden.trainable(model) if name.endswith((".bias", "norm.weight"))]
    if case.loraplus:
        settings["loraplus_lr_ratio"] = case.loraplus
    settings["max_grad_norm"] = golden.clipping_norm(golden.train(model, batches, settings)["grad_norms"])
    return settings


def generate(case: Variant) -> None:
    """Everything of one variant case."""
    folder = fresh(HERE / case.name)
    start = save_variant(case, folder / "adapter")
    vocab = load_base(HERE / case.base).config.vocab_size
    tensors, numbers, noise = adapter_case.forward_golden(
        folder, golden.random_batch(vocab, case.lengths, case.name)
    )
    batches = golden.windows(vocab, STEPS, MICRO, case.name)
    settings = training_settings(case, load_adapter(folder), batches)
    record, trained, training_noise = adapter_case.train_pair(folder, settings, batches)
    tensors |= start | prefixed("trained.", trained) | batch_tensors(batches)
    save_file(tensors, folder / "golden.safetensors")
    facts = {"case": case.name, "kind": "adapter", "base": case.base, "about": case.about, "versions": VERSIONS}
    facts |= {"lora": case.lora} | counts(load_adapter(folder)) | numbers
    facts |= {"training": settings | record, "f64_difference": noise | training_noise}
    write_json(folder / "golden.json", facts)
    print(f"{case.name}: loss {numbers['base_loss']:.4f} adapter {numbers['adapter_loss']:.4f}", facts["f64_difference"])
