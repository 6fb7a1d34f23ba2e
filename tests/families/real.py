"""Parameters of real models, from their configurations on the meta device.

The defaults of each configuration class of transformers are those of the model that its documentation names; the
others are files of tests/golden/configs.
"""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from declarations import BY_NAME
from store import counts as counts_of

CONFIGS = Path(__file__).resolve().parent.parent / "golden/configs"


def empty_model(config: dict):
    """A model without storage for its weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))


def counts(names: list[str]) -> list[dict]:
    """For each configuration of these families what transformers and PEFT count."""
    found = []
    for name in names:
        # Stated in full, and with every default left to the reader.
        for config in (AutoConfig.for_model(name).to_dict(), {"model_type": name}):
            found.append({"name": f"{name}, defaults" + (" left out" if len(config) == 1 else ""), "config": config})
    for path in sorted(CONFIGS.glob("*.json")):
        config = json.loads(path.read_text())
        if config["model_type"] in names:
            found.append({"name": path.stem, "config": config})
    for each in found:
        model = empty_model(each["config"])
        each["parameters"] = model.num_parameters()
        with torch.device("meta"):
            targets = BY_NAME[each["config"]["model_type"]].all_linear
            adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=16, target_modules=targets))
        each["target_modules"] = targets
        each["line"] = counts_of(adapted)["print_trainable_parameters"]
    return found
