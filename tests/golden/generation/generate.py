"""Writes what transformers generates on the golden models, and what its logits processors make of scores.

    python generate.py [NAME …]   # needs transformers and peft; reads ../models, writes greedy.json, files.json and
                                  # processors.json, or those of them that are named

greedy.json: by case, `prompts`, and for each of `settings` the new ids of every prompt, alone; `batch` says whether a
left-padded batch gave the same. `margin` is the least distance between the best and the second-best score of all steps:
where it is small, rounding could choose. Under `adapter`, the same with the PEFT adapter of the case.

files.json: by case, `prompts`, and for each of `files` the new ids of every prompt, alone, where the model's folder has
this generation_config.json. `margin` as in greedy.json.

processors.json: `scores` and `input_ids` (by row, of different lengths; the first `prompts` of them are the prompt), and
for each of `settings` the probabilities after the processors that GenerationMixin puts together, for each row alone.
"""

import json
import math
import shutil
import sys
import tempfile
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
    {"do_sample": True, "top_k": 0, "min_p": 0.1},
    {"do_sample": True, "top_k": 0, "min_p": 1.0},
    {"do_sample": True, "top_k": 0, "top_h": 0.5},
    {"do_sample": True, "top_k": 0, "top_h": 0.05},
    {"do_sample": True, "top_k": 0, "typical_p": 0.6},
    {"do_sample": True, "top_k": 0, "typical_p": 0.05},
    {"do_sample": True, "top_k": 0, "epsilon_cutoff": 0.02},
    {"do_sample": True, "top_k": 0, "eta_cutoff": 0.02},
    {"do_sample": True, "top_k": 0, "eta_cutoff": 0.3},
    {"do_sample": True, "temperature": 0.8, "top_h": 0.9, "top_k": 30, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9,
     "epsilon_cutoff": 0.001, "eta_cutoff": 0.002, "renormalize_logits": True},
    {"sequence_bias": [[[5], -4.5], [[17, 40], 3.25], [[51, 17, 40], 1.5], [[8], 2.0]]},
    {"encoder_repetition_penalty": 1.3},
    {"encoder_repetition_penalty": 0.7, "repetition_penalty": 1.2},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"encoder_no_repeat_ngram_size": 1},
    {"encoder_no_repeat_ngram_size": 2},
    {"bad_words_ids": [[3], [17, 40], [51, 17, 44], [9], [2]], "eos_token_id": [2, 9]},
    {"min_length": 12, "eos_token_id": [2, 9]},
    {"min_length": 40, "min_new_tokens": 3, "eos_token_id": 9},
    {"forced_bos_token_id": 7},
    {"forced_bos_token_id": 7, "begin_suppress_tokens": [7, 11, 13]},
    {"begin_suppress_tokens": [11, 13, 1000]},
    {"suppress_tokens": [0, 11, 13, 59, 1000]},
    {"max_length": 13, "forced_eos_token_id": [2, 9]},
    {"exponential_decay_length_penalty": [2, 1.4], "eos_token_id": [2, 9]},
    {"do_sample": True, "top_k": 12, "temperature": 0.9, "repetition_penalty": 1.1, "no_repeat_ngram_size": 2,
     "bad_words_ids": [[3], [17, 40]], "min_new_tokens": 3, "suppress_tokens": [11], "eos_token_id": [2, 9],
     "exponential_decay_length_penalty": [1, 1.1], "sequence_bias": [[[8], 2.0]], "remove_invalid_values": True},
]
FILES = {
    "llama_tied": [
        {"max_length": 30},
        {"max_length": 30, "max_new_tokens": 6},
        {"max_new_tokens": NEW, "bad_words_ids": "BAD"},
        {"max_new_tokens": NEW, "bad_words_ids": "PAIRS"},
        {"max_new_tokens": NEW, "suppress_tokens": "OFTEN"},
        {"max_new_tokens": NEW, "begin_suppress_tokens": "FIRST"},
        {"max_new_tokens": NEW, "forced_bos_token_id": 7},
        {"max_new_tokens": NEW, "forced_bos_token_id": 7, "begin_suppress_tokens": "FIRST"},
        {"forced_eos_token_id": 11},
        {"max_length": 21, "forced_eos_token_id": [11, 12]},
        {"max_new_tokens": NEW, "sequence_bias": "BIAS"},
        {"max_new_tokens": NEW, "encoder_repetition_penalty": 1.3},
        {"max_new_tokens": NEW, "repetition_penalty": 1.3, "renormalize_logits": True},
        {"max_new_tokens": NEW, "no_repeat_ngram_size": 2},
        {"max_new_tokens": NEW, "encoder_no_repeat_ngram_size": 1, "remove_invalid_values": True},
        {"max_new_tokens": NEW, "eos_token_id": "ENDS"},
        {"max_new_tokens": NEW, "eos_token_id": "ENDS", "min_length": 16},
        {"max_new_tokens": NEW, "eos_token_id": "ENDS", "min_new_tokens": 9, "min_length": 40},
        {"max_new_tokens": NEW, "eos_token_id": "ENDS", "exponential_decay_length_penalty": [3, 1.5]},
        {"max_new_tokens": NEW, "guidance_scale": 1.5},
        {"max_new_tokens": NEW, "guidance_scale": 0.4},
        {"max_new_tokens": 9, "temperature": 0.0, "top_k": 3, "top_p": 7.0, "min_p": 0.2},
        {"max_new_tokens": 9, "num_beams": 1, "length_penalty": 2.0, "early_stopping": True, "use_cache": False},
        {"max_new_tokens": 9, "eos_token_id": -1, "pad_token_id": 0, "bos_token_id": 1, "chat_format": "chatml"},
        {},
    ],
    "qwen3_tied": [
        {"max_new_tokens": NEW, "guidance_scale": 2.0, "repetition_penalty": 1.2, "suppress_tokens": "OFTEN"},
        {"max_length": 20, "no_repeat_ngram_size": 1, "forced_eos_token_id": 5},
    ],
}


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


def filled(settings: dict, ids: list[list[int]]) -> dict:
    """Settings that speak of the tokens that come without them."""
    words = {
        "BAD": [[ids[0][3]], [ids[1][0]]],
        "PAIRS": [ids[0][2:4], ids[2][5:8]],
        "OFTEN": sorted({row[2] for row in ids}),
        "FIRST": sorted({row[0] for row in ids}),
        "BIAS": [[[ids[0][0]], -10.0], [ids[2][4:6], -6.5]],
        "ENDS": sorted({ids[0][4], ids[2][7]}),
    }
    return {name: words[value] if isinstance(value, str) and value in words else value for name, value in settings.items()}


def of_file(folder: Path, settings: dict | None, rows: list[list[int]]) -> tuple[list[list[int]], float]:
    """The new ids of every row, alone, by a model with this generation_config.json; the least distance between the
    best two scores."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "model"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("golden.*", "adapter"))
        if settings is not None:
            (copy / "generation_config.json").write_text(json.dumps(settings))
        model = AutoModelForCausalLM.from_pretrained(copy, dtype=torch.float32, attn_implementation="eager").eval()
    ids, margin = [], math.inf
    for row in rows:
        given = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, len(row), dtype=torch.long)}
        out = model.generate(**given, return_dict_in_generate=True, output_scores=True)
        ids.append(out.sequences[0, len(row) :].tolist())
        best = torch.stack(out.scores).topk(2, dim=-1).values
        distances = best[..., 0] - best[..., 1]
        margin = min(margin, distances[distances.isfinite()].min().item())
    return ids, margin


def files() -> dict:
    cases = {}
    for name, all_settings in FILES.items():
        folder = MODELS / name
        rows = prompts(json.loads((folder / "config.json").read_text())["vocab_size"]) + [[4]]
        plain, _ = of_file(folder, {"max_new_tokens": NEW}, rows)
        found = []
        for settings in all_settings:
            settings = filled(settings, plain)
            ids, margin = of_file(folder, settings, rows)
            found.append({"file": settings, "ids": ids, "margin": margin})
            print(name, settings, margin, "as without" if ids == [row[: len(own)] for row, own in zip(plain, ids)] else "")
        ids, margin = of_file(folder, None, rows)
        found.append({"file": None, "ids": ids, "margin": margin})
        cases[name] = {"prompts": rows, "files": found}
    return {"cases": cases}


def processors() -> dict:
    model = AutoModelForCausalLM.from_pretrained(MODELS / "llama_tied")
    model.generation_config = GenerationConfig()
    vocab, generator = 60, torch.Generator().manual_seed(1)
    scores = 3.0 * torch.randn(4, vocab, generator=generator)
    scores[1, 10:20] = scores[1, 10]  # ties
    scores[2] *= 5  # nearly certain
    rows = [torch.randint(0, vocab, (length,), generator=generator).tolist() for length in (12, 1, 30, 7)]
    # Sequences that settings speak of, and that come twice.
    rows[0][-2:] = [51, 17]
    rows[0][2:5] = [51, 17, 40]
    rows[2][4:7] = [9, 51, 17]
    rows[2][-3:] = [9, 51, 17]
    prompts = [8, 1, 25, 7]
    found = []
    for settings in PROCESSORS:
        probabilities = []
        for row, prompt, score in zip(rows, prompts, scores):
            config, _ = model._prepare_generation_config(GenerationConfig(**settings))
            ids = torch.tensor([row])
            model._prepare_special_tokens(config, True, device="cpu", batch_size=1)
            default = "min_length" not in settings
            config = model._prepare_generated_length(config, "max_length" not in settings, default, "input_ids", prompt, ids[:, :prompt])
            given = {"attention_mask": torch.ones_like(ids)}
            apply = model._get_logits_processor(
                config, input_ids_seq_length=prompt, encoder_input_ids=ids[:, :prompt], device="cpu", model_kwargs=given
            )
            made = apply(ids, score[None].clone()).softmax(-1)[0].tolist()
            probabilities.append([float(f"{one:.9g}") for one in made])
        names = [type(one).__name__ for one in apply]
        found.append({"settings": settings, "processors": names, "probabilities": probabilities})
        print(settings, names, [sum(one == 0 for one in row) for row in probabilities])
    return {"scores": scores.tolist(), "input_ids": rows, "prompts": prompts, "cases": found}


def write(name: str, value) -> None:
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    (HERE / name).write_text(json.dumps({"versions": versions} | value) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    made = {"processors.json": processors, "files.json": files, "greedy.json": lambda: {"cases": greedy()}}
    for name in sys.argv[1:] or made:
        write(name, made[name]())
