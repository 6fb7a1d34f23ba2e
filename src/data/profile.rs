//! Finds out by small test renderings how a chat template behaves: how it ends a turn, what its generation prompt is, and whether
//! it writes a system prompt nobody asked for.

use super::example::Chat;
use super::template::{ChatTemplate, Rendered};
use crate::hub::tokenizer::Tokenizer;
use serde_json::json;
use std::cmp::Reverse;

/// How a template behaves on any conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateProfile {
    /// The token that ends an assistant's turn (`<|im_end|>`, `<|eot_id|>`).
    pub turn_end: Option<(u32, String)>,
    /// The system prompt that the template writes when the conversation has none.
    pub added_system: Option<String>,
    /// The tokenizer's added tokens, as text.
    pub added_tokens: Vec<String>,
    /// The added tokens of the generation prompt: no turn ends with them.
    pub prompt_tokens: Vec<String>,
    /// The added tokens that generation stops at.
    pub stop_tokens: Vec<String>,
    /// The first line of the generation prompt, which names the speaker.
    pub header: String,
}

impl TemplateProfile {
    /// Renders two small conversations. A template that refuses them gets an empty profile.
    pub fn probe(template: &ChatTemplate, tokenizer: &Tokenizer) -> Self {
        const QUESTION: &str = "qqqqqqqq";
        const ANSWER: &str = "aaaaaaaa";
        let tokens = tokenizer.added_tokens();
        let mut profile = TemplateProfile {
            added_tokens: tokens.iter().map(|token| token.text.clone()).collect(),
            stop_tokens: tokenizer.end_ids().iter().filter_map(|&id| tokenizer.token(id)).collect(),
            ..TemplateProfile::default()
        };
        let user = json!({"role": "user", "content": QUESTION});
        let chat = Chat { messages: vec![user, json!({"role": "assistant", "content": ANSWER})], ..Chat::default() };
        if let Ok(Rendered { text, .. }) = template.render(&chat, 1, true) {
            let after_question = text.split_once(QUESTION).map_or("", |(_, rest)| rest);
            let without_prompt = template.render(&chat, 1, false).map(|rendered| rendered.text).unwrap_or_default();
            let turn_end = without_prompt.split_once(QUESTION).map_or("", |(_, rest)| rest);
            let prompt = after_question.strip_prefix(turn_end).unwrap_or("");
            let line = prompt.split_inclusive('\n').find(|line| line.contains(char::is_alphanumeric)).unwrap_or("");
            profile.header = line.to_owned();
            profile.prompt_tokens =
                profile.added_tokens.iter().filter(|token| prompt.contains(token.as_str())).cloned().collect();
        }
        let Ok(Rendered { text, .. }) = template.render(&chat, 2, false) else { return profile };
        if let Some((_, rest)) = text.split_once(ANSWER) {
            let positions = tokens.into_iter().filter_map(|token| Some((rest.find(&token.text)?, token)));
            // If two tokens start at the same byte, one is a prefix of the other: the longer one is in the text.
            let first = positions.min_by_key(|(position, token)| (*position, Reverse(token.text.len())));
            profile.turn_end = first.map(|(_, token)| (token.id, token.text));
        }
        if let Some((head, _)) = text.split_once(QUESTION) {
            profile.added_system = head.contains("system").then(|| head.to_owned());
        }
        profile
    }

    /// The tokens that may end a turn.
    pub(super) fn end_tokens(&self) -> impl Iterator<Item = &str> {
        let turn_end = self.turn_end.iter().map(|(_, token)| token.as_str());
        turn_end.chain(self.added_tokens.iter().map(String::as_str)).filter(|token| !token.is_empty())
    }
}
