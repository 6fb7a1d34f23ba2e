"""A multimodal model with a language model of a known family: its weights, a PEFT adapter over the language model, logits."""

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Gemma3Config

import golden
from cases import GEMMA, LOCAL_ROPE, TINY, shape
from store import HERE, VERSIONS, fresh, write_json
from tiny import EAGER, load_base, randomise, remove_extras, save_adapter

WRAPPED = ["gemma3_whole"]
LENGTHS = [12, 7]
# Not the vision tower, which has layers of the same names.
TARGETS = r".*language_model.*\.(q_proj|v_proj|up_proj)"
TEXT = shape(**TINY, **GEMMA, rope_parameters=LOCAL_ROPE, tie_word_embeddings=True)
VISION = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def generate(name: str) -> None:
    """Write the model, its adapter and the logits of both for rows of text."""
    folder = fresh(HERE / name)
    config = Gemma3Config(
        text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=39, boi_token_index=38, eoi_token_index=37
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **EAGER)
    randomise(model, name)
    model.save_pretrained(folder)
    remove_extras(folder)
    base = load_base(folder)
    batch = golden.random_batch(30, LENGTHS, name)
    tensors = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    tensors["base_logits"] = golden.visible(golden.logits_of(base, batch), batch)
    adapted = save_adapter(base, {"r": 2, "lora_alpha": 4, "target_modules": TARGETS}, name, folder / "adapter")
    tensors["adapter_logits"] = golden.visible(golden.logits_of(adapted, batch), batch)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "golden.json", {"case": name, "kind": "wrapped", "versions": VERSIONS})
    change = golden.nmse(tensors["adapter_logits"], tensors["base_logits"])
    assert change > 1e-4, f"the adapter changes the logits by an NMSE of {change} only"
    print(f"{name}: the adapter changes the logits by an NMSE of {change:.2e}")
