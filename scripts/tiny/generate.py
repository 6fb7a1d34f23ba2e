"""Makes the texts, the tokenizer and the configuration of the tiny model beside this file.

    python generate.py          # needs the package `tokenizers`; the same bytes every time

Writes
  pretrain.jsonl         what the base model is pretrained on: small tasks about small sentences
  train.jsonl            what adapters are trained on: the same sentences in a secret code
  preferences.jsonl      pairs of answers: three words are preferred to the whole sentence
  tokenizer.json, tokenizer_config.json, config.json

The weights are then made by `lorhai run scripts/pretrain_tiny.rhai`.

Why this task: the base model can copy a sentence, so an adapter has to learn only the code, one
fixed substitute for each of 65 words. Each word must be memorised separately, and an adapter of
small rank has room for few of them. Held-out rows are other sentences of the same words.
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = Path(__file__).parent
PRETRAIN_ROWS = 9000
TRAIN_ROWS = 2400
PREFERENCE_ROWS = 240
VOCABULARY = 1024
# The fraction of the words that coded sentences use.
CODED = 0.4
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

ARTICLES = "the a one every this that some no".split()
ADJECTIVES = (
    "old young small large red blue green white dark bright quiet loud quick slow warm cold happy sad brave shy "
    "kind wild clever tired hungry strong gentle strange heavy light round tall soft rough golden silver"
).split()
NOUNS = (
    "fox bear wolf owl cat dog horse mouse goat sheep rabbit crow fish frog bee snake child teacher farmer baker "
    "sailor doctor king queen knight thief painter singer boat house tree stone river bridge tower garden road "
    "lamp clock door window table chair bell drum book letter map key coat hat ring apple bread cake flower cloud "
    "star moon hill lake field forest village castle island"
).split()
VERBS = (
    "sees hears finds loses follows leads helps pushes pulls carries paints opens closes builds breaks hides seeks "
    "watches likes fears greets knows wants calls draws lifts throws catches guards visits leaves meets"
).split()
ADVERBS = "slowly quickly quietly often never always soon today again gladly sadly alone".split()
PLACES = "near behind under above beside inside past across without with".split()
JOINTS = "and but then while because".split()
WORDS = ARTICLES + ADJECTIVES + NOUNS + VERBS + ADVERBS + PLACES + JOINTS


def thing(choose, share):
    """`the small fox`, `a fox`"""
    adjective = [choose(first(ADJECTIVES, share))] if choose((True, True, False)) else []
    return [choose(first(ARTICLES, share)), *adjective, choose(first(NOUNS, share))]


def sentence(choose, share=1.0):
    """A random sentence of the first words of each kind."""
    words = thing(choose, share) + [choose(first(VERBS, share))] + thing(choose, share)
    if choose((True, False)):
        words.append(choose(first(ADVERBS, share)))
    if choose((True, False, False)):
        words += [choose(first(PLACES, share)), *thing(choose, share)]
    return words


def first(words, share):
    return words[: round(len(words) * share)]


def pretraining_row(choose):
    words = sentence(choose)
    if choose((True, False)):
        words += [choose(JOINTS), *sentence(choose)]
    other = choose(words)
    tasks = [
        ("Repeat", words),
        ("Repeat", words),
        ("Repeat", words),
        ("Twice", words + words),
        ("Twice", words + words),
        ("First", words[:3]),
        ("Last", words[-3:]),
        (f"After {other}", words[words.index(other) + 1 :] or ["nothing"]),
    ]
    task, answer = choose(tasks)
    return {"instruction": f"{task}: {' '.join(words)}", "output": " ".join(answer)}


def secret_code():
    """Every word's substitute: one cycle through all words in a random order."""
    order = WORDS[:]
    random.Random(7).shuffle(order)
    return dict(zip(order, order[1:] + order[:1], strict=True))


def training_row(choose, code):
    words = sentence(choose, CODED)
    return {"instruction": f"Encode: {' '.join(words)}", "output": " ".join(code[word] for word in words)}


def preference_row(choose):
    words = sentence(choose)
    turn = lambda role, words: [{"role": role, "content": " ".join(words)}]
    return {
        "prompt": turn("user", ["Repeat:", *words]),
        "chosen": turn("assistant", words[:3]),
        "rejected": turn("assistant", words),
    }


def write_rows(name, rows):
    lines = [json.dumps(row) + "\n" for row in rows]
    (HERE / name).write_text("".join(lines))


def train_tokenizer(rows):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"user\n{row['instruction']}assistant\n{row['output']}" for row in rows]
    # An answer begins a line, so words are learned both with and without a space before them.
    texts += [f"{word}\n" for word in WORDS for _ in range(40)]
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(HERE / "tokenizer.json"))


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_json(name, value):
    (HERE / name).write_text(json.dumps(value, indent=2) + "\n")


def main():
    draw = random.Random(1)
    pretraining = [pretraining_row(draw.choice) for _ in range(PRETRAIN_ROWS)]
    write_rows("pretrain.jsonl", pretraining)
    draw, code = random.Random(2), secret_code()
    training = [training_row(draw.choice, code) for _ in range(TRAIN_ROWS)]
    write_rows("train.jsonl", training)
    draw = random.Random(3)
    write_rows("preferences.jsonl", [preference_row(draw.choice) for _ in range(PREFERENCE_ROWS)])
    train_tokenizer(pretraining)
    write_json(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 256,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write_json(
        "config.json",
        {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "vocab_size": VOCABULARY,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "max_position_embeddings": 256,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_sliding_window": False,
            "bos_token_id": None,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "torch_dtype": "float32",
        },
    )


if __name__ == "__main__":
    main()
