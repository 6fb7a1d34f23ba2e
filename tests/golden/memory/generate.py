"""Bytes that the usual Python recipe keeps for the backward pass, for `tests/memory.rs`.

Counts what autograd saves (`torch.autograd.graph.saved_tensors_hooks`), every storage once and
parameters left out, in one forward pass of transformers' Qwen2 or Qwen3 with SDPA attention on the
CPU, bare or under peft. Written with torch 2.11.0, transformers 5.23.0, peft 0.21.0:

    python generate.py > saved.json
"""
import json
import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

SHAPES = {
    "small": dict(hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, vocab_size=320, tie_word_embeddings=True),
    "deeper": dict(hidden_size=96, intermediate_size=256, num_hidden_layers=5, num_attention_heads=6,
                   num_key_value_heads=6, vocab_size=512, tie_word_embeddings=False),
    "qwen3": dict(hidden_size=64, intermediate_size=192, num_hidden_layers=3, num_attention_heads=4,
                  num_key_value_heads=2, vocab_size=256, head_dim=32, tie_word_embeddings=True),
}
CASES = [
    # shape, dtype, rank (0: every weight is trained), targets, layers, batch, length
    ("small", "bf16", 8, "all-linear", None, 2, 32),
    ("small", "f32", 8, "all-linear", None, 2, 32),
    ("small", "bf16", 0, None, None, 2, 32),
    ("small", "f32", 0, None, None, 2, 32),
    ("small", "bf16", 4, ["q_proj", "v_proj"], None, 3, 40),
    ("small", "f32", 4, ["q_proj", "v_proj"], None, 3, 40),
    ("deeper", "bf16", 16, "all-linear", None, 2, 48),
    ("deeper", "bf16", 16, ["o_proj", "down_proj", "gate_proj"], [2, 3, 4], 1, 64),
    ("deeper", "f32", 16, ["o_proj", "down_proj", "gate_proj"], [2, 3, 4], 1, 64),
    ("qwen3", "bf16", 8, "all-linear", None, 2, 32),
    ("qwen3", "f32", 0, None, None, 2, 32),
]


def saved_bytes(shape, dtype, rank, targets, layers, batch, length):
    kind = (Qwen3Config, Qwen3ForCausalLM) if shape == "qwen3" else (Qwen2Config, Qwen2ForCausalLM)
    config = kind[0](max_position_embeddings=512, **SHAPES[shape])
    config._attn_implementation = "sdpa"
    config.use_cache = False
    model = kind[1](config).to({"bf16": torch.bfloat16, "f32": torch.float32}[dtype])
    if rank:
        lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, layers_to_transform=layers)
        model = get_peft_model(model, lora)
    ids = torch.arange(batch * length).view(batch, length) % config.vocab_size
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            # The tensor is kept too, so that no later one gets its address.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=ids)
    return sum(size for size, _ in kept.values())


cases = []
for case in CASES:
    shape, dtype, rank, targets, layers, batch, length = case
    config = dict(model_type="qwen3" if shape == "qwen3" else "qwen2", max_position_embeddings=512, **SHAPES[shape])
    cases.append(dict(config=config, dtype=dtype, rank=rank, targets=targets, layers=layers, batch=batch,
                      length=length, saved=saved_bytes(*case)))
json.dump(cases, sys.stdout, indent=1)
print()
