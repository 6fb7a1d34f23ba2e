"""Goldens that need no tiny model: schedules, parameter counts, and the statistics of a fresh adapter."""

import json
import math

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    get_constant_schedule,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from cases import SEVEN
from store import HERE, VERSIONS, counts, write_json
from tiny import generator, load_base

CONFIGS = HERE.parent / "configs"

# Steps of a run with the warm-up as a number of steps (int) or as a share of them (float).
RUNS = [(1, 0), (1, 1), (10, 0), (10, 3), (10, 10), (20, 0.03), (33, 0.1), (50, 0.5), (7, 12), (200, 0.03)]
SCHEDULES = {
    "constant": lambda optimizer, warmup, steps: get_constant_schedule(optimizer),
    "constant_with_warmup": lambda optimizer, warmup, steps: get_constant_schedule_with_warmup(optimizer, warmup),
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
}

LORAS = {
    "r16_seven": {"r": 16, "target_modules": SEVEN},
    "r8_q_v": {"r": 8, "target_modules": ["q_proj", "v_proj"]},
}

# The layers of Phi-3 that hold several of the others.
FUSED = dict.fromkeys(["q_proj", "k_proj", "v_proj"], "qkv_proj") | dict.fromkeys(["gate_proj", "up_proj"], "gate_up_proj")

INITS = {"kaiming": True, "gaussian": "gaussian"}
INIT_SEEDS, INIT_RANK = 20, 8


def factors(schedule, warmup: int, steps: int) -> list[float]:
    """The learning-rate factor of every step of a run, and of one step more."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, warmup, steps)
    found = []
    for _ in range(steps + 1):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


def generate_schedules(name: str) -> None:
    """schedules.json: factors under every schedule and run length."""
    rows = []
    for kind, schedule in SCHEDULES.items():
        for steps, warmup in RUNS:
            # As transformers' TrainingArguments.get_warmup_steps rounds a share.
            warmup_steps = warmup if isinstance(warmup, int) else math.ceil(steps * warmup)
            row = {"schedule": kind, "steps": steps, "warmup": warmup, "warmup_steps": warmup_steps}
            rows.append(row | {"factors": factors(schedule, warmup_steps, steps)})
    write_json(HERE / "schedules.json", {"kind": "schedules", "versions": VERSIONS, "rows": rows})
    print(f"{name}: {len(rows)} rows")


def empty_model(config_file):
    """The model of a configuration, without storage for its weights."""
    config = AutoConfig.for_model(**json.loads(config_file.read_text()))
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def generate_counts(name: str) -> None:
    """counts.json: parameters of real models, from configs/ alone."""
    found = {}
    for config_file in sorted(CONFIGS.glob("*.json")):
        model = empty_model(config_file)
        found[config_file.stem] = {"parameters": model.num_parameters()}
        for label, lora in LORAS.items():
            names = lora["target_modules"]
            if model.config.model_type == "phi3":
                names = list(dict.fromkeys(FUSED.get(name, name) for name in names))
            lora = lora | {"target_modules": names}
            with torch.device("meta"):
                adapted = get_peft_model(empty_model(config_file), LoraConfig(task_type="CAUSAL_LM", **lora))
            numbers = {"target_modules": names} | counts(adapted)
            numbers["targeted_modules"] = len(numbers["targeted_modules"])
            found[config_file.stem][label] = numbers
        print(f"{name}: {config_file.stem}", found[config_file.stem]["r16_seven"]["print_trainable_parameters"])
    write_json(HERE / "counts.json", {"kind": "counts", "versions": VERSIONS, "loras": LORAS, "models": found})


def statistics_of(values: list[torch.Tensor]) -> dict:
    """Size, mean, standard deviation and range of pooled values."""
    pooled = torch.cat([value.flatten() for value in values]).double()
    return {
        "values": pooled.numel(),
        "mean": pooled.mean().item(),
        "std": pooled.std().item(),
        "min": pooled.min().item(),
        "max": pooled.max().item(),
    }


def fresh_weights(init, seed: int) -> dict[str, torch.Tensor]:
    """The adapter tensors of a fresh Linear(64, 32) and Linear(32, 64) pair as PEFT initialises them."""
    torch.manual_seed(seed)
    layers = torch.nn.ModuleDict({"in64": torch.nn.Linear(64, 32), "in32": torch.nn.Linear(32, 64)})
    config = LoraConfig(r=INIT_RANK, lora_alpha=16, target_modules=list(layers), init_lora_weights=init)
    model = get_peft_model(layers, config)
    return {f"{key}.lora_{side}": getattr(model.base_model.model[key], f"lora_{side}")["default"].weight.detach()
            for key in layers for side in "AB"}  # fmt: skip


def generate_init(name: str) -> None:
    """init.json: distribution of A and B by initialisation and number of inputs, over many seeds."""
    found = {}
    for label, init in INITS.items():
        drawn = [fresh_weights(init, seed) for seed in range(INIT_SEEDS)]
        found[label] = {key: statistics_of([weights[key] for weights in drawn]) for key in drawn[0]}
    facts = {"kind": "init", "versions": VERSIONS, "r": INIT_RANK, "seeds": INIT_SEEDS, "init_lora_weights": found}
    write_json(HERE / "init.json", facts)
    print(f"{name}:", {label: stats["in64.lora_A"]["std"] for label, stats in found.items()})


# Models whose frequencies depend on the length of the sequence, and one whose do not.
LENGTHENED = ["llama_dynamic", "qwen3_longrope", "llama_yarn"]
PROMPT_LENGTHS = [3, 9, 14]
NEW_TOKENS = 12


def generate_continuations(name: str) -> None:
    """continuations.json: greedy tokens with transformers' cache, each prompt by a model that has read nothing before."""
    found = []
    for case in LENGTHENED:
        for length in PROMPT_LENGTHS:
            model = load_base(HERE / case)
            prompt = torch.randint(1, model.config.vocab_size, (1, length), generator=generator(name, case, length))
            tokens = model.generate(
                prompt, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0, use_cache=True
            )
            found.append({"case": case, "prompt": prompt[0].tolist(), "tokens": tokens[0, length:].tolist()})
    write_json(HERE / "continuations.json", {"kind": "continuations", "versions": VERSIONS, "continuations": found})


JOBS = {"continuations": generate_continuations, "schedules": generate_schedules, "counts": generate_counts, "init": generate_init}
