//! The options of tokenisation, with TRL's `SFTConfig` defaults where it has them:
//! `max_length` 1024, cut at the end, an eos after plain text and completions, packing off.
//!
//! What of an assistant's turn is an answer: see [`AssistantSpan`].

use super::dataset::Row;
use serde::{Deserialize, Serialize};

/// Which tokens a loss is taken at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Every turn of the assistant. Of `prompt` + `completion`, those in the completion.
    Assistant,
    /// What follows the prompt; the last assistant turn of a row of `messages`.
    Completion,
    /// All tokens.
    Everything,
}

/// How much of an assistant's turn is trained on where the template does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssistantSpan {
    /// What the model has to write: from the end of the generation prompt
    /// (`<|im_start|>assistant\n`) through the end token (`<|im_end|>`).
    #[default]
    Generated,
    /// Also the white space before the answer and after the end token: what TRL's training
    /// template for Qwen2.5 marks.
    Turn,
}

/// Which end of a row is kept where it is longer than `max_length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    #[default]
    KeepStart,
    KeepEnd,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizeOptions {
    /// The most tokens in a row; `None` for no limit.
    pub max_length: Option<usize>,
    pub truncation: Truncation,
    /// `None`: assistant turns of conversations, completions of prompt and completion,
    /// everything of plain text.
    pub loss_on: Option<LossOn>,
    pub assistant_span: AssistantSpan,
    /// Joins short rows up to `max_length`.
    pub packing: bool,
    /// Ends plain text and completions with the eos token.
    pub append_eos: bool,
    /// Leaves rows out that have nothing to train on, as TRL does after truncation.
    /// Otherwise the audit refuses them.
    pub drop_unlabelled: bool,
    /// The column of plain text; where it is named, it is what the rows are read from.
    pub text_column: Option<String>,
    /// Instead of the tokenizer's own template.
    pub chat_template: Option<String>,
    /// Further variables for the template (`enable_thinking`, `date_string`).
    pub template_variables: Row,
    /// Runs the supervision audit and fails on what it refuses.
    pub audit: bool,
    /// Looks in the cache first, and leaves the result there.
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
