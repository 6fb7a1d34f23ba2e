//! The options of tokenisation. Defaults are those of TRL's `SFTConfig`: `max_length` 1024, truncated at the end, an eos
//! after texts and completions, no packing.

use super::dataset::Row;
use serde::{Deserialize, Serialize};

/// Which tokens are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Every turn of the assistant; in rows of `prompt` + `completion`, those of the completion.
    Assistant,
    /// Everything after the prompt; in rows of `messages`, the last assistant turn.
    Completion,
    /// All tokens.
    Everything,
}

/// How much of an assistant's turn is trained on, unless the template has generation tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssistantSpan {
    /// What the model writes: from the end of the generation prompt
    /// (`<|im_start|>assistant\n`) through the end token (`<|im_end|>`).
    #[default]
    Generated,
    /// Also the white space before the answer and after the end token, as TRL's training template for Qwen2.5.
    Turn,
}

/// Which end of a row is kept if it is longer than `max_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    #[default]
    KeepStart,
    KeepEnd,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizeOptions {
    /// The largest number of tokens in a row; `None` for no limit.
    pub max_length: Option<usize>,
    pub truncation: Truncation,
    /// `None`: assistant turns of conversations, completions of prompt and completion, everything of texts.
    pub loss_on: Option<LossOn>,
    pub assistant_span: AssistantSpan,
    /// Puts several short rows in one, up to `max_length`.
    pub packing: bool,
    /// Ends texts and completions with the eos token.
    pub append_eos: bool,
    /// Drops rows with nothing to train on, as TRL does after truncation. Otherwise the audit fails on them.
    pub drop_unlabelled: bool,
    /// The column of text. If it is named, rows are read as text whatever their other columns.
    pub text_column: Option<String>,
    /// Replaces the template of the tokenizer.
    pub chat_template: Option<String>,
    /// Further variables for the template (`enable_thinking`, `date_string`).
    pub template_variables: Row,
    /// Runs the supervision audit, and fails on its errors.
    pub audit: bool,
    /// Reads the result from the cache, or writes it there.
    pub cache: bool,
}

impl Default for TokenizeOptions {
    fn default() -> Self {
        TokenizeOptions {
            max_length: Some(1024),
            truncation: Truncation::default(),
            loss_on: None,
            assistant_span: AssistantSpan::default(),
            packing: false,
            append_eos: true,
            drop_unlabelled: false,
            text_column: None,
            chat_template: None,
            template_variables: Row::new(),
            audit: true,
            cache: true,
        }
    }
}

impl LossOn {
    pub const NAMES: [(&'static str, Self); 3] =
        [("assistant", Self::Assistant), ("completion", Self::Completion), ("everything", Self::Everything)];
}

impl AssistantSpan {
    pub const NAMES: [(&'static str, Self); 2] = [("generated", Self::Generated), ("turn", Self::Turn)];
}

impl Truncation {
    pub const NAMES: [(&'static str, Self); 2] = [("keep_start", Self::KeepStart), ("keep_end", Self::KeepEnd)];
}
