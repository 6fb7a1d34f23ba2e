//! What an error of the script language means: lower case, expected and found, the types as
//! scripts know them, and a "did you mean".
//!
//! Where it happened is `render`'s; which names are near is looked up in `names`.

use crate::error::Error;
use crate::script::catalogue::docs::{Catalog, Form, Function};
use crate::script::engine::state::State;
use crate::script::language::grammar;
use crate::script::language::names;
use crate::script::language::python;
use crate::script::language::render::Place;
use crate::script::values::convert::from_thrown;
use crate::script::values::from_script::type_name;
use crate::suggest;
use rhai::{Engine, EvalAltResult, Scope};

/// What is known around an error, to find what was meant.
pub struct Surroundings<'a> {
    pub engine: &'a Engine,
    pub scope: &'a Scope<'a>,
    pub state: &'a State,
    pub place: Option<&'a Place>,
}

/// The innermost error in plain words, with the likely fix.
pub fn explain(error: &EvalAltResult, around: &Surroundings) -> Error {
    use EvalAltResult as E;
    match error {
        E::ErrorFunctionNotFound(call, _) => unknown_function(call, around),
        E::ErrorVariableNotFound(name, _) => unknown_variable(name, around),
        E::ErrorParsing(error, _) => grammar::explain(error, around),
        E::ErrorPropertyNotFound(name, _) => unknown_key(name, around),
        E::ErrorDotExpr(text, _) => unknown_property(text, around),
        _ => plain(error),
    }
}

/// As [`explain`], for errors that say enough by themselves.
pub fn plain(error: &EvalAltResult) -> Error {
    use EvalAltResult as E;
    match error {
        E::ErrorRuntime(value, _) => from_thrown(value),
        E::ErrorTerminated(..) => Error::stopped(),
        E::ErrorParsing(error, _) => grammar::plain(error),
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
        other => Error::input(lowered(&without_position(other))),
    }
}

pub(in crate::script) fn mismatched(expected: &str, found: &str) -> Error {
    let (expected_name, found_name) = (type_name(expected), type_name(found));
    let error = Error::input(format!("expected {expected_name}, found {found_name}"));
    if (expected_name.as_str(), found_name.as_str()) == ("int", "range") {
        // Of texts `text[1..3]` is a part, of arrays the engine takes an index alone.
        return error.with_hint("a part of an array is list.extract(1..3), its end list.extract(1..)");
    }
    match expected.contains("bool") {
        true => error.with_hint("write the comparison out, as in steps > 0"),
        false => error,
    }
}

/// `text` is the engine's "Error parsing integer number 'eight': invalid digit found in string".
fn unread_number(text: &str) -> Error {
    let what = if text.contains("integer") { "a whole number" } else { "a number" };
    Error::input(format!("expected a text with {what}, found \"{}\"", text.split('\'').nth(1).unwrap_or_default()))
}

pub(in crate::script) fn nothing_to_loop_over() -> Error {
    Error::input("`for` expected something to loop over, found a single value")
        .with_hint("arrays, strings, ranges (0..10) and batches can be looped over; of a map its .keys() or .values()")
}

fn out_of_range(count: usize, index: i64) -> Error {
    match count {
        0 => Error::input(format!("there is no element {index}: the array or text is empty")),
        _ => Error::input(format!("expected an index from -{count} to {}, found {index}", count - 1))
            .with_hint("the first element has the index 0, the last one -1"),
    }
}

pub(in crate::script) fn constant(name: &str) -> Error {
    Error::input(format!("the constant `{name}` cannot be changed")).with_hint("declare it with `let`, not `const`")
}

/// `call` is "name (type, type)".
fn parts(call: &str) -> (&str, Vec<String>) {
    let (name, types) = call.split_once(" (").unwrap_or((call, ")"));
    let types = types.strip_suffix(')').unwrap_or(types).split(", ").filter(|name| !name.is_empty());
    (name, types.map(type_name).collect())
}

/// A closure, whose name in the engine says nothing, called with more or fewer values than it takes.
pub fn wrong_closure() -> Error {
    Error::input("the closure takes another number of values than it is given here")
        .with_hint("most functions give it one: |x| …")
}

fn unknown_function(call: &str, around: &Surroundings) -> Error {
    let (name, types) = parts(call);
    if name.starts_with("anon$") {
        return wrong_closure();
    }
    if let (true, [left, right]) = (is_operator(name), types.as_slice()) {
        let error = Error::input(format!("`{name}` cannot be applied to {left} and {right}"));
        return match python::operator(name, left, right) {
            Some(hint) => error.with_hint(hint),
            None => error,
        };
    }
    let catalog = Catalog::of(around.engine);
    let written = format!("{name}({})", types.join(", "));
    if let Some(of) = types.first().filter(|of| catalog.properties(of).iter().any(|known| known == name)) {
        return Error::input(format!("`{name}` is a property of {of}, not a function"))
            .with_hint(format!("write it behind the value, without brackets: value.{name}"));
    }
    match catalog.signatures(name).is_empty() {
        true => unknown_name(name, &written, &catalog, around),
        false => Error::input(format!("no `{name}` takes these arguments: {written}"))
            .with_hint(other_arguments(name, &types, &catalog)),
    }
}

/// What the function takes instead of values of these types.
fn other_arguments(name: &str, types: &[String], catalog: &Catalog) -> String {
    let own = types.first().map(|of| format!("{}.", lowered(of)));
    let all = catalog.signatures(name);
    let fitting: Vec<String> =
        all.iter().filter(|form| own.as_ref().is_some_and(|own| form.starts_with(own))).cloned().collect();
    let there = format!("there is\n{}", if fitting.is_empty() { all } else { fitting }.join("\n"));
    if let Some(advice) = types.first().and_then(|of| python::method(of, name)) {
        return advice.to_string();
    }
    let callable = catalog.named(name).filter(|known| matches!(known.form, Form::Function | Form::Method));
    let as_many: Vec<&Function> = callable.filter(|known| known.parameters.len() == types.len()).collect();
    let expected = |known: &&Function| known.parameters.iter().map(|(_, kind)| kind.clone()).collect::<Vec<String>>();
    let sorted = |mut types: Vec<String>| {
        types.sort();
        types
    };
    if as_many.iter().any(|known| sorted(expected(known)) == sorted(types.to_vec())) {
        return format!("the arguments stand in another order: {there}");
    }
    let differing = |known: &&Function| {
        let differing: Vec<_> = expected(known).into_iter().zip(types).filter(|(kind, found)| kind != *found).collect();
        differing.iter().find_map(|(kind, found)| python::in_place_of(kind, found))
    };
    match (as_many.iter().find_map(differing), python::name(name)) {
        (Some(advice), _) => format!("{advice}\n{there}"),
        (None, Some(advice)) if as_many.is_empty() => advice.to_string(),
        (None, Some(advice)) => format!("{advice}\n{there}"),
        (None, None) => there,
    }
}

/// A function that nothing is called; `written` is the call, as far as it is known.
pub fn unknown_name(name: &str, written: &str, catalog: &Catalog, around: &Surroundings) -> Error {
    let error = Error::input(format!("unknown function `{written}`"));
    if names::variables(around.engine, &around.state.source()).iter().any(|known| known == name) {
        return error.with_hint(format!("`{name}` is a variable: a function in it is called by `{name}.call(…)`"));
    }
    if let Some((module, name)) = name.rsplit_once("::") {
        let imported: Vec<String> =
            around.state.sources().iter().flat_map(|source| names::functions(around.engine, source)).collect();
        return match suggest::nearest(name, imported.iter().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean `{module}::{near}`?")),
            None => error,
        };
    }
    let of = written.split_once('(').and_then(|(_, types)| types.split([',', ')']).next()).unwrap_or_default();
    if let Some(hint) = python::method(of, name).or_else(|| python::name(name)) {
        return error.with_hint(hint);
    }
    let own = names::functions(around.engine, &around.state.source());
    let known = catalog.names().chain(own.iter().map(String::as_str));
    match suggest::nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("`lorhai doc` lists all functions"),
    }
}

fn is_operator(name: &str) -> bool {
    !name.chars().any(|letter| letter.is_alphanumeric() || letter == '_')
}

pub(in crate::script) fn unknown_variable(name: &str, around: &Surroundings) -> Error {
    let declared = names::variables(around.engine, &around.state.source());
    let error = Error::input(format!("unknown variable `{name}`"));
    if declared.iter().any(|known| known == name) {
        return error.with_hint(
            "it is declared elsewhere: a `fn` does not see the script's variables, so pass it as an \
             argument; and a variable lives only in its block",
        );
    }
    let is_function = Catalog::of(around.engine).named(name).any(|known| known.form == Form::Function);
    if let Some(hint) = python::name(name).filter(|_| !is_function) {
        return error.with_hint(hint);
    }
    let known = around.scope.iter().map(|(name, _, _)| name).chain(declared.iter().map(String::as_str));
    match suggest::nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None if around.place.is_some_and(|place| is_assigned(name, place)) => {
            error.with_hint(format!("declare it where it is first given a value: let {name} = …"))
        }
        None if is_function => error.with_hint(format!("`{name}` is a function: write {name}(…)")),
        None => error.with_hint(format!("declare it first: let {name} = …")),
    }
}

/// Is it left of a single `=`?
fn is_assigned(name: &str, place: &Place) -> bool {
    let text = place.text.as_deref().unwrap_or_default();
    let after: String = text.chars().skip(place.column.saturating_sub(1) + name.chars().count()).collect();
    let after = after.trim_start();
    after.starts_with('=') && !after.starts_with("==")
}

pub(in crate::script) fn unknown_module(name: &str, around: &Surroundings) -> Error {
    let declared = names::variables(around.engine, &around.state.source());
    let error = Error::input(format!("unknown module `{name}`"));
    match suggest::nearest(name, declared.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint(format!("import it first: import \"{name}\" as {name};")),
    }
}

/// A key that a map does not have; the map is found by the name left of the dot.
fn unknown_key(name: &str, around: &Surroundings) -> Error {
    let error = Error::input(format!("unknown property `{name}`"));
    let keys = around.place.and_then(|place| names::keys_of_owner(place, around.scope));
    let keys = keys.or_else(|| keys_of_result(around));
    match keys {
        Some(keys) if !keys.is_empty() => error.with_hint(suggest::hint(name, keys.iter().map(String::as_str))),
        _ => error.with_hint("a map tells what it has by map.keys()"),
    }
}

/// The keys of the map that a function gives, as its documentation lists them: of `train(…).los`.
fn keys_of_result(around: &Surroundings) -> Option<Vec<String>> {
    let place = around.place?;
    let before: String = place.text.as_deref()?.chars().take(place.column.checked_sub(1)?).collect();
    let before = before.trim_end().strip_suffix('.')?.trim_end().strip_suffix(')')?;
    let mut depth = 1;
    let open = before.char_indices().rev().find(|(_, letter)| {
        depth += match letter {
            ')' => 1,
            '(' => -1,
            _ => 0,
        };
        depth == 0
    });
    let name = before[..open?.0].trim_end();
    let start = name.rfind(|letter: char| !(letter.is_alphanumeric() || letter == '_')).map_or(0, |at| at + 1);
    let catalog = Catalog::of(around.engine);
    let listed = catalog.named(&name[start..]).find_map(|function| {
        let doc = function.doc.split("```").next()?.replace('\n', " ");
        let (_, after) = doc.split_once("The result has ")?;
        let keys: Vec<String> = after.split('`').skip(1).step_by(2).map(str::to_string).collect();
        (!keys.is_empty()).then_some(keys)
    });
    listed
}

/// `text` is the engine's "Unknown property 'x' - a getter is not registered for type 'T'".
fn unknown_property(text: &str, around: &Surroundings) -> Error {
    let mut quoted = text.split('\'').skip(1).step_by(2);
    let (Some(name), Some(of)) = (quoted.next(), quoted.next()) else {
        return Error::input(lowered(text));
    };
    let of = type_name(of);
    let catalog = Catalog::of(around.engine);
    if text.contains("setter") && catalog.properties(&of).iter().any(|known| known == name) {
        return Error::input(format!("the property `{name}` of {of} cannot be set"))
            .with_hint("it can only be read; settings are given when the value is made");
    }
    let error = Error::input(format!("unknown property `{name}` of {of}"));
    if catalog.names().any(|known| known == name) {
        return error.with_hint(format!("`{name}` is a function: write `.{name}(…)`"));
    }
    if let Some(hint) = python::method(&of, name) {
        return error.with_hint(hint);
    }
    match catalog.properties(&of) {
        _ if of == "()" => error.with_hint("the value is `()`: nothing was given or returned there"),
        known if known.is_empty() => error.with_hint(format!("{of} has no properties")),
        known => error.with_hint(suggest::hint(name, known.iter().map(String::as_str))),
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

/// The text with a small first letter.
pub fn lowered(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
