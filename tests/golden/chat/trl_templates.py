"""Renders every chat template that trl ships over 24 conversations, as apply_chat_template does.

Prints JSON: for each template its name, its source and the texts, null where Python refuses.
Run by tests/jinja.rs with the Python that PEER_PYTHON names; nothing of trl is kept here.
"""

import importlib.util
import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import _normalize_chat_messages, render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
TOOL = {
    "type": "function",
    "function": {
        "name": "set_rate",
        "description": "Sets the \"rate\" <of> learning & more.",
        "parameters": {
            "type": "object",
            "properties": {
                "lr": {"type": "number", "description": "rate", "default": 1e-05, "minimum": 1e-10, "maximum": 1e16},
                "mode": {"type": "string", "enum": ["a", "b"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "deep": {"type": "object", "properties": {"x": {"type": ["integer", "null"], "nullable": True}}},
            },
            "required": ["lr"],
        },
    },
}
BARE = {"type": "function", "function": {"name": "now", "description": "시각", "parameters": {"type": "object", "properties": {}}}}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def call(arguments, name="set_rate"):
    return {"type": "function", "id": "call_123", "function": {"name": name, "arguments": arguments}}


U, A = said("user", "Hi"), said("assistant", "Hello")
FLOATS = {"lr": 1e-05, "n": 1e16, "big": 123456789012345680.0, "list": [1e-7, 0.1, 2.0, -0.0], "ok": True, "z": None, "s": "it's \"q\"\n", "d": {"k": 1e22, "한": []}}
RESULT = said("tool", "{\"rate\": 0.5}", name="set_rate", tool_call_id="call_123")

CONVERSATIONS = [
    {"messages": [U, A]},
    {"messages": [U], "add_generation_prompt": True},
    {"messages": [said("system", "  Be brief.\n"), U, A]},
    {"messages": [said("developer", "Obey."), U, A]},
    {"messages": [said("system", "one"), said("system", "two"), U, A]},
    {"messages": [U, A, said("user", " 안녕? "), said("assistant", "\n네\n"), said("user", "<b>&'\"</b>"), said("assistant", "{{ x }}")]},
    {"messages": [U, A, U], "add_generation_prompt": True},
    {"messages": [U, A], "tools": [TOOL]},
    {"messages": [U, A], "tools": []},
    {"messages": [U, said("assistant", "", tool_calls=[call(FLOATS)]), RESULT, A], "tools": [TOOL, BARE]},
    {"messages": [U, said("assistant", None, tool_calls=[call({})]), RESULT], "tools": [TOOL], "add_generation_prompt": True},
    {"messages": [U, said("assistant", "I look.", tool_calls=[call(json.dumps(FLOATS))]), RESULT, A], "tools": [TOOL]},
    {"messages": [said("system", "s"), U, said("assistant", "", tool_calls=[call({"lr": 0.5}), call({}, "now")]), RESULT, said("tool", [{"type": "text", "text": "noon"}]), A, U, A], "tools": [TOOL, BARE]},
    {"messages": [U, said("assistant", "x", reasoning_content="because\n"), U, said("assistant", "y", reasoning_content=" since ")]},
    {"messages": [U, said("assistant", "<think>\nhm\n</think>\n\nans"), U, said("assistant", "<think>z</think>b")]},
    {"messages": [U, said("assistant", "", reasoning_content="plan", tool_calls=[call({"lr": 1e-4})]), RESULT, said("assistant", "done", thinking="r")], "tools": [TOOL]},
    {"messages": [U], "add_generation_prompt": True, "variables": {"enable_thinking": False}},
    {"messages": [said("system", "s"), U], "add_generation_prompt": True, "variables": {"enable_thinking": True, "reasoning_effort": "high"}},
    {"messages": [said("user", [{"type": "text", "text": "part one"}, {"type": "text", "text": " two"}]), A]},
    {"messages": [U, said("assistant", [{"type": "text", "text": "parts"}])]},
    {"messages": [A, U, A]},
    {"messages": [U, U, A, A]},
    {"messages": [U, said("assistant", None, tool_calls=None), U]},
    {"messages": [said("user", "a", name=None), said("assistant", "b", tool_calls=[], reasoning_content=None), said("tool", "orphan"), said("assistant", "")]},
]


def render(source, item):
    try:
        texts, _ = render_jinja_template(
            conversations=[_normalize_chat_messages(item["messages"])],
            tools=item.get("tools"),
            chat_template=source,
            add_generation_prompt=item.get("add_generation_prompt", False),
            **{**TOKENS, **item.get("variables", {})},
        )
        texts[0].encode()
        return texts[0]
    except Exception as error:
        if "--errors" in sys.argv:
            print(repr(error), file=sys.stderr)
        return None


def main():
    folder = Path(importlib.util.find_spec("trl").submodule_search_locations[0])
    templates = []
    for path in sorted(folder.rglob("*.jinja")):
        source = path.read_text()
        texts = [render(source, item) for item in CONVERSATIONS]
        templates.append({"name": path.stem, "source": source, "texts": texts})
    json.dump({"tokens": TOKENS, "conversations": CONVERSATIONS, "templates": templates}, sys.stdout)


main()
