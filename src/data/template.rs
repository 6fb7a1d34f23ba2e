//! Chat templates, rendered byte for byte as transformers' `apply_chat_template` does.
//!
//! A template is Jinja2 with `trim_blocks` and `lstrip_blocks`, loop controls, and the
//! additions of transformers: an unescaped `tojson`, `raise_exception`, `strftime_now` and
//! the `{% generation %}` tags around what an assistant said. Leaves to others: which
//! parts of the text are trained on (`spans.rs`).

use super::dataset::Row;
use super::jinja::{Cause, Failure, Template};
use super::marks::free_characters;
use super::messages;
use super::example::Chat;
use crate::error::{Error, Kind, Result};
use crate::hub::tokenizer::Tokenizer;
use regex::Regex;
use serde_json::Value as Json;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Variables that stand where generation tags stood: empty, or marks that no text at hand holds.
const TAGS: [&str; 2] = ["lorhai_generation", "lorhai_endgeneration"];

/// A compiled chat template with the special tokens that it may write.
pub struct ChatTemplate {
    template: Template,
    source: String,
    special: Row,
    tagged: bool,
    renderings: AtomicUsize,
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
        let tagged = marked != source;
        let template = Template::compile(&marked).map_err(|failure| failed(&failure))?;
        Ok(ChatTemplate { template, source: source.to_owned(), special, tagged, renderings: AtomicUsize::new(0) })
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

    /// How often the template was rendered: what the spans of a conversation cost.
    pub fn renderings(&self) -> usize {
        self.renderings.load(Ordering::Relaxed)
    }

    /// Renders the first `count` messages of a conversation.
    ///
    /// Fails where the template refuses the conversation, does not compile, or runs away.
    pub fn render(&self, chat: &Chat, count: usize, add_generation_prompt: bool) -> Result<Rendered> {
        let messages = &chat.messages[..count.min(chat.messages.len())];
        let text = self.render_messages(chat, messages, add_generation_prompt)?;
        let generated = match self.tagged {
            true => self.generated(chat, messages, add_generation_prompt, &text)?,
            false => Vec::new(),
        };
        Ok(Rendered { text, generated })
    }

    /// Renders messages that are not the conversation's own, with all else that it has.
    pub(super) fn render_messages(&self, chat: &Chat, messages: &[Json], prompt: bool) -> Result<String> {
        self.render_tagged(chat, messages, prompt, ["", ""])
    }

    /// The ranges of `text`, a rendering, that generation tags stand around.
    ///
    /// It is rendered again with marks in place of the tags, which must change nothing else.
    fn generated(&self, chat: &Chat, messages: &[Json], prompt: bool, text: &str) -> Result<Vec<Range<usize>>> {
        let values = messages.iter().chain(chat.tools.iter()).chain(chat.variables.values());
        let [open, close] = free_characters(values, [text, &self.source], 2)[..] else {
            return Err(Error::data("the conversation holds every character that could mark its words"));
        };
        let marks = [open, close].map(String::from);
        let marked = self.render_tagged(chat, messages, prompt, [&marks[0], &marks[1]])?;
        match take_marks(&marked, open, close) {
            Some(rendered) if rendered.text == text => Ok(rendered.generated),
            _ => Err(Error::data("the chat template changes what stands between its generation tags").with_hint(
                "its tags must stand around what is written as it is: not in a block whose text is then cut or \
                 trimmed, nor in one another",
            )),
        }
    }

    fn render_tagged(&self, chat: &Chat, messages: &[Json], prompt: bool, tags: [&str; 2]) -> Result<String> {
        self.renderings.fetch_add(1, Ordering::Relaxed);
        let messages: Vec<Json> = messages.iter().cloned().map(messages::normalise).collect();
        let mut context = self.special.clone();
        context.extend(chat.variables.clone());
        context.insert("messages".into(), Json::Array(messages));
        context.insert("tools".into(), chat.tools.clone().unwrap_or(Json::Null));
        context.insert("documents".into(), context.get("documents").cloned().unwrap_or(Json::Null));
        context.insert("add_generation_prompt".into(), Json::Bool(prompt));
        for (name, mark) in TAGS.into_iter().zip(tags).filter(|_| self.tagged) {
            context.insert(name.into(), mark.into());
        }
        self.write(&context)
    }

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
            None => format!("{{%{left} with %}}{{{{ {} }}}}{{% if true {right}%}}", TAGS[0]),
            Some(_) => format!("{{%{left} endif %}}{{{{ {} }}}}{{% endwith {right}%}}", TAGS[1]),
        });
        done = whole.end();
    }
    marked.push_str(&source[done..]);
    Ok(marked)
}

/// Takes the marks out of a text; `None` where they do not stand in pairs.
fn take_marks(text: &str, opening: char, closing: char) -> Option<Rendered> {
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
