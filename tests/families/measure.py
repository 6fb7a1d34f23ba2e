"""What transformers and PEFT compute with a drawn model, in f64: logits, losses, gradients, training, texts."""

from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers.core_model_loading import revert_weight_conversion

import golden
import packed_case
from build import build, load
from declarations import SHAPES
from draw import Drawn
from in_double import in_double
from store import batch_tensors, counts
from tiny import generator

# Longer than every window, and than the rows for which `longrope` has its short factors.
ROWS = [19, 13, 6]
DOCUMENTS = [[12, 8], [11, 3, 5]]
PROMPTS, NEW_TOKENS = [3, 9, 14], 10
STEPS, MICRO = 20, 2
TRAINING = {
    "steps": STEPS,
    "gradient_accumulation_steps": MICRO,
    "lr": 5e-3,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "schedule": "linear",
    "warmup_steps": 3,
}
# The least change of the logits (NMSE) that shows a setting: a hundred times the limit of the comparison in f32.
VISIBLE = 1e-8


def wide_base(folder: Path):
    """The base in f64."""
    return load(folder).double()


def wide_adapter(folder: Path):
    """Base and adapter in f64."""
    return PeftModel.from_pretrained(load(folder), folder / "adapter", is_trainable=True).double().eval()


def visible(logits: torch.Tensor, batch: dict) -> torch.Tensor:
    """The logits with 0 at padded positions."""
    return logits.detach().masked_fill(batch["attention_mask"][:, :, None] == 0, 0.0)


def named(prefix: str, tensors: dict) -> dict:
    """Detached copies under `prefix`."""
    return {prefix + name: tensor.detach().clone() for name, tensor in tensors.items()}


def in_files(model, gradients: dict) -> dict:
    """The gradients of a base under the names of its files, where each expert has its own weights."""
    return gradients if isinstance(model, PeftModel) else revert_weight_conversion(model, gradients)


def forward(folder: Path, batch: dict) -> tuple[dict, dict]:
    """Logits, losses, the gradients of the adapter, and those of every weight of the base."""
    base, model = wide_base(folder), wide_adapter(folder)
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    numbers = {"label_count": golden.label_count(batch["labels"])}
    for name, each, gradients in (("base", base, "full_grad."), ("adapter", model, "grad.")):
        with in_double(each):
            tensors[f"{name}_logits"] = visible(golden.logits_of(each, batch), batch)
            numbers[f"{name}_loss"] = golden.mean_loss(each, batch).item()
            tensors |= named(gradients, in_files(each, golden.gradients(each, batch)))
    change = golden.nmse(tensors["adapter_logits"], tensors["base_logits"])
    assert change > VISIBLE, f"{folder}: the adapter changes the logits by an NMSE of {change} only"
    return tensors, numbers


def train(folder: Path, vocab: int, key: str) -> tuple[dict, dict]:
    """Twenty steps of AdamW, clipped about every other step."""
    batches = golden.windows(vocab, STEPS, MICRO, key)

    def run(max_grad_norm: float) -> tuple:
        model, settings = wide_adapter(folder), TRAINING | {"max_grad_norm": max_grad_norm}
        with in_double(model):
            return model, settings | golden.train(model, batches, settings)

    _, unclipped = run(1e9)
    model, record = run(golden.clipping_norm(unclipped["grad_norms"]))
    return named("trained.", golden.trainable(model)) | batch_tensors(batches), record


def packed(folder: Path, vocab: int, key: str) -> tuple[dict, dict]:
    """Documents in packed rows: the logits of each alone, and the gradients of their summed loss."""
    model = wide_adapter(folder)
    draw = generator(key, "documents")
    rows = [[torch.randint(1, vocab, (length,), generator=draw) for length in row] for row in DOCUMENTS]
    batch = packed_case.pack(rows)
    labels = golden.label_count(batch["labels"])
    with in_double(model):
        logits = packed_case.logits_alone(model, rows, batch).double()
        loss = golden.loss_sum(logits, batch["labels"]) / labels
        loss.backward()
    gradients = {name: weight.grad for name, weight in golden.trainable(model).items()}
    tensors = {f"packed.{name}": tensor for name, tensor in batch.items()}
    tensors |= {"packed.logits": logits.detach()} | named("packed.grad.", gradients)
    return tensors, {"packed_loss": loss.item()}


def continuations(folder: Path, vocab: int, key: str) -> list[dict]:
    """Greedy texts of base and adapter, with transformers' cache, each prompt by itself."""
    found = []
    for length in PROMPTS:
        prompt = torch.randint(1, vocab, (1, length), generator=generator(key, "prompt", length))
        texts = {"prompt": prompt[0].tolist()}
        for name, wide in (("base", wide_base), ("adapter", wide_adapter)):
            model = wide(folder)
            with in_double(model):
                ids = model.generate(
                    input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False,
                    eos_token_id=None, pad_token_id=0, use_cache=True,
                )  # fmt: skip
            texts[name] = ids[0, length:].tolist()
        found.append(texts)
    return found


def contrasts(drawn: Drawn, folder: Path, tensors: dict) -> dict[str, float]:
    """How far another value of an axis moves the logits, for each pair of values that leaves the weights as they are."""
    base, found = load(folder).state_dict(), {}
    shapes = {name: weight.shape for name, weight in base.items()}
    for axis, values in drawn.family.axes.items():
        for other in range(len(values)):
            if axis in SHAPES or other == drawn.choices[axis]:
                continue
            changed = build(drawn.family.name, drawn.config({axis: other}))
            if {name: weight.shape for name, weight in changed.state_dict().items()} != shapes:
                continue
            changed.load_state_dict(base)
            changed = changed.double()
            with in_double(changed), torch.no_grad():
                logits = visible(golden.logits_of(changed, tensors), tensors)
            first, last = sorted((other, drawn.choices[axis]))
            found[f"{axis}, {first} and {last}"] = golden.nmse(logits, tensors["base_logits"])
    return found


def silent(tensors: dict) -> list[str]:
    """Weights of the base that the loss does not depend on."""
    return [
        name.removeprefix("full_grad.")
        for name, gradient in tensors.items()
        if name.startswith("full_grad.") and gradient.abs().max() < 1e-9
    ]


def record(drawn: Drawn, folder: Path, lora: dict) -> tuple[dict, dict]:
    """Everything of one model: tensors and facts."""
    key = f"{drawn.family.name}/{drawn.name}"
    model = load(folder)
    vocab = model.config.vocab_size
    tensors, facts = forward(folder, golden.random_batch(vocab, ROWS, key))
    of_packed, loss = packed(folder, vocab, key)
    trained, training = train(folder, vocab, key)
    facts |= loss | {"training": training, "continuations": continuations(folder, vocab, key)}
    facts |= {"parameters": model.num_parameters(), "contrasts": contrasts(drawn, folder, tensors)}
    facts |= {"silent": silent(tensors), "lora": lora, "config": drawn.config()}
    facts |= counts(PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True))
    return tensors | of_packed | trained, facts


def save(tensors: dict, path: Path) -> None:
    """Tied weights have one gradient; safetensors wants each tensor to own its numbers."""
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, path)
