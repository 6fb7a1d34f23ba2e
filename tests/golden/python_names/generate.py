"""Writes names.txt: every option and method of the Python tools that a script may be ported from,
with the function that people give it to here. Needs transformers, trl, peft and datasets."""

import dataclasses
import inspect
import pathlib

import datasets
from peft import LoraConfig
from transformers import (
    BitsAndBytesConfig,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer


def fields(kind):
    return [field.name for field in dataclasses.fields(kind)]


def parameters(function):
    return [name for name in inspect.signature(function).parameters if name not in ("self", "kwargs")]


NAMES = {
    "train": fields(TrainingArguments)
    + fields(SFTConfig)
    + [name for name in parameters(Trainer.__init__) + parameters(SFTTrainer.__init__)],
    "add_lora": fields(LoraConfig),
    "load_model": parameters(BitsAndBytesConfig.__init__) + parameters(PreTrainedModel.from_pretrained),
    "generate": [name for name in GenerationConfig().__dict__ if not name.startswith("_")],
    "tokenize": parameters(DataCollatorForLanguageModeling) + parameters(DataCollatorForSeq2Seq),
    "load_dataset": parameters(datasets.load_dataset),
    "split": parameters(datasets.Dataset.train_test_split),
    "Dataset": [name for name in dir(datasets.Dataset) if not name.startswith("_")],
}

lines = [f"{function} {name}" for function, names in NAMES.items() for name in dict.fromkeys(names)]
pathlib.Path(__file__).with_name("names.txt").write_text("\n".join(lines) + "\n")
