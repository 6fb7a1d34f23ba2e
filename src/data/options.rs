//! The options of tokenisation. Defaults are those of TRL's `SFTConfig`: `max_length` 1024, truncated at the end, an eos
//! after texts and completions, no packing.

use super::dataset::Row;
use crate::hub::tokenizer::Tokenizer;
use crate::options;
use crate::options::Refusal;
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

crate::choices!(
    LossOn,
    [("assistant", LossOn::Assistant), ("completion", LossOn::Completion), ("everything", LossOn::Everything)]
);
crate::choices!(AssistantSpan, [("generated", AssistantSpan::Generated), ("turn", AssistantSpan::Turn)]);
crate::choices!(Truncation, [("keep_start", Truncation::KeepStart), ("keep_end", Truncation::KeepEnd)]);

options! {
    /// How rows become tokens and labels.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub struct TokenizeOptions {
        /// The largest number of tokens in a row; 0 for no limit.
        pub max_length: Option<usize> = Some(1024);
        /// Which end of a row is kept if it is longer than `max_length`.
        pub truncation: Truncation = Truncation::default();
        /// Which tokens are trained on. Without it: the assistant's turns of `messages`, the completion of a prompt with
        /// a completion, everything of `text`. TRL's SFTConfig trains on all of `messages` by default.
        pub loss_on: Option<LossOn> = None, words "by the kind of row";
        /// How much of an assistant's turn is trained on: "generated" is what the model has to write, "turn" adds the
        /// white space around it, as TRL's training template marks it.
        pub assistant_span: AssistantSpan = AssistantSpan::default();
        /// Puts several short rows in one, up to `max_length`.
        pub packing: bool = false;
        /// Ends texts and completions with the eos token.
        pub append_eos: bool = true;
        /// Drops rows with nothing to train on, as TRL does after truncation. Otherwise the audit fails on them.
        pub drop_unlabelled: bool = false;
        /// The column of text. If it is named, rows are read as text whatever their other columns.
        pub text_column: Option<String> = None, words "`text`";
        /// A chat template for these rows alone, instead of the model's; see `model.chat_template`.
        pub chat_template: Option<String> = None, words "the model's";
        /// Further variables for the chat template, such as `enable_thinking` or `date_string`.
        pub template_variables: Row = Row::new();
        /// Runs the supervision audit: refuses rows that cannot be learned from, and warns of doubtful ones.
        pub audit: bool = true;
        /// Reads the result from the cache, or writes it there.
        pub cache: bool = true;
    }
    resolve TokenizeOptions::resolve;
    rule TokenizeOptions::rule;
}

impl TokenizeOptions {
    fn resolve(&mut self) {
        self.max_length = self.max_length.filter(|length| *length > 0);
    }

    /// What may surprise in a chat template for these rows alone.
    pub fn template_note(&self, tokenizer: &Tokenizer) -> Option<String> {
        let template = self.chat_template.as_deref()?;
        if tokenizer.chat_template() == Some(template) {
            return None;
        }
        let others = if tokenizer.chat_template().is_some() { "keep the model's" } else { "have none" };
        Some(format!(
            "tokenize: only these rows follow the option `chat_template`: chat and saved files {others}; for one template \
             everywhere, set model.chat_template before"
        ))
    }

    fn rule(&self) -> Option<Refusal> {
        match self.max_length {
            Some(length @ (0 | 1)) => {
                Some(Refusal::new("max_length", "int of at least 2, or 0 for no limit", format!("int {length}")))
            }
            None if self.packing => Some(
                Refusal::new("packing", "`max_length` beside it, the length of a packed row", "no limit")
                    .with_hint("give a max_length, or leave `packing` out"),
            ),
            _ => None,
        }
    }
}
