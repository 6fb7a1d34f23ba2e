"""What transformers makes of trl's chat templates: texts, and the spans of generation tags.

Run by tests/labels.rs:   python trl_masks.py < conversations.json
Reads a list of {"messages": […], "tools": […]}, and writes for every template that trl ships
  {"name": …, "source": …, "stock": name of the template it is the training variant of, or null,
   "rows": [[text, [[start, end], …]] in characters, or null where the template refuses]}
"""

import json
import sys
from pathlib import Path

import trl
from transformers.tokenization_utils_base import _normalize_chat_messages
from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def row(template, item, tagged):
    texts, spans = render_jinja_template(
        conversations=[_normalize_chat_messages(item["messages"])],
        tools=item.get("tools"),
        chat_template=template,
        return_assistant_tokens_mask=tagged,
        **TOKENS,
    )
    return [texts[0], [list(span) for span in spans[0]] if tagged else []]


def main():
    items = json.load(sys.stdin)
    folder = Path(trl.__file__).parent / "chat_templates"
    sources = {path.stem: path.read_text() for path in sorted(folder.glob("*.jinja"))}
    made = []
    for name, source in sources.items():
        rows = []
        for item in items:
            try:
                rows.append(row(source, item, "generation" in source and "endgeneration" in source))
            except Exception:
                rows.append(None)
        stock = name.removesuffix("_training")
        made.append({"name": name, "source": source, "stock": stock if stock != name else None, "rows": rows})
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
