"""Twenty steps of trl's preference trainers on two tiny models, in f32.

    python generate.py FOLDER_WITH_DPO_EN_DEMO     # dpo_en_demo.json of LLaMA-Factory, Apache-2.0

Writes, beside this file:
  text/, chat/          one folder for each model: scripts/tiny with rows of text, a random Llama with conversations
  */pairs.jsonl         rows of prompt, chosen and rejected; those of chat/ are cut from dpo_en_demo
  */kto.jsonl           rows of prompt, completion and label, from the same texts
  */start/              the adapter that training begins with, by peft; B is not zero, so it is not the base
  */NAME.json           settings, and loss and logged metrics of every step
  */NAME.safetensors    the adapter after the last step
  chat/model/           the random Llama, without its tokenizer, which is that of scripts/tiny
  implicit.json         rows without a prompt, and the tokens that DPOTrainer makes of them

Rows are visited in the order of the file. With 77 rows, batches of 2 and accumulation 2, the last micro-batch has one
row and the last step one micro-batch.

Made with trl 1.16, transformers 5.24, peft 0.21, datasets 5.2, torch 2.11.
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import torch
import trl.experimental.cpo.cpo_trainer as cpo_trainer
import trl.experimental.orpo.orpo_trainer as orpo_trainer
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

HERE = Path(__file__).parent
TINY = HERE.parents[2] / "scripts/tiny"
ROWS, EVAL_ROWS, STEPS, BATCH, ACCUMULATION, LR = 77, 8, 20, 2, 2, 1e-3
MAX_LENGTH = 64
# Cuts no completion: lorhai has only what is left of one when it stands beside another prompt.
KTO_MAX_LENGTH = 128

# Name, trainer, its settings, which rows it reads.
CASES = [
    ("dpo_sigmoid", DPOTrainer, DPOConfig, {"beta": 0.1, "loss_type": "sigmoid"}),
    ("dpo_hinge", DPOTrainer, DPOConfig, {"beta": 0.05, "loss_type": "hinge"}),
    ("dpo_ipo", DPOTrainer, DPOConfig, {"beta": 0.1, "loss_type": "ipo"}),
    ("orpo", ORPOTrainer, ORPOConfig, {"beta": 0.1}),
    ("simpo", CPOTrainer, CPOConfig, {"beta": 2.0, "loss_type": "simpo", "simpo_gamma": 1.0}),
    ("simpo_alone", CPOTrainer, CPOConfig, {"beta": 2.0, "loss_type": "simpo", "cpo_alpha": 0.0, "label_smoothing": 0.1}),
    ("kto", KTOTrainer, KTOConfig, {"beta": 0.1, "undesirable_weight": 1.5}),
]
METRICS = (
    "rewards/chosen rewards/rejected rewards/accuracies rewards/margins logps/chosen logps/rejected nll_loss "
    "log_odds_ratio log_odds_chosen kl"
).split()


def text_rows(count):
    choose = random.Random(3).choice
    nouns = "fox bear wolf owl cat dog horse mouse goat sheep".split()
    adjectives = "old young small large red blue green white".split()
    verbs = "sees hears finds loses follows leads".split()
    thing = lambda: f"the {choose(adjectives)} {choose(nouns)}"
    rows = []
    for _ in range(count):
        sentence = f"{thing()} {choose(verbs)} {thing()}"
        other = f"{thing()} {choose(verbs)} {thing()} and {thing()}" if choose((True, False)) else thing()
        rows.append({"prompt": f"Repeat: {sentence}\nAnswer:", "chosen": f" {sentence}", "rejected": f" {other}"})
    return rows


def chat_rows(folder, count, tokenizer):
    """Rows cut short, and behind them two whose prompt fills `max_length`: TRL drops these."""
    rows, too_long = [], []
    for row in json.loads((folder / "dpo_en_demo.json").read_text()):
        last = row["conversations"][-1]["value"]
        if not last.isascii():
            continue
        is_long = len(last) > 300 and len(too_long) < 2
        ask = {"role": "user", "content": last[: 300 if is_long else 60]}
        answer = lambda side: [{"role": "assistant", "content": row[side]["value"][: 30 + len(last) % 70]}]
        made = {"prompt": [ask], "chosen": answer("chosen"), "rejected": answer("rejected")}
        ids = tokenizer.apply_chat_template([ask], add_generation_prompt=True, return_dict=True)["input_ids"]
        assert is_long == (len(ids) >= MAX_LENGTH), len(ids)
        if is_long:
            too_long.append(made)
        elif made["chosen"] != made["rejected"]:
            rows.append(made)
    assert len(too_long) == 2
    return rows[:count] + too_long


def kto_rows(pairs):
    rows = []
    for number, row in enumerate(pairs):
        side = "rejected" if number % 3 == 1 else "chosen"
        rows.append({"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"})
    return rows


def in_order(trainer_class):
    class InOrder(trainer_class):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.micro_losses = []

        def _get_train_sampler(self, dataset=None):
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            self.micro_losses.append(float(loss))
            return loss

    return InOrder


def run(folder, name, trainer_class, config_class, settings, model_path, pairs, held_out, tokenizer):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, folder / "start", is_trainable=True)
    is_kto = trainer_class is KTOTrainer
    rows = kto_rows(pairs) if is_kto else pairs
    max_length = KTO_MAX_LENGTH if is_kto else MAX_LENGTH
    with tempfile.TemporaryDirectory() as out:
        config = config_class(
            output_dir=out, max_steps=STEPS, per_device_train_batch_size=BATCH, per_device_eval_batch_size=EVAL_ROWS,
            gradient_accumulation_steps=ACCUMULATION, learning_rate=LR, lr_scheduler_type="linear", warmup_steps=0,
            max_grad_norm=1.0, weight_decay=0.0, max_length=max_length, gradient_checkpointing=False, bf16=False,
            use_cpu=True, logging_steps=1, save_strategy="no", report_to="none", seed=0, **settings,
        )
        trainer = in_order(trainer_class)(
            model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
            eval_dataset=None if is_kto else Dataset.from_list(held_out),
        )
        assert len(trainer.train_dataset) == ROWS, len(trainer.train_dataset)
        if is_kto:
            lengths = [len(row["prompt_ids"] + row["completion_ids"]) for row in trainer.train_dataset]
            assert max(lengths) <= max_length, max(lengths)
        trainer.train()
        evaluated = {} if is_kto else trainer.evaluate()
    losses, at = [], 0
    per_epoch = (ROWS + BATCH - 1) // BATCH
    while len(losses) < STEPS:
        count = min(ACCUMULATION, per_epoch - at % per_epoch)
        losses.append(sum(trainer.micro_losses[at : at + count]))
        at += count
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert at == len(trainer.micro_losses) and len(logged) == STEPS, (at, len(trainer.micro_losses), len(logged))
    assert all(abs(ours - entry["loss"]) < 1e-3 for ours, entry in zip(losses, logged))
    golden = {
        "settings": settings,
        "max_length": max_length, "steps": STEPS, "batch": BATCH, "accumulation": ACCUMULATION, "lr": LR,
        "losses": losses,
        "grad_norms": [entry["grad_norm"] for entry in logged],
        "metrics": {name: [entry.get(name) for entry in logged] for name in METRICS if any(name in e for e in logged)},
        "evaluated": {name: evaluated[f"eval_{name}"] for name in ["loss", *METRICS] if f"eval_{name}" in evaluated},
    }
    (folder / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    names = {key: value for key, value in trainer.model.named_parameters() if value.requires_grad}
    save_file({k.replace(".default", ""): v.detach().contiguous() for k, v in names.items()}, folder / f"{name}.safetensors")
    print(folder.name, name, f"{losses[0]:.6f} … {losses[-1]:.6f}")


def start(folder, model_path, named, targets):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM"))
    for name, values in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(values, std=0.05)
    model.save_pretrained(folder / "start")
    (folder / "start" / "README.md").unlink(missing_ok=True)
    path = folder / "start" / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": named}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def implicit(tokenizer):
    """The tokens of rows without a prompt: text that ends at a space, text within a word, conversations."""
    user = {"role": "user", "content": "Repeat: the fox"}
    turn = lambda text: {"role": "assistant", "content": text}
    texts = [
        {"chosen": "the old fox sees a bear", "rejected": "the old fox hears a bear"},
        {"chosen": "the old fox finds", "rejected": "the old fox follows the owl"},
        {"chosen": "a bear", "rejected": "the bear"},
    ]
    chats = [
        {"chosen": [user, turn("the fox")], "rejected": [user, turn("a wolf")]},
        {"chosen": [user, turn("a"), user, turn("the fox")], "rejected": [user, turn("a"), user, turn("an owl")]},
    ]
    made = []
    for rows in (texts, chats):
        base = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
        with tempfile.TemporaryDirectory() as out:
            config = DPOConfig(output_dir=out, bf16=False, use_cpu=True, report_to="none")
            data = Dataset.from_list(rows)
            trainer = DPOTrainer(model=base, args=config, train_dataset=data, processing_class=tokenizer,
                                 peft_config=LoraConfig(r=2, target_modules=["q_proj"]))
        sides = ["prompt_ids", "chosen_ids", "rejected_ids"]
        made.append([{"row": row} | {side: kept[side] for side in sides} for row, kept in zip(rows, trainer.train_dataset)])
    (HERE / "implicit.json").write_text(json.dumps(made, indent=1) + "\n")


def main():
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = HERE / "chat" / "model"
    for name in ("text", "chat"):
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir()
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.15, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(model)
    start(HERE / "text", TINY, "scripts/tiny", ["q_proj", "v_proj"])
    start(HERE / "chat", model, "tests/golden/preferences/chat/model", ["q_proj", "o_proj", "down_proj"])
    text = text_rows(ROWS + EVAL_ROWS)
    chat = chat_rows(Path(sys.argv[1]), ROWS + EVAL_ROWS, tokenizer)
    parts = {"text": (text[:ROWS], text[ROWS:]), "chat": (chat[:ROWS] + chat[ROWS + EVAL_ROWS :], chat[ROWS : ROWS + EVAL_ROWS])}
    for name, (pairs, held_out) in parts.items():
        write_lines(HERE / name / "pairs.jsonl", pairs)
        write_lines(HERE / name / "held_out.jsonl", held_out)
        write_lines(HERE / name / "kto.jsonl", kto_rows(pairs))
    # lorhai tokenizes once for all objectives, as DPOTrainer and KTOTrainer do. ORPOTrainer and CPOTrainer would put a
    # second end token behind an answer of a conversation.
    keep = lambda eos, chosen, rejected: (chosen, rejected)
    with_eos = orpo_trainer.add_eos_token_if_needed
    for name, path in (("text", TINY), ("chat", model)):
        for module in (orpo_trainer, cpo_trainer):
            module.add_eos_token_if_needed = keep if name == "chat" else with_eos
        pairs, held_out = parts[name]
        for case, trainer_class, config_class, settings in CASES:
            kept = pairs if config_class in (DPOConfig, KTOConfig) else pairs[:ROWS]
            run(HERE / name, case, trainer_class, config_class, settings, path, kept, held_out, tokenizer)
    implicit(tokenizer)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
