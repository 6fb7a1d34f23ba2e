//! Options of `GenerationConfig` and `generate` that are not options here.

use super::hints::Hints;
use crate::eval::generation_file::{CACHE, OUTPUTS, PROMPT_TOKENS, SPEED};

const ONE_BY_ONE: &str = "beam search is not supported: a text is continued token by token";
const FASTER: &str = "leave it out: it makes generation faster and changes no text";
const FORM: &str = "leave it out: generate returns the text; forward(batch).logits has the scores";
const ALWAYS_CACHED: &str = "leave it out: keys and values are always kept";
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
    (SPEED, "", FASTER),
    (&["is_assistant"], "", FASTER),
    (CACHE, "", ALWAYS_CACHED),
    (&["cache_implementation"], "", ALWAYS_CACHED),
    (&["penalty_alpha", "dola_layers", "watermarking_config", "token_healing"], "", NOT_SUPPORTED),
    (&["force_words_ids"], "", "words cannot be forced; forced_bos_token_id and forced_eos_token_id force tokens"),
    (OUTPUTS, "", FORM),
    (PROMPT_TOKENS, "", "leave it out: padding never counts, and the tokenizer adds the first token"),
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
