//! Chat templates, rendered byte for byte as transformers' `apply_chat_template` does.
//!
//! A template is Jinja2 with `trim_blocks` and `lstrip_blocks`, loop controls, and the
//! additions of transformers: an unescaped `tojson`, `raise_exception`, `strftime_now` and
//! the `{% generation %}` tags around what the assistant writes. Leaves to others: the
//! language itself (`jinja/`), which parts of the text are trained on (`spans.rs`).

use super::dataset::Row;
use super::example::Chat;
use super::jinja::{Cause, Failure, Template};
use super::marks::free_characters;
use super::messages;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use crate::lora::Model;
use serde_json::Value as Json;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A compiled chat template with the special tokens that it may write.
pub struct ChatTemplate {
    template: Template,
    source: String,
    /// By role: `bos_token`, ….
    special_tokens: Row,
    renderings: AtomicUsize,
}

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// Byte ranges inside the template's `{% generation %}` tags.
    pub generated: Vec<Range<usize>>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ChatTemplate({} bytes, generation tags: {})", self.source.len(), self.has_generation_tags())
    }
}

impl ChatTemplate {
    /// The template of a tokenizer; for rows with tools the one named `tool_use`, if there is one.
    pub fn of(tokenizer: &Tokenizer, has_tools: bool) -> Result<Option<Self>> {
        let for_tools = tokenizer.chat_template_named("tool_use").filter(|_| has_tools);
        for_tools.or(tokenizer.chat_template()).map(|source| Self::new(source, tokenizer)).transpose()
    }

    /// Compiles a template with the special tokens of `tokenizer`.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let roles = tokenizer.special_roles().map(|(role, token)| (role.to_owned(), Json::from(token.text.as_str())));
        Self::with_tokens(source, roles.collect())
    }

    /// Compiles a template with special tokens given by role (`bos_token`, …).
    pub fn with_tokens(source: &str, special_tokens: Row) -> Result<Self> {
        let template = Template::compile(source).map_err(|failure| to_error(&failure))?;
        Ok(ChatTemplate { template, source: source.to_owned(), special_tokens, renderings: AtomicUsize::new(0) })
    }

    /// Whether the template itself marks what the assistant writes.
    pub fn has_generation_tags(&self) -> bool {
        self.template.has_generation_tags()
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

    /// How many times the template was rendered, which is what finding spans costs.
    pub fn renderings(&self) -> usize {
        self.renderings.load(Ordering::Relaxed)
    }

    /// Renders the first `count` messages of a conversation.
    ///
    /// Fails if the template refuses the conversation, or writes or loops without end.
    pub fn render(&self, chat: &Chat, count: usize, add_generation_prompt: bool) -> Result<Rendered> {
        let messages = &chat.messages[..count.min(chat.messages.len())];
        let text = self.render_messages(chat, messages, add_generation_prompt)?;
        let generated = if self.has_generation_tags() {
            self.generated(chat, messages, add_generation_prompt, &text)?
        } else {
            Vec::new()
        };
        Ok(Rendered { text, generated })
    }

    /// Renders `messages` in place of the conversation's, with its tools and variables.
    pub(super) fn render_messages(
        &self,
        chat: &Chat,
        messages: &[Json],
        add_generation_prompt: bool,
    ) -> Result<String> {
        self.render_marked(chat, messages, add_generation_prompt, ["", ""])
    }

    /// The ranges of `text`, a rendering, inside generation tags.
    ///
    /// Renders again with marks in place of the tags. The rest of the text must stay the same.
    fn generated(
        &self,
        chat: &Chat,
        messages: &[Json],
        add_generation_prompt: bool,
        text: &str,
    ) -> Result<Vec<Range<usize>>> {
        let values = messages.iter().chain(chat.tools.iter()).chain(chat.variables.values());
        let [open, close] = free_characters(values, [text, &self.source], 2)[..] else {
            return Err(Error::data("the conversation uses every character that could mark the generated text"));
        };
        let marks = [open, close].map(String::from);
        let marked = self.render_marked(chat, messages, add_generation_prompt, [&marks[0], &marks[1]])?;
        match split_at_marks(&marked, open, close) {
            Some(rendered) if rendered.text == text => Ok(rendered.generated),
            _ => Err(Error::data("the chat template changes the text between its generation tags").with_hint(
                "write `{% generation %}` around text that is printed unchanged: not inside a block whose text is \
                 then trimmed or filtered, and not inside another `{% generation %}`",
            )),
        }
    }

    fn render_marked(
        &self,
        chat: &Chat,
        messages: &[Json],
        add_generation_prompt: bool,
        marks: [&str; 2],
    ) -> Result<String> {
        self.renderings.fetch_add(1, Ordering::Relaxed);
        let messages: Vec<Json> = messages.iter().cloned().map(messages::normalise).collect();
        let mut context = self.special_tokens.clone();
        context.extend(chat.variables.clone());
        context.insert("messages".into(), Json::Array(messages));
        context.insert("tools".into(), chat.tools.clone().unwrap_or(Json::Null));
        context.insert("documents".into(), context.get("documents").cloned().unwrap_or(Json::Null));
        context.insert("add_generation_prompt".into(), Json::Bool(add_generation_prompt));
        ensure_tools_are_schemas(context.get("tools"))?;
        self.template.render_marked(&context, marks).map_err(|mut failure| {
            // A template that cannot render even the simplest conversation is at fault itself.
            if failure.cause == Cause::Runtime && !self.accepts_simple_chat(&context) {
                failure.cause = Cause::Template;
            }
            to_error(&failure)
        })
    }

    /// Whether the template renders one question and its answer, or refuses them by `raise_exception`.
    fn accepts_simple_chat(&self, context: &Row) -> bool {
        let mut simple = context.clone();
        let messages = [("user", "Hi"), ("assistant", "Hello")];
        let messages = messages.map(|(role, content)| serde_json::json!({"role": role, "content": content}));
        simple.insert("messages".into(), Json::from(messages.to_vec()));
        simple.insert("tools".into(), Json::Null);
        self.template.render(&simple).map_or_else(|failure| failure.cause == Cause::Raised, |_| true)
    }
}

/// transformers accepts JSON schemas, and Python functions, which a row cannot hold.
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
            Err(Error::data(format!("tool {index} is {kind}: tools are JSON schemas, one object each"))
                .with_hint("if the file holds them as JSON text, parse them first, or give the whole list as one text"))
        }
    }
}

/// Removes the marks from a text and returns the ranges between them; `None` unless they come in pairs.
fn split_at_marks(text: &str, opening: char, closing: char) -> Option<Rendered> {
    let mut rendered = Rendered { text: String::with_capacity(text.len()), generated: Vec::new() };
    let mut open = None;
    for c in text.chars() {
        match open {
            None if c == opening => open = Some(rendered.text.len()),
            Some(start) if c == closing => {
                rendered.generated.push(start..rendered.text.len());
                open = None;
            }
            _ if c == opening || c == closing => return None,
            _ => rendered.text.push(c),
        }
    }
    open.is_none().then_some(rendered)
}

fn to_error(failure: &Failure) -> Error {
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
            error.with_hint("the chat template itself is wrong: give another one by option `chat_template`")
        }
        Cause::Raised => error.with_hint("the template refuses this conversation: look at its roles and their order"),
        Cause::Conversation => {
            error.with_hint("the template does not accept this conversation: correct or drop the row")
        }
        Cause::Runtime => error.with_hint(
            "the template renders a simple conversation but not this one: look at its roles, their order, and \
             contents that are not text; if those are right, look at that line of the template",
        ),
    }
}
/// Gives a model another chat template, which is compiled at once.
///
/// # Errors
/// What is no template, or one that does not compile.
pub fn set(model: &mut Model, template: &str) -> Result<()> {
    if !template.contains("{{") && !template.contains("{%") {
        let start: String = template.chars().take(40).collect();
        let error = Error::input(format!(
            "expected the text of a Jinja template, with {{{{ … }}}} or {{% … %}}, found {start:?}"
        ));
        let is_file = template.ends_with(".jinja") || template.ends_with(".txt");
        let hint = format!("to read it from a file: read_text({template:?})");
        return Err(if is_file { error.with_hint(hint) } else { error });
    }
    ChatTemplate::new(template, model.tokenizer()?)?;
    model.set_chat_template(template)
}
