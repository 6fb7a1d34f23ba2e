//! Errors of the grammar in plain words: what is missing and where it was begun, and what of
//! Python's grammar may have been meant.
//!
//! Unknown names are in `unknown`.

use crate::error::Error;
use crate::format::lower_first;
use crate::script::language::brackets;
use crate::script::language::messages::{constant, mismatched, nothing_to_loop_over};
use crate::script::language::python;
use crate::script::language::unknown::{unknown_module, unknown_variable, ErrorContext};
use rhai::{LexError, ParseErrorType};

/// An error of the grammar, by its context.
pub fn explain(error: &ParseErrorType, context: &ErrorContext) -> Error {
    habit(context).unwrap_or_else(|| unreadable(error, context))
}

/// Python's grammar at the place of the error.
fn habit(context: &ErrorContext) -> Option<Error> {
    let place = context.place?;
    let (message, hint) = python::grammar(place.text.as_deref()?, place.column)?;
    Some(Error::input(message).with_hint(hint))
}

/// An error of the grammar that is no habit from Python.
fn unreadable(error: &ParseErrorType, context: &ErrorContext) -> Error {
    use ParseErrorType as P;
    match error {
        P::VariableUndefined(name) => unknown_variable(name, context),
        P::ModuleUndefined(name) => unknown_module(name, context),
        P::MissingToken(token, why) if token == ";" => {
            Error::input(format!("expected `;` {why}")).with_hint(missing_semicolon(context))
        }
        P::MissingToken(token, why) if token == "{" => {
            Error::input(format!("expected `{{` {why}")).with_hint("a block stands between braces: if rank > 4 { … }")
        }
        P::MissingToken(token, _) => with_open_bracket(explain_alone(error), token, context),
        P::BadInput(LexError::UnexpectedInput(text)) if ["}", "]", ")"].contains(&text.as_str()) => {
            match open_bracket(context) {
                Some((bracket, ..)) if brackets::closing(bracket).to_string() == *text => {
                    explain_alone(error).with_hint("a value is missing before it")
                }
                Some((bracket, line, column)) => explain_alone(error)
                    .with_hint(format!("the `{bracket}` in line {line}, column {column} must be closed first")),
                None => explain_alone(error).with_hint("no bracket is open here: remove it, or open one before"),
            }
        }
        P::BadInput(LexError::UnterminatedString) if begins_with(context, "`") => {
            Error::input("the text has no closing quote").with_hint("close it with a backtick: `…`")
        }
        P::PropertyExpected => {
            let error = Error::input("expected the name of a property or function behind `.`");
            match word(context).and_then(python::name) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        P::Reserved(name) if context.catalog.named(name).next().is_some() => {
            Error::input(format!("`{name}` is a function")).with_hint(format!("write {name}(…)"))
        }
        other => explain_alone(other),
    }
}

/// The word at the place of the error.
fn word<'a>(context: &ErrorContext<'a>) -> Option<&'a str> {
    let place = context.place?;
    let text = place.text.as_deref()?;
    let at = text.char_indices().nth(place.column.checked_sub(1)?)?.0;
    let word = text.get(at..)?;
    let end = word.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(word.len());
    word.get(..end)
}

fn begins_with(context: &ErrorContext, what: &str) -> bool {
    let text = context.place.and_then(|place| Some(place.text.as_deref()?.chars().skip(place.column.checked_sub(1)?)));
    text.is_some_and(|text| text.collect::<String>().starts_with(what))
}

fn open_bracket(context: &ErrorContext) -> Option<brackets::Open> {
    let place = context.place?;
    brackets::innermost(context.engine, &context.state.text(&place.file)?, place.line, place.column)
}

fn with_open_bracket(error: Error, missing: &str, context: &ErrorContext) -> Error {
    let Some((bracket, line, column)) = open_bracket(context) else { return error };
    let end = brackets::closing(bracket);
    let open = format!("`{bracket}` in line {line}, column {column}");
    error.with_hint(match missing {
        "," => format!("put `,` between the two, or `{end}` here if they end: the {open} is still open"),
        _ => format!("the {open} is still open: is `{end}` missing?"),
    })
}

fn missing_semicolon(context: &ErrorContext) -> String {
    let text = context.place.and_then(|place| context.state.text(&place.file));
    let before = text
        .as_deref()
        .zip(context.place)
        .and_then(|(text, place)| brackets::line_before(text, place.line, place.column));
    match before {
        Some((line, text)) if text.contains("//") && text.trim_end().ends_with(';') => {
            format!("what follows `//` in line {line} is a comment; numbers are divided by `/`")
        }
        Some((line, _)) => format!("line {line} has no `;` at its end"),
        None => "a `;` is missing before this place, or it does not belong here".to_string(),
    }
}

/// The error by itself.
pub fn explain_alone(error: &ParseErrorType) -> Error {
    use ParseErrorType as P;
    match error {
        P::VariableUndefined(name) => Error::input(format!("unknown variable `{name}`")),
        P::ModuleUndefined(name) => Error::input(format!("unknown module `{name}`")),
        P::BadInput(error) => lex_error(error),
        P::AssignmentToConstant(name) => constant(name),
        P::ExprTooDeep => Error::input("the expression is nested too deeply").with_hint("split it up with `let`"),
        P::Reserved(name) if name == "null" => {
            Error::input("`null` is a reserved word").with_hint("nothing is written `()`")
        }
        P::Reserved(name) => Error::input(format!("`{name}` is a reserved word")).with_hint("choose another name"),
        P::UnexpectedEOF => {
            Error::input("the script ends too early").with_hint("a bracket, brace or quote is still open")
        }
        P::MissingToken(token, why) if token == ";" => Error::input(format!("expected `;` {why}"))
            .with_hint("the statement before this place has no `;` at its end"),
        P::MissingToken(token, why) => Error::input(format!("expected `{token}` {why}")),
        P::MismatchedType(expected, _) if expected.contains("iterable") => nothing_to_loop_over(),
        P::MismatchedType(expected, found) => mismatched(expected, found),
        other => Error::input(lower_first(&other.to_string())),
    }
}

fn lex_error(error: &LexError) -> Error {
    match error {
        LexError::ImproperSymbol(name, _) if name == "eval" => {
            Error::input("`eval` is switched off").with_hint("write the code out, or put it into a function")
        }
        LexError::UnterminatedString => Error::input("the text has no closing quote")
            .with_hint("close it in the same line; a text over several lines stands between backticks, `…`"),
        LexError::ImproperSymbol(name, _) if name == "=" => {
            Error::input("expected a comparison, found an assignment").with_hint("compare by `==`")
        }
        LexError::MalformedChar(text) => Error::input(format!("'{text}' is not a single letter"))
            .with_hint(format!("a text stands between double quotes: \"{text}\"")),
        LexError::UnexpectedInput(text) => Error::input(format!("unexpected `{text}`")),
        other => Error::input(lower_first(&other.to_string())),
    }
}
