//! Writes an Ollama Modelfile: the path of the weights, and the chat format in Ollama's template language.
//!
//! Ollama does not run Jinja templates. A known format is used only if the model's chat template renders conversations the
//! same way.

use super::example::Chat;
use super::template::ChatTemplate;
use crate::bail;
use crate::error::{Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use serde_json::{json, Value};

/// A chat format: the text before and after each turn, and what ends an answer.
struct Format {
    system: [&'static str; 2],
    user: [&'static str; 2],
    assistant: [&'static str; 2],
    /// Whether the system prompt is inside the first user turn.
    system_in_user_turn: bool,
    stop: &'static [&'static str],
}

const FORMATS: [Format; 5] = [
    // ChatML, as Qwen uses it.
    Format {
        system: ["<|im_start|>system\n", "<|im_end|>\n"],
        user: ["<|im_start|>user\n", "<|im_end|>\n"],
        assistant: ["<|im_start|>assistant\n", "<|im_end|>\n"],
        system_in_user_turn: false,
        stop: &["<|im_start|>", "<|im_end|>"],
    },
    // Llama 3.
    Format {
        system: ["<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"],
        user: ["<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"],
        assistant: ["<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"],
        system_in_user_turn: false,
        stop: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    // Llama 2.
    Format {
        system: ["<<SYS>>\n", "\n<</SYS>>\n\n"],
        user: ["[INST] ", " [/INST]"],
        assistant: ["", ""],
        system_in_user_turn: true,
        stop: &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    },
    // Mistral.
    Format {
        system: ["", "\n\n"],
        user: ["[INST] ", "[/INST]"],
        assistant: ["", ""],
        system_in_user_turn: true,
        stop: &["[INST]", "[/INST]"],
    },
    // Zephyr.
    Format {
        system: ["<|system|>\n", "</s>\n"],
        user: ["<|user|>\n", "</s>\n"],
        assistant: ["<|assistant|>\n", "</s>\n"],
        system_in_user_turn: false,
        stop: &["<|system|>", "<|user|>", "<|assistant|>", "</s>"],
    },
];

/// The text of a Modelfile for the weights `from` and an optional `adapter`, with notes for the user.
pub fn modelfile(tokenizer: &Tokenizer, from: &str, adapter: Option<&str>) -> Result<(String, Vec<String>)> {
    let mut lines = vec![format!("FROM {}", one_line("from", from)?)];
    if let Some(adapter) = adapter {
        lines.push(format!("ADAPTER {}", one_line("adapter", adapter)?));
    }
    let mut notes = Vec::new();
    match ChatTemplate::of(tokenizer, false)? {
        None => notes.push("the tokenizer has no chat template: Ollama will continue text without one".to_owned()),
        Some(template) => match FORMATS.iter().find_map(|format| Some((format, format.matches(&template, tokenizer)?)))
        {
            Some((format, system)) => lines.extend(format.lines(system.as_deref())),
            None => notes.push("the chat template is none of the known formats: write TEMPLATE by hand".to_owned()),
        },
    }
    Ok((lines.join("\n") + "\n", notes))
}

fn one_line<'a>(option: &str, path: &'a str) -> Result<&'a str> {
    if path.trim().is_empty() || path.contains(['\n', '\r']) {
        bail!(Kind::Input, "`{option}`: expected the name of a file, found {path:?}");
    }
    Ok(path)
}

impl Format {
    /// `Some` if `template` renders as this format does; inside, the system prompt that it adds to a conversation without
    /// one.
    fn matches(&self, template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<Option<String>> {
        let user = json!({ "role": "user", "content": "Hello there." });
        let without_system = rendered(template, tokenizer, vec![user.clone()])?;
        let added_system = if without_system == self.expand(None, "Hello there.") {
            None
        } else {
            Some(self.added_system(&without_system)?)
        };
        let system = json!({ "role": "system", "content": "Be brief." });
        // Some templates refuse a system prompt.
        let with_system = rendered(template, tokenizer, vec![system, user]);
        with_system.is_none_or(|text| text == self.expand(Some("Be brief."), "Hello there.")).then_some(added_system)
    }

    /// The system prompt in the rendering of a conversation without one.
    fn added_system(&self, text: &str) -> Option<String> {
        let begin = text.find(self.system[0]).filter(|_| !self.system[0].is_empty())? + self.system[0].len();
        let end = begin + text[begin..].find(self.system[1])?;
        let system = &text[begin..end];
        (text == self.expand(Some(system), "Hello there.")).then(|| system.to_owned())
    }

    fn expand(&self, system: Option<&str>, prompt: &str) -> String {
        let system = system.map(|text| self.system.join(text)).unwrap_or_default();
        let [open, close] = self.user;
        let turn = if self.system_in_user_turn {
            format!("{open}{system}{prompt}{close}")
        } else {
            format!("{system}{open}{prompt}{close}")
        };
        turn + self.assistant[0]
    }

    fn lines(&self, system: Option<&str>) -> Vec<String> {
        let system_block = format!("{{{{ if .System }}}}{}{{{{ end }}}}", self.system.join("{{ .System }}"));
        let turn = self.user.join("{{ .Prompt }}");
        let prompt = if self.system_in_user_turn {
            turn.replacen(self.user[0], &format!("{}{system_block}", self.user[0]), 1)
        } else {
            format!("{system_block}{{{{ if .Prompt }}}}{turn}{{{{ end }}}}")
        };
        let mut lines = vec![format!("TEMPLATE \"\"\"{prompt}{}\"\"\"", self.assistant.join("{{ .Response }}"))];
        lines.extend(system.map(|text| format!("SYSTEM \"\"\"{text}\"\"\"")));
        lines.extend(self.stop.iter().map(|stop| format!("PARAMETER stop \"{stop}\"")));
        lines
    }
}

/// The conversation with a generation prompt, without the BOS, which Ollama adds itself.
fn rendered(template: &ChatTemplate, tokenizer: &Tokenizer, messages: Vec<Value>) -> Option<String> {
    let count = messages.len();
    let text = template.render(&Chat { messages, ..Chat::default() }, count, true).ok()?.text;
    let bos = tokenizer.bos().map_or("", |token| token.text.as_str());
    Some(text.strip_prefix(bos).unwrap_or(&text).to_owned())
}
