"""Packed rows: several documents in one row must give what each document gives alone."""

import torch
from safetensors.torch import save_file

import golden
from store import HERE, VERSIONS, fresh, load_adapter, prefixed, write_json
from tiny import generator, load_base

# Lengths of the documents in each row; the second row ends in padding.
ROWS = [[7, 9], [6, 3, 4]]
PACKED = {"packed_qwen2": "qwen2_tied", "packed_mistral_window": "mistral_window", "packed_qwen3": "qwen3_tied"}


def pack(rows: list[list[torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Documents laid one after another; positions restart, document ids count from 1, 0 is padding.

    A document's first id is no label: nothing in its own document predicts it.
    """
    time = max(sum(len(document) for document in row) for row in rows)
    packed = {key: torch.zeros(len(rows), time, dtype=torch.int64) for key in ("input_ids", "position_ids")}
    packed["document_ids"] = torch.zeros(len(rows), time, dtype=torch.int64)
    packed["labels"] = torch.full((len(rows), time), golden.IGNORED, dtype=torch.int64)
    for index, row in enumerate(rows):
        start = 0
        for number, document in enumerate(row, start=1):
            end = start + len(document)
            packed["input_ids"][index, start:end] = document
            packed["position_ids"][index, start:end] = torch.arange(len(document))
            packed["document_ids"][index, start:end] = number
            packed["labels"][index, start + 1 : end] = document[1:]
            start = end
    return packed


def logits_alone(model, rows: list[list[torch.Tensor]], packed: dict) -> torch.Tensor:
    """The logits of every document run by itself, laid out as the packed rows are."""
    laid_out = []
    for index, row in enumerate(rows):
        parts = [model(input_ids=document[None], use_cache=False).logits[0] for document in row]
        padding = int((packed["document_ids"][index] == 0).sum())
        laid_out.append(torch.cat([*parts, torch.zeros(padding, parts[0].shape[-1])]))
    return torch.stack(laid_out)


def generate(name: str) -> None:
    """One packed case over the base and the adapter of another case."""
    folder, source = fresh(HERE / name), HERE / PACKED[name]
    base, model = load_base(source), load_adapter(source)
    draw = generator(name, "documents")
    vocab = base.config.vocab_size
    rows = [[torch.randint(1, vocab, (length,), generator=draw) for length in row] for row in ROWS]
    packed = pack(rows)
    logits = {
        "base_logits": logits_alone(base, rows, packed),
        "adapter_logits": logits_alone(model, rows, packed),
    }
    labels = golden.label_count(packed["labels"])
    loss = golden.loss_sum(logits["adapter_logits"], packed["labels"]) / labels
    loss.backward()
    gradients = {path: weight.grad for path, weight in golden.trainable(model).items()}
    save_file(packed | prefixed("", logits) | prefixed("grad.", gradients), folder / "golden.safetensors")
    facts = {"case": name, "kind": "packed", "base": PACKED[name], "versions": VERSIONS, "label_count": labels}
    facts["base_loss"] = (golden.loss_sum(logits["base_logits"], packed["labels"]) / labels).item()
    facts["adapter_loss"] = loss.item()
    write_json(folder / "golden.json", facts)
    print(f"{name}: loss {facts['base_loss']:.4f}")
