//! Options of `GenerationConfig` and `generate` that are not options here.

use super::hints::Hints;

const ONE_BY_ONE: &str = "beam search is not supported: a text is continued token by token";
const SPECULATION: &str = "leave it out: it makes generation faster and changes no text";
const FORM: &str = "leave it out: generate returns the text; forward(batch).logits has the scores";
const CACHE: &str = "leave it out: keys and values are always kept";
const NOT_SUPPORTED: &str = "this way to choose tokens is not supported; `lorhai doc generate` lists those that are";

pub const OPTIONS: Hints = &[
    (&["max_tokens", "max_gen_len", "n_predict"], "", "it is called `max_new_tokens`"),
    (
        &["early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty", "constraints"],
        "generate",
        ONE_BY_ONE,
    ),
    (&["early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty", "constraints"], "chat", ONE_BY_ONE),
    (&["length_penalty", "num_beam_groups", "diversity_penalty", "constraints"], "", ONE_BY_ONE),
    (&["max_time"], "", "bound the text by `max_new_tokens`"),
    (
        &[
            "use_mtp",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "assistant_confidence_threshold",
            "is_assistant",
            "prompt_lookup_num_tokens",
            "max_matching_ngram_size",
            "assistant_early_exit",
            "assistant_lookbehind",
            "target_lookbehind",
            "assistant_ensemble_weight",
            "speculation_type",
            "compile_config",
            "disable_compile",
            "continuous_batching_config",
            "low_memory",
            "prefill_chunk_size",
        ],
        "",
        SPECULATION,
    ),
    (&["cache_implementation", "cache_config", "max_cache_len"], "", CACHE),
    (&["penalty_alpha", "dola_layers", "watermarking_config", "token_healing"], "", NOT_SUPPORTED),
    (&["force_words_ids"], "", "words cannot be forced; forced_bos_token_id and forced_eos_token_id force tokens"),
    (
        &["output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"],
        "",
        FORM,
    ),
    (
        &["pad_token_id", "bos_token_id", "decoder_start_token_id"],
        "",
        "leave it out: padding never counts, and the tokenizer adds the first token",
    ),
    (&["transformers_version"], "", "leave it out: it says nothing of the text"),
    (
        &["skip_special_tokens", "clean_up_tokenization_spaces"],
        "",
        "leave it out: special tokens are left out of the text",
    ),
    (&["add_generation_prompt", "apply_chat_template"], "", "write chat: true, or model.chat(messages)"),
    (&["return_full_text"], "", "leave it out: the continuation alone is returned"),
    (
        &["system", "system_prompt"],
        "",
        "give a conversation: model.chat([#{ role: \"system\", content: \"…\" }, #{ role: \"user\", content: \"…\" }])",
    ),
];
