//! Errors of the grammar in plain words: what is missing and where it was begun, and what of
//! Python's grammar may have been meant.
//!
//! Unknown names are `explain`'s.

use crate::error::Error;
use crate::script::catalogue::docs::Catalog;
use crate::script::language::brackets;
use crate::script::language::explain::{
    constant, lowered, mismatched, nothing_to_loop_over, unknown_module, unknown_variable, Surroundings,
};
use crate::script::language::python;
use rhai::{LexError, ParseErrorType};

/// An error of the grammar, with what its surroundings tell.
pub fn explain(error: &ParseErrorType, around: &Surroundings) -> Error {
    habit(around).unwrap_or_else(|| unreadable(error, around))
}

/// Python's grammar at the place of the error.
fn habit(around: &Surroundings) -> Option<Error> {
    let place = around.place?;
    let (what, hint) = python::grammar(place.text.as_deref()?, place.column)?;
    Some(Error::input(format!("not of this language: {what}")).with_hint(hint))
}

/// An error of the grammar that its surroundings tell more about.
fn unreadable(error: &ParseErrorType, around: &Surroundings) -> Error {
    use ParseErrorType as P;
    match error {
        P::VariableUndefined(name) => unknown_variable(name, around),
        P::ModuleUndefined(name) => unknown_module(name, around),
        P::MissingToken(token, why) if token == ";" => {
            Error::input(format!("expected `;` {why}")).with_hint(missing_semicolon(around))
        }
        P::MissingToken(token, why) if token == "{" => {
            Error::input(format!("expected `{{` {why}")).with_hint("a block stands between braces: if rank > 4 { … }")
        }
        P::MissingToken(token, _) => with_open_bracket(plain(error), token, around),
        P::BadInput(LexError::UnexpectedInput(text)) if ["}", "]", ")"].contains(&text.as_str()) => {
            match open_bracket(around) {
                Some((bracket, ..)) if brackets::closing(bracket).to_string() == *text => {
                    plain(error).with_hint("a value is missing before it")
                }
                Some((bracket, line, column)) => plain(error)
                    .with_hint(format!("the `{bracket}` in line {line}, column {column} is to be closed first")),
                None => plain(error).with_hint("no bracket is open here: take it away, or open one before"),
            }
        }
        P::BadInput(LexError::UnterminatedString) if begins_with(around, "`") => {
            Error::input("the text has no closing quote").with_hint("close it with a backtick: `…`")
        }
        P::PropertyExpected => {
            let error = Error::input("expected the name of a property or function behind `.`");
            match word(around).and_then(python::name) {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        P::Reserved(name) if Catalog::of(around.engine).named(name).next().is_some() => {
            Error::input(format!("`{name}` is a function")).with_hint(format!("write {name}(…)"))
        }
        other => plain(other),
    }
}

/// The word at the place of the error.
fn word<'a>(around: &Surroundings<'a>) -> Option<&'a str> {
    let place = around.place?;
    let text = place.text.as_deref()?;
    let at = text.char_indices().nth(place.column.checked_sub(1)?)?.0;
    let word = text.get(at..)?;
    let end = word.find(|letter: char| !(letter.is_alphanumeric() || letter == '_')).unwrap_or(word.len());
    word.get(..end)
}

fn begins_with(around: &Surroundings, what: &str) -> bool {
    let text = around.place.and_then(|place| Some(place.text.as_deref()?.chars().skip(place.column.checked_sub(1)?)));
    text.is_some_and(|text| text.collect::<String>().starts_with(what))
}

fn open_bracket(around: &Surroundings) -> Option<brackets::Open> {
    let place = around.place?;
    brackets::innermost(around.engine, &around.state.text(&place.file)?, place.line, place.column)
}

fn with_open_bracket(error: Error, missing: &str, around: &Surroundings) -> Error {
    let Some((bracket, line, column)) = open_bracket(around) else { return error };
    let end = brackets::closing(bracket);
    let open = format!("`{bracket}` in line {line}, column {column}");
    error.with_hint(match missing {
        "," => format!("put `,` between the two, or `{end}` here if they end: the {open} is still open"),
        _ => format!("the {open} is still open: is `{end}` missing?"),
    })
}

fn missing_semicolon(around: &Surroundings) -> String {
    let text = around.place.and_then(|place| around.state.text(&place.file));
    let before = text
        .as_deref()
        .zip(around.place)
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
pub fn plain(error: &ParseErrorType) -> Error {
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
        other => Error::input(lowered(&other.to_string())),
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
        other => Error::input(lowered(&other.to_string())),
    }
}
