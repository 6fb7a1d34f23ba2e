"""The random configurations of a family, by a seeded draw that covers every value of every axis."""

import random
from dataclasses import dataclass

from declarations import Config, Family

# What an adapter is drawn from; `None` stands for the targets that PEFT takes for the family by itself.
ADAPTERS = [
    {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
    {"r": 8, "lora_alpha": 16, "target_modules": None, "use_rslora": True},
    {"r": 2, "lora_alpha": 3, "target_modules": "attention"},
    {"r": 3, "lora_alpha": 5, "target_modules": "all-linear", "rank_pattern": {"o_proj": 5}, "alpha_pattern": {"down_proj": 2}},
]

# As transformers 5 writes config.json, and as transformers 4 did.
FORMS = ["new", "classic"]


@dataclass(frozen=True)
class Drawn:
    """One configuration: the number of the value of each axis."""

    family: Family
    name: str
    choices: dict[str, int]

    def config(self, replaced: dict[str, int] | None = None) -> Config:
        """The arguments of the configuration class, with other values of some axes."""
        choices = self.choices | (replaced or {})
        config = dict(self.family.base)
        for axis, values in self.family.axes.items():
            value = values[choices[axis]]
            config |= value(config) if callable(value) else value
        return config

    def is_classic(self) -> bool:
        """Whether config.json is as transformers 4 wrote it."""
        return FORMS[self.choices["config.json"]] == "classic"

    def adapter(self) -> dict:
        """The arguments of the adapter's configuration class, targets not yet resolved."""
        return dict(ADAPTERS[self.choices["adapter"]])


def draw(family: Family, count: int) -> list[Drawn]:
    """`count` configurations, or as many as the longest axis has values."""
    axes = {axis: len(values) for axis, values in family.axes.items()}
    axes |= {"adapter": len(ADAPTERS), "config.json": len(FORMS)}
    count = max(count, *axes.values())
    stream = random.Random(family.name)
    columns = {axis: column(size, count, stream) for axis, size in axes.items()}
    return [
        Drawn(family, f"{at:02}", {axis: numbers[at] for axis, numbers in columns.items()}) for at in range(count)
    ]


def column(size: int, count: int, stream: random.Random) -> list[int]:
    """`count` numbers below `size` in random order, each as often as another, give or take one."""
    numbers: list[int] = []
    while len(numbers) < count:
        numbers += stream.sample(range(size), size)
    numbers = numbers[:count]
    stream.shuffle(numbers)
    return numbers
