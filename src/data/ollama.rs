//! An Ollama Modelfile: where the weights are, and the chat format in Ollama's own language.
//!
//! Ollama does not run Jinja templates. A known format is used only where the model's own
//! template renders conversations in just that way.

use super::example::Chat;
use super::template::ChatTemplate;
use crate::bail;
use crate::error::{Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use serde_json::{json, Value};

/// A chat format: what stands around each turn, and what ends an answer.
struct Format {
    system: [&'static str; 2],
    user: [&'static str; 2],
    assistant: [&'static str; 2],
    /// Whether the system prompt stands inside the first user turn.
    system_inside: bool,
    stop: &'static [&'static str],
}

const FORMATS: [Format; 5] = [
    // ChatML, as Qwen uses it.
    Format {
        system: ["<|im_start|>system\n", "<|im_end|>\n"],
        user: ["<|im_start|>user\n", "<|im_end|>\n"],
        assistant: ["<|im_start|>assistant\n", "<|im_end|>\n"],
        system_inside: false,
        stop: &["<|im_start|>", "<|im_end|>"],
    },
    // Llama 3.
    Format {
        system: ["<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"],
        user: ["<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"],
        assistant: ["<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"],
        system_inside: false,
        stop: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    // Llama 2.
    Format {
        system: ["<<SYS>>\n", "\n<</SYS>>\n\n"],
        user: ["[INST] ", " [/INST]"],
        assistant: ["", ""],
        system_inside: true,
        stop: &["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"],
    },
    // Mistral.
    Format {
        system: ["", "\n\n"],
        user: ["[INST] ", "[/INST]"],
        assistant: ["", ""],
        system_inside: true,
        stop: &["[INST]", "[/INST]"],
    },
    // Zephyr.
    Format {
        system: ["<|system|>\n", "</s>\n"],
        user: ["<|user|>\n", "</s>\n"],
        assistant: ["<|assistant|>\n", "</s>\n"],
        system_inside: false,
        stop: &["<|system|>", "<|user|>", "<|assistant|>", "</s>"],
    },
];

/// The text of a Modelfile over the weights `from`, with an `adapter` if there is one, and
/// what the user should know of it.
pub fn modelfile(tokenizer: &Tokenizer, from: &str, adapter: Option<&str>) -> Result<(String, Vec<String>)> {
    let mut lines = vec![format!("FROM {}", one_line("from", from)?)];
    if let Some(adapter) = adapter {
        lines.push(format!("ADAPTER {}", one_line("adapter", adapter)?));
    }
    let mut notes = Vec::new();
    match ChatTemplate::of(tokenizer, false)? {
        None => notes.push("the tokenizer has no chat template: Ollama will continue plain text".to_owned()),
        Some(template) => match FORMATS.iter().find_map(|format| Some((format, format.matches(&template, tokenizer)?)))
        {
            Some((format, system)) => lines.extend(format.lines(system.as_deref())),
            None => notes.push("the chat template is none of the known formats: write TEMPLATE by hand".to_owned()),
        },
    }
    Ok((lines.join("\n") + "\n", notes))
}

fn one_line<'a>(option: &str, path: &'a str) -> Result<&'a str> {
    match path.trim().is_empty() || path.contains(['\n', '\r']) {
        false => Ok(path),
        true => bail!(Kind::Input, "`{option}`: expected the name of a file, found {path:?}"),
    }
}

impl Format {
    /// Whether `template` renders as this format does; inside, the system prompt that it adds
    /// where none is given.
    fn matches(&self, template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<Option<String>> {
        let user = json!({ "role": "user", "content": "Hello there." });
        let plain = rendered(template, tokenizer, vec![user.clone()])?;
        let added = match plain == self.expand(None, "Hello there.") {
            true => None,
            false => Some(self.added_system(&plain)?),
        };
        let system = json!({ "role": "system", "content": "Be brief." });
        // Some templates refuse a system prompt.
        let asked = rendered(template, tokenizer, vec![system, user]);
        asked.is_none_or(|text| text == self.expand(Some("Be brief."), "Hello there.")).then_some(added)
    }

    /// The system prompt in a rendering that was given none.
    fn added_system(&self, text: &str) -> Option<String> {
        let begin = text.find(self.system[0]).filter(|_| !self.system[0].is_empty())? + self.system[0].len();
        let end = begin + text[begin..].find(self.system[1])?;
        let system = &text[begin..end];
        (text == self.expand(Some(system), "Hello there.")).then(|| system.to_owned())
    }

    fn expand(&self, system: Option<&str>, prompt: &str) -> String {
        let system = system.map(|text| self.system.join(text)).unwrap_or_default();
        let [open, close] = self.user;
        let asked = match self.system_inside {
            true => format!("{open}{system}{prompt}{close}"),
            false => format!("{system}{open}{prompt}{close}"),
        };
        asked + self.assistant[0]
    }

    fn lines(&self, system: Option<&str>) -> Vec<String> {
        let asked_system = format!("{{{{ if .System }}}}{}{{{{ end }}}}", self.system.join("{{ .System }}"));
        let turn = self.user.join("{{ .Prompt }}");
        let asked = match self.system_inside {
            true => turn.replacen(self.user[0], &format!("{}{asked_system}", self.user[0]), 1),
            false => format!("{asked_system}{{{{ if .Prompt }}}}{turn}{{{{ end }}}}"),
        };
        let mut lines = vec![format!("TEMPLATE \"\"\"{asked}{}\"\"\"", self.assistant.join("{{ .Response }}"))];
        lines.extend(system.map(|text| format!("SYSTEM \"\"\"{text}\"\"\"")));
        lines.extend(self.stop.iter().map(|stop| format!("PARAMETER stop \"{stop}\"")));
        lines
    }
}

/// The conversation up to where an answer begins, without the BOS that Ollama adds itself.
fn rendered(template: &ChatTemplate, tokenizer: &Tokenizer, messages: Vec<Value>) -> Option<String> {
    let count = messages.len();
    let text = template.render(&Chat { messages, ..Chat::default() }, count, true).ok()?.text;
    let bos = tokenizer.bos().map_or("", |token| token.text.as_str());
    Some(text.strip_prefix(bos).unwrap_or(&text).to_owned())
}
