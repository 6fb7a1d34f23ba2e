"""Seconds of a step with a loss of the script's own, and of DPO beside TRL, at the shape of Qwen2.5-0.5B with random weights.

    PEER_PYTHON bench/objectives.py [--layers 24] [--rounds 3] [--steps 3] [--rows 4] [--length 128] [--cases built-in,DPO]

needs torch 2.11, transformers, peft, trl and datasets, and `make build` before. The programs take turns, each in a process
of its own; medians and ratios are printed. A step trains the adapter (r = 8 on all linear layers) on `rows` rows, or half as
many pairs, of `length` tokens in f32. Loading is not counted. TRL's reference pass is part of each step; lorhai computes the
reference of a pair once for all epochs and trials, so its steps and the pass over the pairs of one step are printed apart.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "target/release/lorhai"
LORA = "#{ r: 8, alpha: 16, target_modules: \"all-linear\" }"
SCRIPT = """
let model = load_model("model", #{{ dtype: "f32", device: "cpu" }});
model.add_lora({lora});
let data = load_dataset("{rows}.jsonl").tokenize(model, #{{ max_length: {length}, cache: false, audit: false }});
train(model, data, #{{ steps: 1, batch: {batch}, lr: 1e-6, {options} }});
let started = timestamp();
let result = train(model, data, #{{ steps: {steps}, batch: {batch}, lr: 1e-6, {options} }});
print(`${{result.seconds / {steps}.0}} ${{(started.elapsed - result.seconds) / {steps}.0}}`);
"""


def make_model(folder, layers):
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    settings = json.loads((ROOT / "tests/golden/configs/qwen2.5-0.5b.json").read_text())
    settings |= {"num_hidden_layers": layers, "max_window_layers": layers, "eos_token_id": 2, "bos_token_id": None}
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config(**settings)).to(torch.float32).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_bytes((ROOT / "scripts/tiny" / name).read_bytes())


def make_rows(folder, length):
    words = ("the small fox sees a red bird near old bridge young crow " * (length // 8)).split()
    text = lambda at, count: " ".join(words[(at * 5 + k * 7) % len(words)] for k in range(count))
    pairs = [
        {"prompt": text(at, length // 3), "chosen": " " + text(at + 1, length), "rejected": " " + text(at + 2, length)}
        for at in range(64)
    ]
    examples = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in pairs]
    for name, rows in (("pairs", pairs), ("examples", examples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def lorhai(folder, rows, batch, options, a):
    script = SCRIPT.format(lora=LORA, rows=rows, batch=batch, options=options, steps=a.steps, length=a.length)
    (folder / "case.rhai").write_text(script)
    result = subprocess.run([PROGRAM, "run", "--quiet", "case.rhai"], cwd=folder, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    step, before = map(float, result.stdout.split()[-2:])
    return step, before


def trl_step(folder, batch, a):
    """Runs in a process of its own: see `main`."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    times = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.started = time.perf_counter()

        def on_step_end(self, *_, **__):
            times.append(time.perf_counter() - self.started)

    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    config = DPOConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=batch, max_steps=a.steps + 1, learning_rate=1e-6,
        max_length=a.length, beta=0.1, bf16=False, gradient_checkpointing=False, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
        args=config, train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"), callbacks=[Clock()],
    )
    trainer.train()
    print("SECONDS", statistics.mean(times[1:]))


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("layers", 24), ("rounds", 3), ("steps", 3), ("rows", 4), ("length", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--cases", default="", help="parts of the names of the cases to run")
    parser.add_argument("--trl", type=Path)
    a = parser.parse_args()
    if a.trl:
        return trl_step(a.trl, a.rows // 2, a)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_model(folder, a.layers)
        make_rows(folder, a.length)
        peer = [sys.executable, __file__, "--trl", folder, "--steps", str(a.steps), "--rows", str(a.rows), "--length", str(a.length)]
        cases = {
            "built-in loss": lambda: lorhai(folder, "examples", a.rows, "", a),
            "loss: |model, batch| model.forward(batch).loss": lambda: lorhai(
                folder, "examples", a.rows, "loss: |model, batch| model.forward(batch).loss", a
            ),
            "loss by token_logprobs": lambda: lorhai(
                folder, "examples", a.rows,
                "loss: |model, batch| -model.forward(batch).token_logprobs.masked_mean(batch.labels.ne(-100))", a,
            ),
            "DPO": lambda: lorhai(folder, "pairs", a.rows // 2, 'objective: "dpo", beta: 0.1', a),
            "DPO in TRL": lambda: (float(subprocess.run(
                peer, capture_output=True, text=True, check=True, env=os.environ,
            ).stdout.split("SECONDS")[-1].split()[0]), 0.0),
        }
        cases = {name: run for name, run in cases.items() if any(part in name for part in a.cases.split(","))}
        seconds = {name: [] for name in cases}
        for _ in range(a.rounds):
            for name, run in cases.items():
                seconds[name].append(run())
                step, before = seconds[name][-1]
                print(f"{name}: {step:.3f} s a step, {before:.3f} s for the reference of its pairs", flush=True)
        medians = {name: statistics.median(step for step, _ in values) for name, values in seconds.items()}
        for name, median in medians.items():
            print(f"{median:9.3f} s a step  {name}")
        for name in medians:
            if name.startswith("loss"):
                print(f"{medians[name] / medians['built-in loss']:9.3f} times the built-in loss: {name}")
        if "DPO in TRL" in medians:
            reference = statistics.median(before for _, before in seconds["DPO"])
            trl, dpo = medians["DPO in TRL"], medians["DPO"]
            print(f"{reference:9.3f} s  the reference of the pairs of a step")
            for epochs in (1, 3):
                print(f"{trl / (dpo + reference / epochs):9.3f} times as fast as TRL: DPO, reference and {epochs} epochs")
            print(f"{trl / dpo:9.3f} times as fast as TRL: a step of DPO")


main()
