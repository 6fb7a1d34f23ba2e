"""Forty steps of trl's SFTTrainer on rows with nulls, tools and reasoning.

Writes, beside this file:
  rows.parquet   the rows; parquet fills every optional key with null
  adapter/       the adapter that training begins with, by peft
  golden.json    settings, each row's ids and labels (sha256), the loss of every step

Run:   python tests/golden/sft/generate.py
Made with trl 1.16, transformers 5.24, peft 0.21, datasets 5.2, torch 2.11, on scripts/tiny and template.jinja.
"""

import hashlib
import json
import struct
import tempfile
from pathlib import Path

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

HERE = Path(__file__).parent
TINY = HERE.parents[2] / "scripts/tiny"
SETTINGS = {"steps": 40, "batch": 2, "accumulation": 2, "lr": 2e-3, "max_grad_norm": 1.0}


def rows():
    made = []
    tools = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"at": "string"}}}]
    words = ["lake", "tower", "river", "field"]
    for number in range(16):
        word = words[number % 4]
        asked = {"role": "user", "content": f"Where is the {word} of row {number}?"}
        answer = {"role": "assistant", "content": f"The {word} is {number} miles away."}
        call = {"type": "function", "function": {"name": "look", "arguments": {"at": word}}}
        called = {"role": "assistant", "content": None, "tool_calls": [call]}
        result = {"role": "tool", "name": "look", "content": f"{number} miles"}
        match number % 4:
            case 0:
                messages, offered = [asked, answer], None
            case 1:
                messages, offered = [asked, called, result, answer], tools
            case 2:
                messages, offered = [asked, answer | {"reasoning_content": f"It is far: {number}."}], None
            case _:
                again = {"role": "user", "content": "And back?"}
                messages = [{"role": "system", "content": "Be brief."}, asked, answer, again, called, result, answer]
                offered = tools
        made.append({"messages": messages, "tools": offered, "note": None if number % 2 else number})
    return made


class InOrder(SFTTrainer):
    """Rows in the order of the file, and losses that are not rounded."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.micro_losses = []

    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(dataset if dataset is not None else self.train_dataset)

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.micro_losses.append(float(loss))
        return loss


def digest(numbers):
    return hashlib.sha256(struct.pack(f"<{len(numbers)}q", *numbers)).hexdigest()[:24]


def main():
    torch.manual_seed(0)
    Dataset.from_list(rows()).to_parquet(HERE / "rows.parquet")
    data = load_dataset("parquet", data_files=str(HERE / "rows.parquet"), split="train")
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    tokenizer.chat_template = (HERE / "template.jinja").read_text()
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32, attn_implementation="eager")
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
    model.save_pretrained(HERE / "adapter")
    (HERE / "adapter" / "README.md").unlink(missing_ok=True)
    path = HERE / "adapter" / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": "scripts/tiny"}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, max_steps=SETTINGS["steps"], per_device_train_batch_size=SETTINGS["batch"],
            gradient_accumulation_steps=SETTINGS["accumulation"], learning_rate=SETTINGS["lr"],
            lr_scheduler_type="linear", warmup_steps=0, max_grad_norm=SETTINGS["max_grad_norm"], weight_decay=0.0,
            assistant_only_loss=True, max_length=None, packing=False, gradient_checkpointing=False, bf16=False,
            use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", seed=0,
        )
        trainer = InOrder(model=model, args=config, train_dataset=data, processing_class=tokenizer)
        trainer.train()
    steps = SETTINGS["accumulation"]
    losses = [sum(trainer.micro_losses[at : at + steps]) for at in range(0, len(trainer.micro_losses), steps)]
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == len(logged) == SETTINGS["steps"]
    assert all(abs(ours - theirs) < 1e-3 for ours, theirs in zip(losses, logged)), (losses[:3], logged[:3])
    norms = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    encoded = [[digest(row["input_ids"]), digest(row["labels"])] for row in trainer.train_dataset]
    golden = SETTINGS | {"rows": encoded, "losses": losses, "grad_norms": norms}
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    longest = max(len(row["input_ids"]) for row in trainer.train_dataset)
    print(f"losses {losses[0]:.6f} … {losses[-1]:.6f}; longest row {longest} tokens; logged {logged[:2]}")


if __name__ == "__main__":
    main()
