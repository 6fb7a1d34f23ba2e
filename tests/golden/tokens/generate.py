"""Golden token ids, made by the Python package `tokenizers`.

Writes ids.json beside this file: per tokenizer, the sha256 of the ids of every listed text,
of blocks of random Unicode strings (made by the same small generator in the test), and of
whole data files, line by line. The test finds tokenizers and files under the same names.

Run: python tests/golden/tokens/generate.py FOLDER_WITH_TOKENIZERS_MODELS_AND_DATA
Made with tokenizers 0.23.3. Decoding is compared without special tokens: 0.23 takes Llama 2's
BOS for `▁<s>` and no longer leaves it out, the Rust crate 0.22 does.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
TOKENIZERS = [
    "tokenizers/qwen2.5",
    "tokenizers/qwen2.5/qwen2.5-0.5b-instruct",
    "tokenizers/qwen2",
    "tokenizers/llama2",
    "models/stories260K",
]
FILES = [
    "data/korean_chatbot/ChatbotData.csv",
    "data/kobest/COPA/test.tsv",
    "data/wikitext2/test.txt",
    "data/tinyshakespeare/input.txt",
    "data/e2e/devset.csv",
    "data/tinystories_sample/tinystories_sample.txt",
    "data/llama-factory-demo/alpaca_zh_demo.json",
]
BLOCKS, PER_BLOCK = 50, 100
RANGES = [
    (0x20, 0x7E), (0x20, 0x20), (0x09, 0x0D), (0xAC00, 0xD7A3), (0x1100, 0x11FF), (0x3131, 0x318E),
    (0x4E00, 0x9FFF), (0x3041, 0x30FE), (0xA0, 0x24F), (0x300, 0x36F), (0x400, 0x4FF), (0x600, 0x6FF),
    (0x2000, 0x206F), (0x2190, 0x22FF), (0x1F300, 0x1F64F), (0x1F1E6, 0x1F1FF), (0xFE00, 0xFE0F),
    (0x30, 0x39), (0x61, 0x7A), (0xE000, 0xE0FF), (0x1D400, 0x1D7FF), (0xFF00, 0xFFEF), (0x0, 0x1F), (0x10000, 0x10FFFF),
]
MASK = (1 << 64) - 1


class Random:
    """The generator that the test has too (Knuth's MMIX constants, upper bits)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, limit):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 33) % limit


def random_text(random):
    text = []
    for _ in range(1 + random.below(12)):
        low, high = RANGES[random.below(len(RANGES))]
        for _ in range(1 + random.below(9)):
            text.append(chr(low + random.below(high - low + 1)))
    return "".join(text)


def texts():
    listed = [
        "", " ", "  ", "\n", "\n\n", " \n ", "\t\t", "a", " a", "a ", "Hello world", "Hello  world", "   three",
        "don't we'll I'M YOU'RE", "1234567890 3.14 1,000,000 ½ ² ٣", "foo_bar camelCase HTTPServer snake__case",
        "안녕하세요 세계", "가각힣ㄱㅏ 뷁", "\u1112\u1161\u11ab\u1100\u1173\u11af", "한국어와 English 섞어 쓰기",
        "😀", "👩‍👩‍👧‍👦 🇰🇷 👍🏽", "e\u0301 \u00e9 n\u0303", "中文 日本語 русский العربية עברית ไทย हिन्दी",
        "def f(x):\n    if x > 0:\n        return x  # 주석\n", "{\"a\": [1, 2, {\"b\": null}]}", "<div class=\"x\">&amp;</div>",
        "https://example.org/a?b=c&d=%20#e", "C:\\Users\\x\\n", "a\u00a0b\u200bc\u3000d\ufeffe", "\u0000\u0001\u007f",
        "<|im_start|>user\nhi<|im_end|>\n", "<s>a</s> <unk>", " <s> ", "<|endoftext|><|endoftext|>", "<|im_start", "[INST] x [/INST]",
        "ﬁ ﬂ Ⅷ ㎏ ①", "\u2028\u2029", "x" * 300, " " * 40 + "y", "\n" * 20 + "z", "ab" * 100, "가" * 150, "🙂" * 40, "\u0301\u0301", "A\r\nB\rC",
    ]
    return listed


def digest(encoded):
    data = b"".join(struct.pack(f"<{len(ids) + 1}I", len(ids), *ids) for ids in encoded)
    return hashlib.sha256(data).hexdigest()[:24]


def main():
    root = Path(sys.argv[1])
    golden = {"texts": texts(), "tokenizers": {}}
    for name in TOKENIZERS:
        tokenizer = Tokenizer.from_file(str(root / name / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        encode = lambda text, special=True: tokenizer.encode(text, add_special_tokens=special).ids
        random = Random(20261124)
        strings = [[random_text(random) for _ in range(PER_BLOCK)] for _ in range(BLOCKS)]
        golden["tokenizers"][name] = {
            "texts": [digest([encode(text), encode(text, False)]) for text in golden["texts"]],
            "random": [digest([encode(text) for text in block]) for block in strings],
            "decoded": [digest([list(tokenizer.decode(encode(text, False), skip_special_tokens=True).encode()) for text in block]) for block in strings],
            "files": {file: digest([encode(line) for line in (root / file).read_bytes().decode().split("\n")]) for file in FILES},
        }
    (HERE / "ids.json").write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n")


if __name__ == "__main__":
    main()
