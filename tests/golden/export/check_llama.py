"""Runs llama.cpp on GGUF files of lorhai, and compares logits, greedy ids and token ids with those that lorhai computed.

    python check_llama.py --model M.gguf [--lora A.gguf] --ours OURS.json [--tolerance 1e-8]

Needs llama-cpp-python. `OURS.json` holds `ids`, `logits` (a row for each id), `greedy` (what follows `ids`), and `texts`,
a list of `[text, ids]`. With `--vocab-only` the texts alone are compared. Prints one line of JSON; exits with 1 where the
numbers differ and with 3 where llama.cpp itself crashes.

llama.cpp runs in a process of its own, because a crash there is no wrong number: 0.3.36 dies in q8_0 on processors with AMX
when a batch holds several tokens. After a crash the tokens are evaluated one at a time, and the line says `crashed`.
"""

import argparse
import json
import subprocess
import sys

import numpy as np
from llama_cpp import Llama

F32 = 0
ALL_AT_ONCE, ONE_BY_ONE = 256, 1


def logits_and_greedy(llama, ours) -> dict:
    """NMSE and largest difference of logits, and whether the greedy ids are the same."""
    ids, expected = ours["ids"], np.array(ours["logits"], dtype=np.float64)
    llama.reset()
    llama.eval(ids)
    found = np.array(llama.scores[: len(ids)], dtype=np.float64)
    fresh = []
    while len(fresh) < len(ours["greedy"]):
        fresh.append(int(np.argmax(llama.scores[llama.n_tokens - 1])))
        llama.eval(fresh[-1:])
    return {
        "nmse": float(((found - expected) ** 2).sum() / (expected**2).sum()),
        "max_error": float(np.abs(found - expected).max()),
        "greedy": fresh == ours["greedy"],
    }


def in_child(batch: int) -> subprocess.CompletedProcess:
    """This script once more, with `batch` tokens to an evaluation."""
    command = [sys.executable, *sys.argv, "--batch", str(batch)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)


def survive_crashes() -> None:
    """Compare in a child; where it dies by a signal, again token by token."""
    child = in_child(ALL_AT_ONCE)
    crashed = -child.returncode if child.returncode < 0 else None
    if crashed:
        child = in_child(ONE_BY_ONE)
    if child.returncode < 0:
        print(json.dumps({"crashed": crashed, "one_by_one": -child.returncode}))
        sys.exit(3)
    lines = child.stdout.splitlines()
    if crashed and lines:
        lines[-1] = json.dumps(json.loads(lines[-1]) | {"crashed": crashed})
    print("\n".join(lines))
    sys.exit(child.returncode)


def main() -> None:
    """Compare one model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--ours", required=True)
    parser.add_argument("--tolerance", type=float, default=1e-8)
    parser.add_argument("--vocab-only", action="store_true")
    parser.add_argument("--batch", type=int, help="tokens to an evaluation; without it a child process compares")
    chosen = parser.parse_args()
    if chosen.batch is None:
        survive_crashes()
    with open(chosen.ours, encoding="utf-8") as file:
        ours = json.load(file)
    llama = Llama(
        model_path=chosen.model, lora_path=chosen.lora, vocab_only=chosen.vocab_only, n_ctx=256, n_batch=chosen.batch,
        logits_all=True, n_gpu_layers=0, n_threads=1, n_threads_batch=1, type_k=F32, type_v=F32, verbose=False,
    )
    found = {} if chosen.vocab_only else logits_and_greedy(llama, ours)
    found["texts"] = [
        {"text": text, "ours": ids, "llama": llama.tokenize(text.encode(), add_bos=True, special=True)}
        for text, ids in ours["texts"]
        if llama.tokenize(text.encode(), add_bos=True, special=True) != ids
    ]
    found["passed"] = not found["texts"] and found.get("greedy", True) and found.get("nmse", 0.0) <= chosen.tolerance
    print(json.dumps(found))
    sys.exit(0 if found["passed"] else 1)


if __name__ == "__main__":
    main()
