//! Options of `from_pretrained` and `BitsAndBytesConfig`.

use super::hints::Hints;

const EIGHT_BITS: &str = "an option of 8 bits; load_in_4bit: true takes no such";

pub const OPTIONS: Hints = &[
    (
        &["pretrained_model_name_or_path", "model_name", "model_name_or_path"],
        "",
        "the name is the first argument: load_model(name)",
    ),
    (
        &[
            "llm_int8_threshold",
            "llm_int8_skip_modules",
            "llm_int8_enable_fp32_cpu_offload",
            "llm_int8_has_fp16_weight",
        ],
        "",
        EIGHT_BITS,
    ),
    (&["bnb_4bit_quant_storage"], "", "leave it out: how the 4 bits lie in memory changes no number"),
    (&["config"], "load_model", "leave it out: the model's config.json says it"),
    (&["model_args", "ignore_mismatched_sizes"], "", "leave it out: a model is loaded as its config.json describes it"),
    (&["force_download"], "", "delete the model's folder below HF_HOME to download it again"),
    (&["local_files_only"], "", "set the environment variable HF_HUB_OFFLINE=1"),
    (
        &["use_safetensors", "weights_only", "disable_mmap", "fusion_config"],
        "",
        "leave it out: weights are read from safetensors, mapped into memory",
    ),
    (
        &["max_seq_length", "max_length"],
        "load_model",
        "an option of tokenizing: data.tokenize(model, #{ max_length: 2048 })",
    ),
    (&["max_memory", "offload_folder", "offload_state_dict"], "", "leave it out: a model lies on one device"),
    (
        &["use_fast", "padding_side", "add_eos_token", "add_bos_token"],
        "load_model",
        "leave it out: the tokenizer is read from tokenizer.json",
    ),
];
