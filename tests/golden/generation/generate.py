"""Writes what transformers generates on the golden models, and what its logits processors make of scores.

    python generate.py      # needs transformers and peft; reads ../models, writes greedy.json and processors.json

greedy.json: by case, `prompts`, and for each of `settings` the new ids of every prompt, alone; `batch` says whether a
left-padded batch gave the same. `margin` is the least distance between the best and the second-best score of all steps:
where it is small, rounding could choose. Under `adapter`, the same with the PEFT adapter of the case.

processors.json: `scores` and `input_ids` (by row, of different lengths), and for each of `settings` the probabilities
after the processors that GenerationMixin puts together, on the batch padded on the left.
"""

import json
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
NEW = 24
LENGTHS = [9, 3, 14]
SETTINGS = [
    {"max_new_tokens": NEW},
    {"max_new_tokens": NEW, "repetition_penalty": 1.3},
]
PROCESSORS = [
    {"do_sample": True, "top_k": 0},
    {"do_sample": True, "temperature": 0.7, "top_k": 0},
    {"do_sample": True, "temperature": 1.9, "top_k": 0},
    {"do_sample": True},
    {"do_sample": True, "top_k": 7},
    {"do_sample": True, "top_k": 1},
    {"do_sample": True, "top_k": 1000},
    {"do_sample": True, "top_k": 0, "top_p": 0.9},
    {"do_sample": True, "top_k": 0, "top_p": 0.3},
    {"do_sample": True, "top_k": 0, "top_p": 0.0},
    {"do_sample": True, "top_k": 0, "repetition_penalty": 1.3},
    {"do_sample": True, "top_k": 0, "repetition_penalty": 0.8},
    {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05},
    {"do_sample": True, "temperature": 1.5, "top_k": 30, "top_p": 0.95, "repetition_penalty": 1.2},
    {"do_sample": False, "repetition_penalty": 1.3},
]


def prompts(vocab: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(vocab)
    return [torch.randint(3, vocab, (length,), generator=generator).tolist() for length in LENGTHS]


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def run(model, rows: list[list[int]], settings: dict) -> tuple[list[list[int]], float]:
    """The new ids of every row, and the least distance between the best two scores."""
    batch = padded(rows)
    config = GenerationConfig(**settings, do_sample=False, pad_token_id=0)
    out = model.generate(**batch, generation_config=config, return_dict_in_generate=True, output_scores=True)
    best = torch.stack(out.scores).topk(2, dim=-1).values
    width = batch["input_ids"].shape[1]
    return out.sequences[:, width:].tolist(), (best[..., 0] - best[..., 1]).min().item()


def measured(model, rows: list[list[int]]) -> list[dict]:
    found = []
    for settings in SETTINGS:
        alone = [run(model, [row], settings) for row in rows]
        ids = [one[0][0] for one in alone]
        together, _ = run(model, rows, settings)
        found.append(settings | {"ids": ids, "batch": together == ids, "margin": min(one[1] for one in alone)})
    # Two tokens that come early end the texts.
    ends = sorted({found[0]["ids"][0][4], found[0]["ids"][2][7]})
    settings = {"max_new_tokens": NEW, "eos_token_id": ends}
    ids = [run(model, [row], settings)[0][0] for row in rows]
    return found + [settings | {"ids": ids, "margin": found[0]["margin"]}]


def greedy() -> dict:
    cases = {}
    for folder in sorted(path.parent for path in MODELS.glob("*/config.json")):
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        # The library fills in an end token where the settings name none.
        base.generation_config.eos_token_id = None
        rows = prompts(base.config.vocab_size)
        case = {"prompts": rows, "base": measured(base, rows)}
        if (folder / "adapter").is_dir():
            case["adapter"] = measured(PeftModel.from_pretrained(base, folder / "adapter").eval(), rows)
        cases[folder.name] = case
        print(folder.name, [one["margin"] for one in case["base"]], [one.get("batch") for one in case["base"]])
    return cases


def processors() -> dict:
    model = AutoModelForCausalLM.from_pretrained(MODELS / "llama_tied")
    vocab, generator = 60, torch.Generator().manual_seed(1)
    scores = 3.0 * torch.randn(4, vocab, generator=generator)
    scores[1, 10:20] = scores[1, 10]  # ties
    scores[2] *= 5  # nearly certain
    rows = [torch.randint(0, vocab, (length,), generator=generator).tolist() for length in (12, 1, 30, 7)]
    batch = padded(rows)
    found = []
    for settings in PROCESSORS:
        config, _ = model._prepare_generation_config(GenerationConfig(**settings))
        given = {"attention_mask": batch["attention_mask"]}
        length = batch["input_ids"].shape[1]
        apply = model._get_logits_processor(config, input_ids_seq_length=length, device="cpu", model_kwargs=given)
        probabilities = apply(batch["input_ids"], scores.clone()).softmax(-1)
        names = [type(one).__name__ for one in apply]
        found.append({"settings": settings, "processors": names, "probabilities": probabilities.tolist()})
        print(settings, names)
    return {"scores": scores.tolist(), "input_ids": rows, "cases": found}


def write(name: str, value) -> None:
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    (HERE / name).write_text(json.dumps({"versions": versions} | value) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("processors.json", processors())
    write("greedy.json", {"cases": greedy()})
