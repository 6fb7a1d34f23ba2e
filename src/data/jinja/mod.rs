//! Jinja2 as transformers runs it: the immutable sandbox, with `trim_blocks`, `lstrip_blocks`, loop controls,
//! `{% generation %}`, an unescaped `tojson`, `raise_exception` and `strftime_now`.
//!
//! Written by hand because chat templates depend on Python: they call methods of `str`, print floats and dicts, format by
//! `%`, and rely on the errors that Python raises. minijinja's values have other comparisons, arithmetic and undefined, which
//! cannot be replaced: it silently renders some templates differently, and accepts wrong ones.
//!
//! `lexer`, `parser` and `check` compile; `interpreter`, `evaluate` and `loops` run; `value` and `ops` are Python's data model;
//! the other files are its library. `tests/golden/chat/battery.json` has renderings of jinja2 itself.

mod arguments;
mod arithmetic;
mod ast;
mod attributes;
mod check;
mod drop;
mod error;
mod evaluate;
mod expression;
mod filters;
mod filters_sequence;
mod filters_text;
mod format;
mod from_json;
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
mod postfix;
mod print;
mod printf;
mod split;
mod statement;
mod subscript;
mod tests;
mod text;
mod token;
mod unicode;
mod value;

pub use error::{Cause, Failure};

use crate::data::dataset::Row;
use error::Result;
use serde_json::Value as Json;
use std::sync::Arc;
use value::Value;

/// The steps that one rendering may take, and further ones for each value of its context.
const STEPS: u64 = 1_000_000;
const STEPS_PER_VALUE: u64 = 10_000;
/// The bytes of text that one rendering may produce, intermediate text included, and further ones for each byte of its
/// context.
const BYTES: u64 = 64 << 20;
const BYTES_PER_BYTE: u64 = 1024;
const MAX_BYTES: u64 = 4 << 30;

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
        let text = BYTES.saturating_add(bytes.saturating_mul(BYTES_PER_BYTE)).min(MAX_BYTES);
        fuel::begin(STEPS.saturating_add(values.saturating_mul(STEPS_PER_VALUE)), text);
        interpreter::Interpreter::new(self.program.clone(), variables, marks.map(Into::into)).run()
    }
}
