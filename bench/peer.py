"""The Python side of `make bench`: a plain PEFT loop, told what to run by lines of JSON.

Reads one request a line from the standard input and answers with one line each:

    {"do": "prepare", "model": {config.json}, "dtype": "f32", "threads": 2, "ranks": [16], "rows": 2,
     "time": 256, "labelled": 1.0, "dropout": 0.0}
        -> {"ready": true}
    {"do": "steps", "count": 10}
        -> {"seconds": [per step, one after another over all ranks], "peak_bytes": ...}
    {"do": "import"} -> {"seconds": time that a fresh Python takes to import torch, transformers and peft}

The loop is what a notebook does: forward with labels, backward, clip, AdamW, schedule. Several
ranks are several adapters trained one after another on one resident base, which flatters
Python: a real sweep would load the base again for each.
"""

import json
import os
import subprocess
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def peak_bytes():
    """The most memory this process ever held."""
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
        base = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").to(device)
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
        return {"seconds": seconds, "peak_bytes": peak_bytes()}


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
        elif request["do"] == "import":
            answer = import_time()
        else:
            answer = {"error": f"unknown request {request['do']}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
