//! Jinja2 as transformers runs it: the sandbox whose values cannot be changed, with
//! `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, an unescaped
//! `tojson`, `raise_exception` and `strftime_now`.
//!
//! Written by hand because a chat template is Python: it calls methods of `str`, prints
//! floats and dicts, formats by `%`, and relies on what Python refuses. minijinja has values
//! of its own, whose comparisons, arithmetic and undefined cannot be exchanged, so that it
//! renders some templates differently without a word and accepts wrong ones.
//!
//! `lexer`, `parser` and `check` compile; `interpreter`, `evaluate` and `loops` run; `value`
//! and `ops` are Python's data model; the rest is its library, a file for each part.
//! `tests/golden/chat/battery.json` holds what jinja2 itself renders.

mod arguments;
mod arithmetic;
mod ast;
mod attributes;
mod check;
mod error;
mod evaluate;
mod expression;
mod filters;
mod filters_sequence;
mod filters_text;
mod format;
mod fuel;
mod functions;
mod html;
mod interpreter;
mod json;
mod lexer;
mod literal;
mod loops;
mod methods;
mod number;
mod ops;
mod parser;
mod print;
mod printf;
mod split;
mod subscript;
mod tests;
mod text;
mod unicode;
mod value;

pub use error::{Cause, Failure};

use crate::data::Row;
use error::Result;
use serde_json::Value as Json;
use std::sync::Arc;
use value::Value;

/// Steps that one rendering may take, and those for each value that it is rendered with.
const STEPS: u64 = 1_000_000;
const STEPS_PER_VALUE: u64 = 10_000;
/// Bytes of text that one rendering may make on its way, and those for each byte of it
/// that was there before.
const BYTES: u64 = 64 << 20;
const BYTES_PER_BYTE: u64 = 1024;
const MOST_BYTES: u64 = 4 << 30;

/// A compiled template.
pub struct Template {
    program: Arc<ast::Program>,
}

/// The number of values and of bytes of text in `json`.
fn size(json: &Json) -> (u64, u64) {
    let add = |left: (u64, u64), right: (u64, u64)| (left.0 + right.0, left.1 + right.1);
    match json {
        Json::String(text) => (1, text.len() as u64),
        Json::Array(items) => items.iter().map(size).fold((1, 0), add),
        Json::Object(fields) => {
            fields.iter().map(|(name, value)| add((1, name.len() as u64), size(value))).fold((1, 0), add)
        }
        _ => (1, 8),
    }
}

impl Template {
    pub fn compile(source: &str) -> Result<Self> {
        let program = parser::parse(source)?;
        check::check(&program)?;
        Ok(Template { program: Arc::new(program) })
    }

    /// Whether the template has `{% generation %}` tags.
    pub fn has_generation_tags(&self) -> bool {
        self.program.has_generation_tags
    }

    /// Renders with the variables of `context`. The items of `messages` keep their index, so that a failure can name
    /// the turn.
    pub fn render(&self, context: &Row) -> Result<String> {
        self.render_marked(context, ["", ""])
    }

    /// As [`render`](Self::render), with a mark where each `{% generation %}` block begins and one where it ends.
    pub fn render_marked(&self, context: &Row, marks: [&str; 2]) -> Result<String> {
        let (mut values, mut bytes) = (0, 0);
        let mut variables = std::collections::HashMap::new();
        for (name, json) in context {
            let (more, text) = size(json);
            (values, bytes) = (values + more, bytes + text);
            let value = match json {
                Json::Array(messages) if name == "messages" => Value::from_messages(messages),
                other => Value::from_json(other),
            };
            variables.insert(name.clone(), value);
        }
        let text = BYTES.saturating_add(bytes.saturating_mul(BYTES_PER_BYTE)).min(MOST_BYTES);
        fuel::begin(STEPS.saturating_add(values.saturating_mul(STEPS_PER_VALUE)), text);
        interpreter::Interpreter::new(self.program.clone(), variables, marks.map(Into::into)).run()
    }
}
