"""The Python side of `make bench`: a plain PEFT loop, driven by lines of JSON.

Reads one request a line from stdin and answers each with one line:

    {"do": "prepare", "model": {config.json}, "dtype": "f32", "threads": 2, "ranks": [16], "rows": 2,
     "time": 256, "labelled": 1.0, "dropout": 0.0, "device": "cpu", "gradient_checkpointing": false}
        -> {"ready": true}
    {"do": "steps", "count": 10}
        -> {"seconds": [per step, one after another over all ranks], "peak_bytes": ...}
    {"do": "load", "folder": "...", "threads": 2} -> {"seconds": from the files to the logits of one token}
    {"do": "tokenize", "rows": "x.jsonl", "tokenizer": "folder"}
        -> {"seconds": to read, map and tokenize the rows; with datasets if it is installed}
    {"do": "import"} -> {"seconds": time that a fresh Python takes to import torch, transformers and peft}

The loop is what a notebook does: forward with labels, backward, clip, AdamW, schedule. Several
ranks are several adapters trained one after another on one base that stays in memory, which
favours Python: a real sweep would load the base again for each.
"""

import json
import os
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"


def peak_bytes():
    """The peak memory of this process."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class Loop:
    """One model with one adapter after another."""

    def __init__(self, request):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoConfig, AutoModelForCausalLM

        torch.set_num_threads(request["threads"])
        torch.manual_seed(0)
        self.torch = torch
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[request["dtype"]]
        device = request.get("device", "cpu")
        config = AutoConfig.for_model(**request["model"])
        with torch.device(device):
            base = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
        if device != "cpu":
            use_liger(base)
        self.runs = []
        for number, rank in enumerate(request["ranks"]):
            lora = LoraConfig(
                r=rank, lora_alpha=2 * rank, lora_dropout=request["dropout"], target_modules="all-linear",
                task_type="CAUSAL_LM",
            )
            if number == 0:
                model = get_peft_model(base, lora, adapter_name="0")
            else:
                model.add_adapter(str(number), lora)
            model.set_adapter(str(number))
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 10_000))
            self.runs.append((str(number), trained, optimizer, schedule))
        self.model = model.train()
        if request.get("gradient_checkpointing"):
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        self.device = device
        if device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        shape = (request["rows"], request["time"])
        self.ids = torch.randint(0, config.vocab_size, shape, device=device)
        self.labels = self.ids.clone()
        unlabelled = round(request["time"] * (1 - request["labelled"]))
        self.labels[:, :unlabelled] = -100

    def step(self):
        """One step of every adapter, one after another."""
        for name, trained, optimizer, schedule in self.runs:
            if len(self.runs) > 1:
                self.model.set_adapter(name)
            loss = self.model(input_ids=self.ids, labels=self.labels).loss
            loss.backward()
            self.torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            loss.item()

    def steps(self, count):
        seconds = []
        for _ in range(count):
            started = time.perf_counter()
            self.step()
            seconds.append(time.perf_counter() - started)
        peak = peak_bytes() if self.device == "cpu" else self.torch.cuda.max_memory_allocated()
        return {"seconds": seconds, "peak_bytes": peak}


def use_liger(model):
    """Liger's kernels if they are installed: the fastest settings that PEFT has."""
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
    except ImportError:
        return
    _apply_liger_kernel_to_instance(model=model)


def load_time(request):
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(request["threads"])
    started = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(request["folder"], dtype=torch.bfloat16)
    with torch.no_grad():
        model(torch.tensor([[1]])).logits.float().sum().item()
    return {"seconds": time.perf_counter() - started}


def tokenize_time(request):
    from transformers import AutoTokenizer

    started = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(request["tokenizer"])

    def ids(prompts, completions):
        prompts = tokenizer(prompts)["input_ids"]
        completions = tokenizer([" " + text for text in completions], add_special_tokens=False)["input_ids"]
        rows = [(p + c + [tokenizer.eos_token_id])[:512] for p, c in zip(prompts, completions)]
        labels = [([-100] * len(p) + row[len(p):])[:512] for p, row in zip(prompts, rows)]
        return {"input_ids": rows, "labels": labels}

    try:
        import datasets
    except ImportError:
        with open(request["rows"]) as lines:
            rows = [json.loads(line) for line in lines]
        ids([row["instruction"] for row in rows], [row["output"] for row in rows])
    else:
        datasets.disable_caching()
        rows = datasets.load_dataset("json", data_files=request["rows"], split="train")
        rows.map(lambda batch: ids(batch["instruction"], batch["output"]), batched=True)
    return {"seconds": time.perf_counter() - started}


def import_time():
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch, transformers, peft"], check=True)
    return {"seconds": time.perf_counter() - started}


def main():
    loop = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "prepare":
            loop = Loop(request)
            answer = {"ready": True}
        elif request["do"] == "steps":
            answer = loop.steps(request["count"])
        elif request["do"] == "load":
            answer = load_time(request)
        elif request["do"] == "tokenize":
            answer = tokenize_time(request)
        elif request["do"] == "import":
            answer = import_time()
        else:
            answer = {"error": f"unknown request {request['do']}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
