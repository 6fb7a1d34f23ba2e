//! What an error of the script language means: lower case, expected and found, the types as
//! scripts know them, and a "did you mean".
//!
//! Leaves to others: unknown names (`unknown`), the grammar (`grammar`), where the error is (`locate`).

use crate::error::Error;
use crate::format::lower_first;
use crate::interrupt;
use crate::script::language::grammar;

use crate::script::language::messages::{constant, mismatched, nothing_to_loop_over};
use crate::script::language::python;
use crate::script::language::unknown::{
    unknown_function, unknown_key, unknown_property, unknown_variable, ErrorContext,
};
use crate::script::values::convert::from_thrown;
use crate::script::values::from_script::type_name;
use rhai::EvalAltResult;

/// The innermost error in plain words, with the likely fix.
pub fn explain(error: &EvalAltResult, context: &ErrorContext) -> Error {
    use EvalAltResult as E;
    match error {
        E::ErrorFunctionNotFound(call, _) => unknown_function(call, context),
        E::ErrorVariableNotFound(name, _) => unknown_variable(name, context),
        E::ErrorParsing(error, _) => grammar::explain(error, context),
        E::ErrorPropertyNotFound(name, _) => unknown_key(name, context),
        E::ErrorDotExpr(text, _) => unknown_property(text, context),
        _ => explain_alone(error),
    }
}

/// As [`explain`], without what is known around the error.
pub fn explain_alone(error: &EvalAltResult) -> Error {
    use EvalAltResult as E;
    match error {
        E::ErrorRuntime(value, _) => from_thrown(value),
        // A script that took too much memory, or that was stopped.
        E::ErrorTerminated(value, _) if value.is_map() => from_thrown(value),
        E::ErrorTerminated(..) => interrupt::stopped(),
        E::ErrorParsing(error, _) => grammar::explain_alone(error),
        E::ErrorPropertyNotFound(name, _) => Error::input(format!("unknown property `{name}`")),
        E::ErrorMismatchDataType(expected, found, _) | E::ErrorMismatchOutputType(expected, found, _) => {
            mismatched(expected, found)
        }
        E::ErrorIndexingType(name, _) => indexing(name),
        E::ErrorArithmetic(text, _) if text.starts_with("Error parsing ") => unread_number(text),
        E::ErrorFor(_) => nothing_to_loop_over(),
        E::ErrorArrayBounds(count, index, _) | E::ErrorStringBounds(count, index, _) => out_of_range(*count, *index),
        E::ErrorAssignmentToConstant(name, _) => constant(name),
        E::ErrorStackOverflow(_) => Error::input("functions call each other too deeply")
            .with_hint("a function that calls itself needs a case in which it does not"),
        E::ErrorDataRace(name, _) => Error::input(format!("`{name}` is in use and cannot be used a second time here"))
            .with_hint("copy it into another variable first"),
        E::ErrorNonPureMethodCallOnConstant(name, _) => {
            Error::input(format!("`{}` would change a constant", bare(name)))
                .with_hint("declare it with `let`, not `const`")
        }
        E::ErrorModuleNotFound(name, _) => Error::input(format!("there is no module \"{name}\"")),
        other => Error::input(lower_first(&without_position(other))),
    }
}

/// `text` is the engine's "Error parsing integer number 'eight': invalid digit found in string".
fn unread_number(text: &str) -> Error {
    let what = if text.contains("integer") { "a whole number" } else { "a number" };
    Error::input(format!("expected a text with {what}, found \"{}\"", text.split('\'').nth(1).unwrap_or_default()))
}

fn out_of_range(count: usize, index: i64) -> Error {
    match count {
        0 => Error::input(format!("there is no element {index}: the array or text is empty")),
        _ => Error::input(format!("expected an index from -{count} to {}, found {index}", count - 1))
            .with_hint("the first element has the index 0, the last one -1"),
    }
}

/// `name` is "type [type]" or a type.
fn indexing(name: &str) -> Error {
    let (of, by) = name.split_once(" [").unwrap_or((name, ""));
    let (of, by) = (type_name(of), type_name(by.trim_end_matches(']')));
    let error = Error::input(format!("`[…]` cannot be used here: {of} has no elements"));
    match python::element(&of, &by) {
        Some(hint) => error.with_hint(hint),
        None => error.with_hint("lists, texts and maps have elements"),
    }
}

fn bare(name: &str) -> &str {
    name.trim_start_matches("get$").trim_start_matches("set$").split(" (").next().unwrap_or(name)
}

fn without_position(error: &EvalAltResult) -> String {
    let text = error.to_string();
    let suffix = format!(" ({})", error.position());
    text.strip_suffix(&suffix).unwrap_or(&text).to_string()
}
