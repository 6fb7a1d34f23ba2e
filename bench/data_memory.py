"""Peak memory and seconds of rows on their way to a training step, beside `datasets`: load, map, filter, shuffle, split, tokenize.

    PEER_PYTHON bench/data_memory.py [--sizes 0.3,1,5] [--only lorhai|peer] [--program PATH ...] [--tokenizer FOLDER]

needs datasets, transformers and torch for the peer, and `make build` before. The rows are generated: texts of 200 to 2,000
characters in three scripts. The model is a Llama of two layers with random weights and the tokenizer of --tokenizer. Each
program runs in a process of its own with an empty cache in a temporary folder (TMPDIR), which is removed; at 5 GB it takes up
to 25 GB there.

`resident` is the peak of all pages of the process (VmHWM), those of mapped files included, which the system takes back when
memory is short. `anonymous` is the peak of RssAnon, the memory that is the process's alone. Both are read every 20 ms, because
getrusage counts what this program held as it started the others.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_LENGTH = 1024


def make_rows(path, size):
    chosen = random.Random(7)
    words = "the of and model river house learned quickly data adapter token wrote small answer because night".split()
    words += "모델 학습 데이터 질문 대답 그리고 강물 빠르게 어댑터 않는다".split() + "être naïve über größe ёлка данные модель ответ".split()
    sentences = [" ".join(chosen.choices(words, k=chosen.randint(6, 20))).capitalize() + chosen.choice(".?!") for _ in range(5000)]

    def text():
        length, parts, total = chosen.randint(200, 2000), [], 0
        while total < length:
            parts.append(sentences[int(chosen.random() * len(sentences))])
            total += len(parts[-1]) + 1
        return " ".join(parts)[:length]

    written, number = 0, 0
    with open(path, "w", encoding="utf-8") as out:
        while written < size:
            lines = []
            for _ in range(1000):
                row = {"id": number, "prompt": text(), "completion": text(), "score": number / 7}
                lines.append(json.dumps(row, ensure_ascii=False))
                number += 1
            block = "\n".join(lines) + "\n"
            written += len(block.encode())
            out.write(block)
    return number


def make_tokenizer(folder):
    """Words between spaces are tokens: several times faster than byte pairs."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    sample = folder.parent / "sample.jsonl"
    make_rows(sample, 2e6)
    texts = [row["completion"] for row in map(json.loads, sample.read_text(encoding="utf-8").splitlines())]
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["<unk>", "</s>"]))
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def make_model(folder, tokenizer):
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if tokenizer == "words":
        tokenizer = folder
        make_tokenizer(folder)
    tokens = AutoTokenizer.from_pretrained(tokenizer)
    settings = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=2048)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokens), tie_word_embeddings=True, **settings)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json") if tokenizer != folder else ():
        shutil.copy(Path(tokenizer) / name, folder)


def peer(data, model, cache):
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    started = time.monotonic()
    stage = lambda name: print(name, round(time.monotonic() - started, 2), flush=True)
    rows = load_dataset("json", data_files=data, split="train", cache_dir=cache)
    stage("load")
    rows = rows.map(lambda row: {"prompt": row["prompt"] + "\n", "completion": row["completion"]}, remove_columns=rows.column_names)
    stage("map")
    rows = rows.filter(lambda row: len(row["completion"]) > 300)
    stage("filter")
    halves = rows.shuffle(seed=1).train_test_split(test_size=100, seed=1)
    stage("shuffle_split")
    print("rows", len(halves["train"]))
    tokenizer = AutoTokenizer.from_pretrained(model)

    def encode(rows):
        texts = [prompt + completion for prompt, completion in zip(rows["prompt"], rows["completion"])]
        return {"input_ids": tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]}

    data = halves["train"].map(encode, batched=True, remove_columns=["prompt", "completion"])
    stage("tokenize")
    model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = [torch.tensor(data[row]["input_ids"]) for row in range(2)]
    ids = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    stage("train")


def held(process):
    """Bytes of all pages at their peak, and of anonymous pages now."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return tuple(int(fields.get(name, "0").split()[0]) * 1024 for name in ("VmHWM", "RssAnon"))


def measured(command, environment):
    """Seconds, peak of all and of anonymous pages in bytes, the output."""
    started, peaks = time.monotonic(), (0, 0)
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)
        while True:
            if process.poll() is not None:
                break
            peaks = tuple(map(max, peaks, held(process.pid)))
            time.sleep(0.02)
        out.seek(0)
        text = out.read()
    if process.returncode != 0:
        sys.exit(f"{command[0]} failed: {text[-3000:]}")
    return time.monotonic() - started, *peaks, text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="0.3,1,5", help="gigabytes of jsonl")
    parser.add_argument("--only", choices=["lorhai", "peer"])
    parser.add_argument("--program", nargs="*", default=[str(ROOT / "target/release/lorhai")])
    parser.add_argument("--tokenizer", default="words", help="a folder, or words: fast, a token for each word")
    parser.add_argument("--cache", choices=["true", "false"], default="true", help="whether lorhai keeps tokens in its cache, a second file of them")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.peer:
        return peer(*a.peer)
    print(f"{'GB':>4} {'program':<28} {'seconds':>8} {'resident':>9} {'anonymous':>9}  stages (seconds since the start)")
    for size in map(float, a.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            make_model(folder / "model", a.tokenizer)
            make_rows(folder / "rows.jsonl", size * 1e9)
            commands = []
            if a.only != "peer":
                script = ["run", "--quiet", "bench/data_memory.rhai", "--set", f"data={folder}/rows.jsonl"]
                script += ["--set", f"model={folder}/model", "--set", f"max_length={MAX_LENGTH}", "--set", f"cache={a.cache}"]
                commands += [(program, [program, *script]) for program in a.program]
            if a.only != "lorhai":
                this = [sys.executable, str(Path(__file__).resolve()), "--peer", f"{folder}/rows.jsonl", f"{folder}/model"]
                commands.append(("datasets", [*this, f"{folder}/cache"]))
            for name, command in commands:
                cache = folder / "cache"
                cache.mkdir()
                places = {"LORHAI_CACHE": str(cache), "HF_HOME": str(cache), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
                seconds, all_pages, own, text = measured(command, os.environ | places | {"HF_HUB_OFFLINE": "1"})
                stages = ", ".join(line for line in text.splitlines() if len(line.split()) == 2)
                print(f"{size:>4} {name[-28:]:<28} {seconds:>8.1f} {all_pages / 1e6:>6.0f} MB {own / 1e6:>6.0f} MB  {stages}", flush=True)
                shutil.rmtree(cache)


if __name__ == "__main__":
    main()
