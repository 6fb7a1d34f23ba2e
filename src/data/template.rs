//! Chat templates, rendered byte for byte as transformers' `apply_chat_template` does.
//!
//! A template is Jinja2 with `trim_blocks` and `lstrip_blocks`, loop controls, and the
//! additions of transformers: an unescaped `tojson`, `raise_exception`, `strftime_now` and
//! the `{% generation %}` tags around what an assistant said. Leaves to others: which
//! parts of the text are trained on (`spans.rs`).

use super::dataset::Row;
use super::jinja::{Cause, Failure, Template};
use super::shape::Chat;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use regex::Regex;
use serde_json::Value as Json;
use std::ops::Range;

/// Written around generated parts and taken out again; Unicode sets these code points
/// aside for a program's own use, so that no text holds them.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';
/// Marks one place in a message; see [`ChatTemplate::render_with_mark`].
pub(super) const MARK: char = '\u{fdd2}';

/// A compiled chat template with the special tokens that it may write.
pub struct ChatTemplate {
    template: Template,
    source: String,
    special: Row,
    tagged: bool,
}

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// Byte ranges that the template's `{% generation %}` tags stand around.
    pub generated: Vec<Range<usize>>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ChatTemplate({} bytes, generation tags: {})", self.source.len(), self.tagged)
    }
}

impl ChatTemplate {
    /// The template of a tokenizer: `tool_use` for rows with tools where there is one.
    pub fn of(tokenizer: &Tokenizer, tools: bool) -> Result<Option<Self>> {
        let for_tools = tokenizer.chat_template_named("tool_use").filter(|_| tools);
        for_tools.or(tokenizer.chat_template()).map(|source| Self::new(source, tokenizer)).transpose()
    }

    /// Compiles a template; `tokenizer` gives the special tokens.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let roles = tokenizer.special_roles().map(|(role, token)| (role.to_owned(), Json::from(token.text.as_str())));
        Self::with_tokens(source, roles.collect())
    }

    /// Compiles a template with special tokens given by role (`bos_token`, …).
    pub fn with_tokens(source: &str, special: Row) -> Result<Self> {
        let marked = mark_generation(source)?;
        let tagged = marked.contains(OPEN);
        let template = Template::compile(&marked).map_err(|failure| failed(&failure))?;
        Ok(ChatTemplate { template, source: source.to_owned(), special, tagged })
    }

    /// Whether the template marks what an assistant said.
    pub fn has_generation_tags(&self) -> bool {
        self.tagged
    }

    /// Whether the template can write the start of an assistant's turn.
    pub fn has_generation_prompt(&self) -> bool {
        self.source.contains("add_generation_prompt")
    }

    /// Whether the rendering depends on the day.
    pub fn is_dated(&self) -> bool {
        self.source.contains("strftime_now")
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the first `count` messages of a conversation.
    ///
    /// Fails where the template refuses the conversation, does not compile, or runs away.
    pub fn render(&self, chat: &Chat, count: usize, add_generation_prompt: bool) -> Result<Rendered> {
        let messages = chat.messages.iter().take(count).cloned().collect();
        self.render_messages(chat, messages, add_generation_prompt)
    }

    /// Renders all messages with [`MARK`] before the first visible character that message
    /// `index` has as content, and gives the text without the mark and the mark's place.
    ///
    /// `None` where that message has no text or the template lost or doubled the mark.
    pub(super) fn render_with_mark(&self, chat: &Chat, index: usize) -> Result<Option<(String, usize)>> {
        let mut messages = chat.messages.clone();
        let Some(content) = messages.get_mut(index).and_then(|message| message.get_mut("content")) else {
            return Ok(None);
        };
        let Some(text) = content.as_str() else { return Ok(None) };
        let core = text.trim_start();
        let lead = &text[..text.len() - core.len()];
        *content = Json::from(format!("{lead}{MARK}{core}"));
        let text = self.render_messages(chat, messages, false)?.text;
        match text.matches(MARK).count() {
            1 => Ok(text.find(MARK).map(|place| (text.replacen(MARK, "", 1), place))),
            _ => Ok(None),
        }
    }

    fn render_messages(&self, chat: &Chat, messages: Vec<Json>, add_generation_prompt: bool) -> Result<Rendered> {
        let messages: Vec<Json> = messages.into_iter().map(alias_reasoning).collect();
        let mut context = self.special.clone();
        context.extend(chat.variables.clone());
        context.insert("messages".into(), Json::Array(messages));
        context.insert("tools".into(), chat.tools.clone().unwrap_or(Json::Null));
        context.insert("documents".into(), context.get("documents").cloned().unwrap_or(Json::Null));
        context.insert("add_generation_prompt".into(), Json::Bool(add_generation_prompt));
        take_marks(&self.write(&context)?)
    }
}

impl ChatTemplate {
    /// Renders, and says whose fault it is where that fails.
    fn write(&self, context: &Row) -> Result<String> {
        ensure_tools_are_schemas(context.get("tools"))?;
        self.template.render(context).map(|output| output.text).map_err(|mut failure| {
            if failure.cause == Cause::Runtime && !self.renders_plainly(context) {
                failure.cause = Cause::Template;
            }
            failed(&failure)
        })
    }

    /// Whether the template renders a question and an answer, or refuses them itself.
    fn renders_plainly(&self, context: &Row) -> bool {
        let mut plain = context.clone();
        let messages = [("user", "Hi"), ("assistant", "Hello")];
        let messages = messages.map(|(role, content)| serde_json::json!({"role": role, "content": content}));
        plain.insert("messages".into(), Json::from(messages.to_vec()));
        plain.insert("tools".into(), Json::Null);
        match self.template.render(&plain) {
            Ok(_) => true,
            Err(failure) => failure.cause == Cause::Raised,
        }
    }
}

/// transformers takes tools as JSON schemas, or functions that it makes them of.
fn ensure_tools_are_schemas(tools: Option<&Json>) -> Result<()> {
    let tools = tools.and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    match tools.iter().position(|tool| !tool.is_object()) {
        None => Ok(()),
        Some(index) => {
            let kind = match &tools[index] {
                Json::String(_) => "a string",
                Json::Array(_) => "an array",
                Json::Null => "null",
                _ => "a number or boolean",
            };
            Err(Error::data(format!("tool {index} is {kind}: tools are JSON schemas, one object each")).with_hint(
                "where the file holds them as JSON text, parse them first, or give the whole list as one text",
            ))
        }
    }
}

/// Fills `reasoning_content` and `thinking` from one another, as transformers 5 does.
fn alias_reasoning(message: Json) -> Json {
    let Json::Object(fields) = &message else { return message };
    let names = ["reasoning_content", "thinking", "reasoning"];
    let Some(reasoning) = names.iter().filter_map(|name| fields.get(*name)).find(|value| !value.is_null()).cloned()
    else {
        return message;
    };
    let mut aliased = Row::new();
    aliased.insert("thinking".into(), reasoning.clone());
    aliased.extend(fields.clone());
    aliased.insert("reasoning_content".into(), reasoning);
    Json::Object(aliased)
}

/// Rewrites `{% generation %}…{% endgeneration %}` into blocks that write a mark at each
/// end. The outer tag of each pair keeps the whitespace control of the left side, the
/// inner one that of the right, and `with` keeps variables inside as the original does.
fn mark_generation(source: &str) -> Result<String> {
    let compile = |pattern: &str| Regex::new(pattern).map_err(|error| Error::bug(format!("pattern: {error}")));
    let comments = compile(r"(?s)\{#.*?#\}")?;
    let tags = compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")?;
    let mut marked = String::with_capacity(source.len());
    let mut done = 0;
    // Tags that a comment speaks of are left as they are.
    let ends: Vec<Range<usize>> = comments.find_iter(source).map(|found| found.range()).collect();
    for tag in tags.captures_iter(source) {
        let Some(whole) = tag.get(0).filter(|whole| !ends.iter().any(|comment| comment.contains(&whole.start())))
        else {
            continue;
        };
        let (left, right) = (&tag[1], &tag[3]);
        marked.push_str(&source[done..whole.start()]);
        marked.push_str(&match tag.get(2) {
            None => format!("{{%{left} with %}}{{{{ '{OPEN}' }}}}{{% if true {right}%}}"),
            Some(_) => format!("{{%{left} endif %}}{{{{ '{CLOSE}' }}}}{{% endwith {right}%}}"),
        });
        done = whole.end();
    }
    marked.push_str(&source[done..]);
    Ok(marked)
}

fn take_marks(text: &str) -> Result<Rendered> {
    let mut rendered = Rendered { text: String::with_capacity(text.len()), generated: Vec::new() };
    let mut open = None;
    for c in text.chars() {
        match (c, open) {
            (OPEN, None) => open = Some(rendered.text.len()),
            (CLOSE, Some(start)) => {
                rendered.generated.push(start..rendered.text.len());
                open = None;
            }
            (OPEN | CLOSE, _) => {
                return Err(Error::data(format!(
                    "the conversation holds U+{:04X}, which is no character",
                    u32::from(c)
                ))
                .with_hint("remove it: Unicode sets this code point aside"))
            }
            _ => rendered.text.push(c),
        }
    }
    Ok(rendered)
}

fn failed(failure: &Failure) -> Error {
    let line = failure.line.map_or_else(String::new, |line| format!(" line {line}"));
    let turn = failure.turn.map(|turn| format!("turn {turn}"));
    // The message may name the turn already.
    let turn = turn.filter(|turn| !failure.message.contains(turn.as_str()));
    let turn = turn.filter(|_| !matches!(failure.cause, Cause::Syntax | Cause::Template | Cause::OutOfFuel));
    let turn = turn.map_or_else(String::new, |turn| format!(", at {turn}"));
    let error = Error::new(Kind::Data, format!("chat template{line}{turn}: {}", failure.message));
    match failure.cause {
        Cause::OutOfFuel => error.with_hint("the template loops or writes without end"),
        Cause::Syntax | Cause::Template => {
            error.with_hint("the chat template itself is wrong; give another by option `chat_template`")
        }
        Cause::Raised => error.with_hint("the template refuses this conversation: look at its roles and their order"),
        Cause::Conversation => error.with_hint("the template does not accept this conversation: mend or drop the row"),
        Cause::Runtime => error.with_hint(
            "the template renders a plain conversation but not this one: look at its roles, their order, and \
             contents that are no text; or, if those are right, at that line of the template",
        ),
    }
}
