"""The loss of trl's GRPOTrainer for given samples, and its gradients, in f32.

    python generate.py

Writes, beside this file:
  start/              an adapter on scripts/tiny, by peft; B is not zero, so it is not the base
  samples.json        prompts and samples of different lengths with their advantages, and log-probabilities of an older model
  losses.json         for each case its settings, the loss, and the logged metrics
  gradients.safetensors   the gradients of the adapter by case

Made with trl 1.16, transformers 5.24, peft 0.21, torch 2.11.
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

HERE = Path(__file__).parent
TINY = HERE.parents[2] / "scripts/tiny"
# Name, settings of the trainer, whether the samples are of an older model.
CASES = [
    ("grpo", {"loss_type": "grpo"}, False),
    ("bnpo", {"loss_type": "bnpo"}, True),
    ("dr_grpo", {"loss_type": "dr_grpo", "beta": 0.04}, True),
    ("dapo", {"loss_type": "dapo", "epsilon_high": 0.28}, True),
    ("dapo_kl", {"loss_type": "dapo", "beta": 0.1}, False),
    ("uncorrected", {"loss_type": "dapo", "beta": 0.1, "use_bias_correction_kl": False}, True),
    ("sequence", {"loss_type": "grpo", "importance_sampling_level": "sequence", "beta": 0.04}, True),
    ("cool", {"loss_type": "bnpo", "temperature": 0.7, "beta": 0.04}, True),
]


def model():
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32, attn_implementation="eager")


def make_start():
    torch.manual_seed(3)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapter = get_peft_model(model(), config)
    for name, parameter in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    shutil.rmtree(HERE / "start", ignore_errors=True)
    adapter.save_pretrained(HERE / "start")
    (HERE / "start/README.md").unlink(missing_ok=True)
    settings = json.loads((HERE / "start/adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "scripts/tiny"
    (HERE / "start/adapter_config.json").write_text(json.dumps(settings, indent=2))


def make_samples(vocabulary):
    generator = torch.Generator().manual_seed(5)
    ids = lambda count: torch.randint(5, vocabulary, (count,), generator=generator).tolist()
    prompts = [ids(6), ids(3)]
    samples = []
    for prompt in prompts:
        for length in (7, 2, 5):
            samples.append({"prompt_ids": prompt, "ids": ids(length)})
    advantages = [0.9, -1.1, 0.2, 1.3, -0.4, -0.9]
    for sample, advantage in zip(samples, advantages):
        sample["advantage"] = advantage
    return samples


def inputs_of(samples):
    width = max(len(sample["prompt_ids"]) for sample in samples)
    length = max(len(sample["ids"]) for sample in samples)
    left = lambda row, fill: [fill] * (width - len(row)) + row
    right = lambda row, fill: row + [fill] * (length - len(row))
    ones = lambda row: [1] * len(row)
    completion_mask = torch.tensor([right(ones(sample["ids"]), 0) for sample in samples])
    return {
        "prompt_ids": torch.tensor([left(sample["prompt_ids"], 0) for sample in samples]),
        "prompt_mask": torch.tensor([left(ones(sample["prompt_ids"]), 0) for sample in samples]),
        "completion_ids": torch.tensor([right(sample["ids"], 0) for sample in samples]),
        "completion_mask": completion_mask,
        "advantages": torch.tensor([sample["advantage"] for sample in samples]),
        "num_items_in_batch": completion_mask.sum(),
    }


def trainer_of(settings, folder):
    adapter = PeftModel.from_pretrained(model(), HERE / "start", is_trainable=True)
    config = GRPOConfig(
        output_dir=folder, per_device_train_batch_size=6, num_generations=3, max_completion_length=12, bf16=False,
        gradient_checkpointing=False, report_to=[], use_cpu=True, **settings,
    )
    return GRPOTrainer(
        model=adapter, reward_funcs=lambda completions, **_: [0.0 for _ in completions], args=config,
        train_dataset=Dataset.from_list([{"prompt": "a"}, {"prompt": "b"}]),
        processing_class=AutoTokenizer.from_pretrained(TINY),
    )


def logprobs(trainer, inputs):
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    with torch.no_grad():
        count = inputs["completion_ids"].size(1)
        return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, count)[0]


def main():
    if not (HERE / "start").exists():
        make_start()
    samples = make_samples(model().config.vocab_size)
    losses, gradients = {}, {}
    for name, settings, is_older in CASES:
        with tempfile.TemporaryDirectory() as folder:
            trainer = trainer_of(settings, folder)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        inputs = inputs_of(samples)
        if is_older:
            generator = torch.Generator().manual_seed(9)
            present = logprobs(trainer, inputs)
            noise = 0.25 * torch.randn(present.shape, generator=generator)
            inputs["old_per_token_logps"] = present + noise
        if settings.get("beta"):
            # The reference of a loaded adapter is a copy of it; the base stands for one that is older here.
            with trainer.model.disable_adapter():
                inputs["ref_per_token_logps"] = logprobs(trainer, inputs)
        trainer.model.zero_grad()
        loss = trainer._compute_loss(trainer.model, inputs)
        loss.backward()
        losses[name] = {
            "settings": settings,
            "loss": loss.item(),
            "metrics": {key: values[-1] for key, values in trainer._metrics["train"].items() if key != "entropy"},
        }
        if is_older:
            rows = zip(inputs["old_per_token_logps"].tolist(), samples)
            losses[name]["old_logprobs"] = [row[: len(sample["ids"])] for row, sample in rows]
        for key, parameter in trainer.model.named_parameters():
            if parameter.grad is not None and "lora_" in key and ".ref." not in key:
                gradients[f"{name}/{key.replace('.default', '')}"] = parameter.grad.clone()
    (HERE / "samples.json").write_text(json.dumps(samples))
    (HERE / "losses.json").write_text(json.dumps(losses, indent=1))
    save_file(gradients, HERE / "gradients.safetensors")
    print({name: case["loss"] for name, case in losses.items()})


main()
