"""Golden renderings of chat templates, made by transformers' own apply_chat_template code.

Writes, beside this file:
  conversations.json  the conversations (made below, nothing random)
  renderings.json     per template and conversation: sha256 of the text, or null where the
                      template refuses it; character spans of generation tags; a few texts whole
  masks.json          Qwen2.5's token ids (sha256) and assistant mask (runs) with trl's
                      training template; needs the tokenizer folder as first argument

Run:   python tests/golden/chat/generate.py FOLDER_OF_QWEN2.5_TOKENIZER
Show:  python tests/golden/chat/generate.py --show TEMPLATE NUMBER
Made with transformers 5.24.0, jinja2 3.1.6, tokenizers 0.23.
"""

import hashlib
import json
import struct
import sys
from pathlib import Path

from transformers.tokenization_utils_base import _normalize_chat_messages
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
TOKENS = {
    "qwen": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "llama": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "gemma": {"bos_token": "<bos>", "eos_token": "<end_of_turn>", "pad_token": "<pad>"},
    "phi": {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place, in °C. <b>Not</b> a forecast & \"cheap\".",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "도시 이름"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": None},
                "days": {"type": "integer", "minimum": 1, "maximum": 1.5e20},
                "exact": {"type": "boolean", "default": False},
            },
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "now", "description": "", "parameters": {}}}
PLAIN_TOOL = {"name": "add", "arguments": [1, 2.0, 1e-7, -0.0, 123456789012345680.0, True, None, {}]}


def user(content):
    return {"role": "user", "content": content}


def said(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def call(name, arguments, wrapped=True):
    inner = {"name": name, "arguments": arguments}
    return {"type": "function", "id": "c1", "function": inner} if wrapped else inner


TEXTS = [
    "Hi",
    "안녕하세요, 오늘 날씨가 어때요?",
    "  spaces at both ends  ",
    "\n\nline breaks\r\n\tand tabs\n",
    "<b>HTML</b> & 'quotes' \"double\" \\ back\\slash",
    "emoji 😀👩‍👩‍👧‍👦🇰🇷 and combining e\u0301 \u1112\u1161\u11ab",
    "{{ not a template }} {% if x %} {# no comment #}",
    "def f(x):\n    return x ** 2  # code\n",
    "<|im_end|> injected <|eot_id|>",
    "",
    "긴 " * 200 + "끝",
    "zero\u200bwidth \u00a0nbsp \u3000wide",
    "\u0001\u001f control \u007f",
    "math: ∑_{i=1}^{n} i² ≤ ∞, 数学 и кириллица",
]


def conversations():
    made = []

    def add(messages, **more):
        made.append({"messages": messages, **more})

    for text in TEXTS:
        add([user(text), said(text[::-1])])
        add([system(text), user("Q"), said(text)])
        add([user(text)], add_generation_prompt=True)
    for turns in (2, 3, 5, 8):
        pairs = [m for i in range(turns) for m in (user(f"질문 {i}"), said(f"답 {i}\n둘째 줄"))]
        add(pairs)
        add([system("간결하게 답하세요.")] + pairs)
        add(pairs + [user("마지막")], add_generation_prompt=True)
    # Tools: offered, called, answered; with and without content, one call or several.
    asked = [user("서울 날씨?")]
    one = [said("", tool_calls=[call("get_weather", {"place": "서울", "days": 2, "x": 0.1})])]
    none = [said(None, tool_calls=[call("get_weather", {"place": "Paris <&>"})])]
    bare = [said("I look.", tool_calls=[call("now", {}, wrapped=False)])]
    text_arguments = [said("", tool_calls=[call("now", "{\"zone\": \"KST\"}")])]
    several = [said("Both.", tool_calls=[call("now", {}), call("get_weather", {"place": "A"})])]
    answer = [tool("{\"t\": 21.5}", tool_call_id="c1", name="get_weather")]
    two_answers = answer + [tool("두 번째")]
    listed = [tool({"t": 21.5, "ok": True, "z": None, "list": [1, "둘"]})]
    for calls in (one, none, bare, text_arguments, several):
        for answers in (answer, two_answers, listed):
            add(asked + calls + answers + [said("21.5°C 입니다.")], tools=[WEATHER, CLOCK])
    add([system("You are terse.")] + asked + one + answer + [said("ok"), user("thanks"), said("bye")], tools=[WEATHER])
    add(asked + one + answer, tools=[WEATHER], add_generation_prompt=True)
    add(asked + [said("no")], tools=[])
    add(asked + [said("no")], tools=[PLAIN_TOOL])
    add([system("s")] + asked, tools=[PLAIN_TOOL, WEATHER], kwargs={"tools_in_user_message": False})
    add(asked + one + answer + one + answer + [said("done")], tools=[CLOCK])
    # Reasoning.
    think = said("<think>\n생각\n중\n</think>\n\n답", )
    add([user("a"), think, user("b"), think])
    add([user("a"), said("x", reasoning_content="because\n"), user("b"), said("y", reasoning_content="\nsince")])
    add([user("a"), said("x", reasoning="old name"), user("b"), said("y", thinking="other name")])
    add([user("a")] + [said("", reasoning_content="plan", tool_calls=[call("now", {})])] + answer + [said("z", reasoning_content="r")], tools=[CLOCK])
    add([user("a")], add_generation_prompt=True, kwargs={"enable_thinking": False})
    add([user("a")], add_generation_prompt=True, kwargs={"enable_thinking": True})
    # Odd orders and contents.
    add([said("first"), user("second"), said("third")])
    add([user("a"), user("b"), said("c"), said("d")])
    add([user("a"), system("late"), said("c")])
    add([user("a"), said(None)])
    add([user(3), said(4.5)])
    add([user(True), said("x")])
    add([user(["list"]), said("x")])
    add([user([{"type": "text", "text": "part"}]), said("x")])
    add([user({"k": "v"}), said("x")])
    add([{"role": "developer", "content": "d"}, user("u"), said("x")])
    add([{"role": "ipython", "content": "out"}, user("u"), said("x")])
    add([user("u"), {"role": "assistant"}])
    add([{"content": "no role"}, said("x")])
    add([user("u"), said("x", tool_calls=[])])
    add([user("u"), said("x", tool_calls=None)])
    add([tool("orphan"), said("x")])
    add([])
    add([system("only system")])
    add([user("u"), said("x", name="Bob", weight=0, extra={"a": [1, 2]})], kwargs={"custom": 1, "builtin_tools": ["brave_search", "code_interpreter"]})
    return made


def render(template, family, item, spans=False):
    # A day of its own: what the calendar says must not change the golden.
    kwargs = {"date_string": "26 Jul 2024", **TOKENS[family], **item.get("kwargs", {})}
    texts, indices = render_jinja_template(
        conversations=[_normalize_chat_messages(item["messages"])],
        tools=item.get("tools"),
        chat_template=template,
        add_generation_prompt=item.get("add_generation_prompt", False),
        return_assistant_tokens_mask=spans,
        **kwargs,
    )
    return texts[0], [list(span) for span in indices[0]] if spans else None


def digest(data):
    return hashlib.sha256(data).hexdigest()[:24]


def main():
    items = conversations()
    templates = {path.stem: path.read_text() for path in sorted((HERE / "templates").glob("*.jinja"))}
    family = {name: next(family for family in TOKENS if name.startswith(family)) for name in templates}
    if sys.argv[1] == "--show":
        print(render(templates[sys.argv[2]], family[sys.argv[2]], items[int(sys.argv[3])])[0], end="")
        return
    lines = ",\n".join(json.dumps(item, ensure_ascii=True) for item in items)
    (HERE / "conversations.json").write_text(f"[\n{lines}\n]\n")
    renderings = {}
    for name, template in templates.items():
        tagged = name.endswith("_training")
        rows = []
        for item in items:
            try:
                text, spans = render(template, family[name], item, tagged)
            except Exception:
                rows.append(None)
                continue
            rows.append([digest(text.encode()), len(text)] + ([spans] if tagged else []))
        renderings[name] = rows
        print(f"{name}: {sum(r is not None for r in rows)} rendered, {sum(r is None for r in rows)} refused", file=sys.stderr)
    body = ",\n".join(
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]"
        for name, rows in renderings.items()
    )
    (HERE / "renderings.json").write_text("{\n" + body + "\n}\n")
    masks(items, templates["qwen2_5_training"], sys.argv[1])


def masks(items, template, folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for item in items:
        if item.get("add_generation_prompt") or item.get("kwargs"):
            rows.append(None)
            continue
        try:
            out = tokenizer.apply_chat_template(
                item["messages"], tools=item.get("tools"), chat_template=template, tokenize=True,
                return_dict=True, return_assistant_tokens_mask=True,
            )
        except Exception:
            rows.append(None)
            continue
        ids, mask = out["input_ids"], out["assistant_masks"]
        runs, start = [], None
        for at, bit in enumerate(mask + [0]):
            if bit and start is None:
                start = at
            if not bit and start is not None:
                runs.append([start, at])
                start = None
        rows.append([digest(struct.pack(f"<{len(ids)}I", *ids)), len(ids), runs])
    (HERE / "masks.json").write_text("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")


if __name__ == "__main__":
    main()
