"""Writes the golden numbers of lm-evaluation-harness beside this file.

    python generate.py ASSETS

`requests.json` and `questions.json` need the model in `scripts/tiny` alone; `kobest.json` and the rolling
log-likelihoods of stories260K need the folder of shared assets. CPU, f32, no network.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_EVALUATE_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import lm_eval
import pandas
import torch
import transformers
import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import bits_per_byte, weighted_perplexity
from lm_eval.api.task import PerplexityTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

HERE = Path(__file__).resolve().parent
TINY = HERE.parents[2] / "scripts" / "tiny"
VERSIONS = {"lm_eval": lm_eval.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
LIMIT = 30

# What is there to catch: spaces that move, tabs and line breaks, no context, one token, several scripts, an end token
# as text, a context longer than the 256 positions of the model.
PAIRS = [
    ("the small fox", " runs"),
    ("the small fox ", "runs"),
    ("the small fox   ", " runs far"),
    ("Answer:\n", "yes"),
    ("tab\t", "stop"),
    ("", "the"),
    ("", " red boat"),
    ("", "<|im_end|>the red boat"),
    ("count", ": one two three four"),
    ("질문: 여우는 작다. 답변: ", " 예"),
    ("질문: 여우는 작다. 답변: ", " 아니오"),
    ("<|im_end|>a red", " boat"),
    ("a red boat on the hill " * 60, "sees the fox"),
    ("a red boat on the hill " * 60, " runs"),
    ("word " * 300 + "\u3000", "끝"),
]

TEXTS = {
    "short": "the small fox runs",
    "wide space": "a\u3000b \u00a0c\u001cd\n\n e  ",
    "end token as text": "<|im_end|>the red boat",
    "korean": "작은 여우가 빨간 배를 본다. " * 3,
    "longer than the window": " ".join(f"the {a} {b} sees {n} hills" for n, (a, b) in enumerate(
        [("small", "fox"), ("red", "boat"), ("old", "bird"), ("green", "house")] * 30)),
}

QUESTIONS = [
    {"q": "The fox is small. Is the fox small? ", "options": ["no", "yes"], "answer": 0},
    {"q": "The boat is red. Is the boat green?", "options": ["no", "yes"], "answer": 1},
    {"q": "the small", "options": ["fox", "a green house on the hill", "boat"], "answer": 1},
    {"q": "빨간", "options": ["배가 간다", "zqx"], "answer": 0},
    {"q": "the old bird sees", "options": ["three hills and one very long river", "the", "a boat", "it"], "answer": 1},
    {"q": "count: a red boat ->", "options": ["3", "4"], "answer": 1},
    {"q": "Repeat: x", "options": ["y", "x"], "answer": 1},
    {"q": "one two three", "options": ["four", "넷", "fo"], "answer": 0},
]


def model(folder, max_length=None):
    return HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=1, max_length=max_length)


def requests(kind, arguments):
    return [Instance(kind, {}, each, index) for index, each in enumerate(arguments)]


def rolling(lm, texts):
    found = lm.loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in texts]), disable_tqdm=True)
    words = [PerplexityTask.count_words(text) for text in texts]
    sizes = [PerplexityTask.count_bytes(text) for text in texts]
    return {
        "loglikelihoods": found,
        "tokens": [len(lm.tok_encode(text)) for text in texts],
        "words": words,
        "bytes": sizes,
        "word_perplexity": weighted_perplexity(list(zip(found, words))),
        "byte_perplexity": weighted_perplexity(list(zip(found, sizes))),
        "bits_per_byte": bits_per_byte(list(zip(found, sizes))),
    }


def evaluate(lm, tasks, folder, limit=None):
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    return lm_eval.simple_evaluate(
        lm, tasks=tasks, task_manager=manager, limit=limit, bootstrap_iters=100, log_samples=True)


def scores(found, task):
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    metrics = {key.split(",")[0]: value for key, value in found["results"][task].items()
               if isinstance(value, (int, float)) and key.split(",")[0] not in ("sample_len",)}
    return {
        "metrics": metrics,
        "loglikelihoods": [[float(choice[0][0]) for choice in sample["resps"]] for sample in samples],
    }


def own_questions(folder):
    """A task of lm-evaluation-harness over QUESTIONS, with every metric of multiple choice that we have."""
    folder.mkdir()
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    (folder / "utils.py").write_text(
        "from sklearn.metrics import f1_score\n\n"
        "def macro(items):\n    golds, found = zip(*items)\n    return f1_score(golds, found, average='macro')\n")
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True}
               for name in ("acc", "acc_norm", "acc_bytes")]
    config = {
        "task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(rows)}},
        "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "q", "doc_to_choice": "options",
        "doc_to_target": "answer", "metric_list": metrics,
    }
    text = yaml.safe_dump(config)
    text += "- metric: f1\n  aggregation: !function utils.macro\n  hf_evaluate: true\n  higher_is_better: true\n"
    # The metrics go last, so that the line above joins the list.
    head, _, tail = text.partition("metric_list:\n")
    items, rest = [], []
    for line in tail.splitlines(keepends=True):
        (items if line.startswith(("-", " ")) else rest).append(line)
    (folder / "own.yaml").write_text(head + "".join(rest) + "metric_list:\n" + "".join(items))


def hub_columns(task, table):
    """The rows of a file of KoBEST under the names that its data set on the hub has."""
    table = table.dropna()
    yes = lambda column: [0 if str(value) == "False" else 1 for value in column]
    if task == "boolq":
        return {"paragraph": table.Text, "question": table.Question, "label": yes(table.Answer)}
    if task == "copa":
        return {"premise": table.sentence, "question": table.question, "alternative_1": table["1"],
                "alternative_2": table["2"], "label": table.Answer - 1}
    if task == "wic":
        return {"word": table.Target, "context_1": table.SENTENCE1, "context_2": table.SENTENCE2,
                "label": yes(table.ANSWER)}
    if task == "hellaswag":
        return {"context": table.context, **{f"ending_{n}": table[f"choice{n}"] for n in (1, 2, 3, 4)},
                "label": table.label}
    return {"sentence": table.Text, "label": table.Label}


def kobest(folder, data):
    """lm-evaluation-harness's own tasks, their data set alone replaced."""
    shutil.copytree(Path(lm_eval.__file__).parent / "tasks" / "kobest", folder)
    counts = {}
    for name in ("BoolQ", "COPA", "HellaSwag", "SentiNeg", "WiC"):
        task = name.lower()
        files = {}
        for split, file in (("train", "dev"), ("validation", "dev"), ("test", "test")):
            table = pandas.read_csv(data / name / f"{file}.tsv", sep="\t")
            table = table.loc[:, ~table.columns.str.startswith("Unnamed")]
            rows = pandas.DataFrame(hub_columns(task, table))
            counts[task] = len(rows)
            path = folder / f"{task}_{split}.jsonl"
            rows.to_json(path, orient="records", lines=True, force_ascii=False)
            files[split] = str(path)
        config = folder / f"kobest_{task}.yaml"
        text = config.read_text().replace("dataset_path: skt/kobest_v1", "dataset_path: json")
        kwargs = yaml.safe_dump({"dataset_kwargs": {"data_files": files}})
        config.write_text(text.replace(f"dataset_name: {task}\n", kwargs))
    return counts


def write(name, content):
    text = json.dumps({"versions": VERSIONS, **content}, ensure_ascii=False, indent=1)
    (HERE / name).write_text(text + "\n")


def main():
    torch.set_num_threads(1)
    assets = Path(sys.argv[1])
    stories = assets / "models" / "stories260K"
    tiny, short, bos = model(TINY), model(TINY, max_length=48), model(stories)
    pairs = [found[0] for found in tiny.loglikelihood(requests("loglikelihood", PAIRS), disable_tqdm=True)]
    texts = list(TEXTS.values())
    write("requests.json", {
        "pairs": [{"context": a, "continuation": b, "loglikelihood": found} for (a, b), found in zip(PAIRS, pairs)],
        "texts": TEXTS,
        "rolling": rolling(tiny, texts),
        "rolling_48": rolling(short, texts),
        "rolling_stories260K": rolling(bos, texts),
    })
    with tempfile.TemporaryDirectory() as place:
        own_questions(Path(place) / "own")
        found = evaluate(tiny, ["own"], Path(place) / "own")
        write("questions.json", {"questions": QUESTIONS, **scores(found, "own")})
        counts = kobest(Path(place) / "kobest", assets / "data" / "kobest")
        names = [f"kobest_{task}" for task in counts]
        found = evaluate(bos, ["kobest"], Path(place) / "kobest", LIMIT)
        group = {key.split(",")[0]: value for key, value in found["groups"]["kobest"].items()
                 if isinstance(value, float)}
        write("kobest.json", {
            "limit": LIMIT, "rows": counts, "group": group,
            "tasks": {name.removeprefix("kobest_"): scores(found, name) for name in names},
        })


main()
