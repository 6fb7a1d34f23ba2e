"""Writes what the tests of training are held against.

    python generate.py                # all
    python generate.py grouped        # one

grouped.json: the order of rows that transformers' LengthGroupedSampler gives, and the permutation that it draws:
lorhai draws another one. defaults.json: the defaults that docs/defaults.md compares, as the classes and functions
have them. divergence.json, divergence/: an adapter by PEFT over scripts/tiny, and the KL divergence of its answers
from the base's at every token of two rows of different lengths.
"""

import dataclasses
import enum
import inspect
import json
import random
import shutil
import sys
from pathlib import Path

import datasets
import peft
import torch
import transformers
import trl
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS
from transformers.trainer_pt_utils import get_length_grouped_indices
from trl.experimental.cpo import CPOConfig
from trl.experimental.orpo import ORPOConfig

HERE = Path(__file__).parent
TINY = HERE.parents[2] / "scripts" / "tiny"


def grouped():
    cases = []
    draw = random.Random(0)
    for rows, batch_size in [(1, 4), (7, 2), (16, 4), (40, 8), (100, 1), (400, 2), (450, 2), (33, 64)]:
        # Few lengths, so that equal ones are frequent.
        lengths = [draw.choice([3, 5, 8, 13, 40, 40, 90]) for _ in range(rows)]
        generator = torch.Generator().manual_seed(rows)
        permutation = torch.randperm(rows, generator=generator).tolist()
        indices = get_length_grouped_indices(lengths, batch_size, generator=torch.Generator().manual_seed(rows))
        cases.append({"batch_size": batch_size, "lengths": lengths, "permutation": permutation, "indices": indices})
    write("grouped.json", {"transformers": transformers.__version__, "cases": cases})


def defaults():
    quantization = transformers.BitsAndBytesConfig(load_in_4bit=True).to_dict()
    content = {
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, peft, trl, datasets)},
        "TrainingArguments": of_class(transformers.TrainingArguments),
        "SFTConfig": of_class(trl.SFTConfig),
        "DPOConfig": of_class(trl.DPOConfig),
        "ORPOConfig": of_class(ORPOConfig),
        "CPOConfig": of_class(CPOConfig),
        "KTOConfig": of_class(trl.KTOConfig),
        "GRPOConfig": of_class(trl.GRPOConfig),
        "LoraConfig": of_class(peft.LoraConfig) | {"target_modules": TARGETS["llama"]},
        "AdamW": of_function(torch.optim.AdamW.__init__),
        "BitsAndBytesConfig": {name: value for name, value in quantization.items() if name.startswith("bnb_")},
        "GenerationConfig": transformers.GenerationConfig._get_default_generation_params(),
        "train_test_split": of_function(datasets.Dataset.train_test_split),
        "shuffle": of_function(datasets.Dataset.shuffle),
    }
    assert TARGETS["llama"] == TARGETS["qwen2"] == TARGETS["mistral"]
    write("defaults.json", content, indent=1)


def of_class(made):
    """The defaults of a dataclass that are plain values."""
    found = {}
    for field in dataclasses.fields(made):
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        value = value.value if isinstance(value, enum.Enum) else value
        if is_plain(value):
            found[field.name] = value
    return found


def of_function(function):
    found = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    found |= {"beta1": found["betas"][0], "beta2": found["betas"][1]} if "betas" in found else {}
    return {name: value for name, value in found.items() if is_plain(value)}


def is_plain(value):
    return value is None or isinstance(value, (bool, int, float, str, list, dict))


def divergence():
    model = transformers.AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY)
    texts = ["the small fox", "the small fox sees a red bird near the old bridge and the young crow finds one sheep today"]
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1, 3])
    adapted = peft.get_peft_model(model, config)
    for name, values in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.2)
    folder = HERE / "divergence"
    shutil.rmtree(folder, ignore_errors=True)
    # The name is written into the adapter's configuration.
    adapted.peft_config["default"].base_model_name_or_path = "scripts/tiny"
    adapted.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    rows = [tokenizer(text).input_ids + [tokenizer.eos_token_id] for text in texts]
    at_tokens = []
    with torch.no_grad():
        for ids in rows:
            # One row at a time: there is no padding that could count.
            ours = adapted(torch.tensor([ids])).logits.double().log_softmax(-1)
            with adapted.disable_adapter():
                base = adapted(torch.tensor([ids])).logits.double().log_softmax(-1)
            at_tokens.append((ours.exp() * (ours - base)).sum(-1)[0])
    everywhere = torch.cat(at_tokens)
    padded = sum(len(row) for row in at_tokens) / (len(rows) * max(map(len, rows)))
    content = {
        "texts": texts,
        "ids": rows,
        "per_token": everywhere.mean().item(),
        "with_padding": everywhere.mean().item() * padded,
    }
    write("divergence.json", content)


def write(name, content, indent=None):
    (HERE / name).write_text(json.dumps(content, indent=indent) + "\n")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ["grouped", "defaults", "divergence"]:
        globals()[wanted]()
