"""4-bit weights: what bitsandbytes makes of matrices, and what a model computes over such weights.

Needs bitsandbytes (its CPU build) beside the other packages.

bitsandbytes 0.50.2 dequantises wrongly on CPUs with AVX-512 where the columns are a multiple of 16 but not of the
block size (of 8 rows of 96, half the error is its own); its plain loop, its PyTorch fallback and its CUDA kernels
count blocks over the flattened matrix. Matrices are therefore laid out with one block a row to be dequantised.
"""

import json

import torch
import transformers
from safetensors.torch import save_file

import golden
from store import HERE, VERSIONS, fresh, load_adapter, prefixed, write_json
from tiny import generator, load_base, remove_extras

# Case: the adapter case whose base and adapter it lies over, and whether scales are quantised too.
MODELS = {
    "nf4_qwen2": ("qwen2_tied", False),
    "nf4_llama": ("llama_head_dim", True),
    "nf4_qwen3": ("qwen3_untied_gqa", True),
}
SAVED = ("nf4_saved", "qwen2_untied_gqa")
# Case: its base, the type, the dtype whose bytes hold the codes, and whether the head is quantised too.
STORED = {
    "nf4_bf16_storage": ("llama_yarn", "nf4", "bfloat16", False),
    "nf4_head": ("llama_yarn", "nf4", "uint8", True),
    "fp4_stored": ("llama_yarn", "fp4", "uint8", False),
}

# Shapes: an odd count; one block; a last block cut short; many blocks, so that nested scales have two of their own.
MATRICES = {
    "odd": ((3, 5), torch.float32),
    "one_block": ((1, 64), torch.float32),
    "cut_short": ((7, 18), torch.float32),
    "many": ((130, 127), torch.float32),
    "across_rows": ((6, 96), torch.float32),
    "bf16": ((48, 40), torch.bfloat16),
    "zeros": ((3, 64), torch.float32),
    "small": ((4, 64), torch.float32),
}


def matrix(name: str) -> torch.Tensor:
    """The matrix of a name: normal, with what is awkward put in."""
    shape, dtype = MATRICES[name]
    values = torch.randn(shape, generator=generator("nf4", name)) * 0.05
    if name == "zeros":
        values[:2] = 0
    if name == "small":
        values *= torch.tensor([1e-20, 1e-30, 1e-37, 1e10])[:, None]
    return values.to(dtype)


def dequantised(codes: torch.Tensor, state, shape) -> torch.Tensor:
    """What bitsandbytes reads back, one block a row where there are whole blocks only."""
    import bitsandbytes.functional as F

    count = shape[0] * shape[1]
    state.shape = torch.Size((count // 64, 64)) if count % 64 == 0 else torch.Size(shape)
    return F.dequantize_4bit(codes, state).view(shape)


def quantised(name: str) -> dict[str, torch.Tensor]:
    """A matrix, its codes, its scales plain and nested, and the dense matrix of either."""
    import bitsandbytes.functional as F

    dense = matrix(name)
    codes, plain = F.quantize_4bit(dense, blocksize=64, quant_type="nf4")
    _, nested = F.quantize_4bit(dense, blocksize=64, quant_type="nf4", compress_statistics=True)
    tensors = {
        "dense": dense,
        "codes": codes,
        "absmax": plain.absmax,
        "nested.codes": nested.absmax,
        "nested.map": nested.state2.code,
        "nested.absmax": nested.state2.absmax,
        "nested.offset": nested.offset.view(1),
        "dequantised": dequantised(codes, plain, dense.shape),
        "nested.dequantised": dequantised(codes, nested, dense.shape),
    }
    return {f"{name}.{key}": tensor.clone() for key, tensor in tensors.items()}


def generate_matrices(name: str) -> None:
    """The folder of single matrices."""
    import bitsandbytes

    folder = fresh(HERE / name)
    save_file({k: v for matrix in MATRICES for k, v in quantised(matrix).items()}, folder / "golden.safetensors")
    versions = VERSIONS | {"bitsandbytes": bitsandbytes.__version__}
    write_json(folder / "golden.json", {"case": name, "kind": "nf4 matrices", "names": list(MATRICES), "versions": versions})


def replace_linears(model, double_quant: bool) -> None:
    """Every linear weight of the base but the head's becomes what bitsandbytes reads back after quantising it."""
    import bitsandbytes.functional as F

    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or "lm_head" in name or "lora_" in name:
            continue
        codes, state = F.quantize_4bit(
            module.weight.data, blocksize=64, quant_type="nf4", compress_statistics=double_quant
        )
        module.weight.data = dequantised(codes, state, module.weight.shape)


def generate(name: str) -> None:
    """Logits, losses and LoRA gradients over a base with dequantised weights."""
    source, double_quant = MODELS[name]
    folder = fresh(HERE / name)
    base, model = load_base(HERE / source), load_adapter(HERE / source)
    batch = golden.random_batch(base.config.vocab_size, [16, 11, 7], name)
    dense_logits = golden.visible(golden.logits_of(base, batch), batch)
    replace_linears(base, double_quant)
    replace_linears(model, double_quant)
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors["base_logits"] = golden.visible(golden.logits_of(base, batch), batch)
    tensors["adapter_logits"] = golden.visible(golden.logits_of(model, batch), batch)
    facts = {"case": name, "kind": "nf4", "base": source, "double_quant": double_quant, "versions": VERSIONS}
    facts["label_count"] = golden.label_count(batch["labels"])
    facts["base_loss"] = golden.mean_loss(base, batch).item()
    facts["adapter_loss"] = golden.mean_loss(model, batch).item()
    facts["quantisation_nmse"] = golden.nmse(tensors["base_logits"], dense_logits)
    assert facts["quantisation_nmse"] > 1e-4, "quantisation must matter, or nothing is tested"
    save_file(tensors | prefixed("grad.", golden.gradients(model, batch)), folder / "golden.safetensors")
    write_json(folder / "golden.json", facts)
    print(f"{name}: loss {facts['base_loss']:.4f}, quantised against dense {facts['quantisation_nmse']:.1e}")


def generate_saved(name: str) -> None:
    """A folder as transformers saves a model that it loaded in 4 bits, and the logits over those weights."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    folder, (_, source) = fresh(HERE / name), SAVED
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        HERE / source, dtype=torch.float32, quantization_config=how, device_map="cpu", attn_implementation="eager"
    )
    model.save_pretrained(folder)
    remove_extras(folder)
    batch = golden.random_batch(model.config.vocab_size, [16, 11, 7], name)
    # Not its own logits: the rows of this model are shorter than a block (see above).
    model = load_base(HERE / source)
    replace_linears(model, True)
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors["base_logits"] = golden.visible(golden.logits_of(model, batch), batch)
    save_file(tensors, folder / "golden.safetensors")
    write_json(folder / "golden.json", {"case": name, "kind": "nf4 saved", "base": source, "versions": VERSIONS})
    print(f"{name}: {transformers.__version__}")


def generate_stored(name: str) -> None:
    """A checkpoint as bitsandbytes and transformers lay it out, and the logits over its dense weights.

    Made of the tiny base, tensor by tensor: what `save_pretrained` writes of a quantised linear layer.
    """
    import bitsandbytes.functional as F

    source, quant_type, storage, with_head = STORED[name]
    folder = fresh(HERE / name)
    model = load_base(HERE / source)
    tensors = {}
    for key, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear):
            continue
        if "lm_head" in key and not with_head:
            continue
        weight = module.weight.data
        codes, state = F.quantize_4bit(
            weight, blocksize=64, quant_type=quant_type, compress_statistics=True, quant_storage=getattr(torch, storage)
        )
        tensors[f"{key}.weight"] = codes
        tensors |= {f"{key}.weight.{part}": value for part, value in state.as_dict(packed=True).items()}
        module.weight.data = dequantised(codes, state, weight.shape)
    tensors = {key: value.contiguous() for key, value in (model.state_dict() | tensors).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((HERE / source / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": quant_type,
        "bnb_4bit_quant_storage": storage,
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "float32",
        "llm_int8_skip_modules": [] if with_head else None,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    batch = golden.random_batch(model.config.vocab_size, [16, 11, 7], name)
    tensors = {key: batch[key] for key in ("input_ids", "labels", "attention_mask")}
    tensors["base_logits"] = golden.visible(golden.logits_of(model, batch), batch)
    save_file(tensors, folder / "golden.safetensors")
    facts = {"case": name, "kind": "4-bit stored", "quant_type": quant_type, "storage": storage, "head": with_head}
    write_json(folder / "golden.json", facts | {"versions": VERSIONS})
    print(name, golden.mean_loss(model, batch).item())
