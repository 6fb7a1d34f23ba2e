//! Unknown names: functions, variables, modules, properties; with what may have been meant.
//!
//! Names near by are looked up in the script (`names`) and in the catalog of functions, which is handed in.

use crate::error::Error;
use crate::format::lower_first;
use crate::script::catalogue::function::{Catalog, Form, Function};
use crate::script::engine::state::State;
use crate::script::language::messages::wrong_closure;
use crate::script::language::names;
use crate::script::language::python;
use crate::script::language::render::Place;
use crate::script::values::from_script::type_name;
use crate::suggest;
use rhai::{Engine, Scope};
use std::ops::Deref;

/// What is known around an error, to find what was meant.
pub struct ErrorContext<'a> {
    pub engine: &'a Engine,
    /// The engine's functions. Made when they are needed, which takes some milliseconds.
    pub catalog: &'a dyn Deref<Target = Catalog>,
    pub scope: &'a Scope<'a>,
    pub state: &'a State,
    pub place: Option<&'a Place>,
}

/// Name and types of a call that the engine writes as "name (type, type)".
fn parts(call: &str) -> (&str, Vec<String>) {
    let (name, types) = call.split_once(" (").unwrap_or((call, ")"));
    let types = types.strip_suffix(')').unwrap_or(types).split(", ").filter(|name| !name.is_empty());
    (name, types.map(type_name).collect())
}

pub fn unknown_function(call: &str, context: &ErrorContext) -> Error {
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
    let catalog: &Catalog = context.catalog;
    let written = format!("{name}({})", types.join(", "));
    if let Some(of) = types.first().filter(|of| catalog.properties(of).iter().any(|known| known == name)) {
        return Error::input(format!("`{name}` is a property of {of}, not a function"))
            .with_hint(format!("write it behind the value, without brackets: value.{name}"));
    }
    if catalog.signatures(name).is_empty() {
        return unknown_name(name, &written, catalog, context);
    }
    Error::input(format!("no `{name}` takes these arguments: {written}"))
        .with_hint(other_arguments(name, &types, catalog))
}

/// What the function takes instead of values of these types.
fn other_arguments(name: &str, types: &[String], catalog: &Catalog) -> String {
    let owner = types.first().map(|of| format!("{}.", lower_first(of)));
    let all = catalog.signatures(name);
    let fitting: Vec<String> =
        all.iter().filter(|form| owner.as_ref().is_some_and(|owner| form.starts_with(owner))).cloned().collect();
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
pub fn unknown_name(name: &str, written: &str, catalog: &Catalog, context: &ErrorContext) -> Error {
    let error = Error::input(format!("unknown function `{written}`"));
    if names::variables(context.engine, &context.state.source()).iter().any(|known| known == name) {
        return error.with_hint(format!("`{name}` is a variable: a function in it is called by `{name}.call(…)`"));
    }
    if let Some((module, name)) = name.rsplit_once("::") {
        let imported: Vec<String> =
            context.state.sources().iter().flat_map(|source| names::functions(context.engine, source)).collect();
        return match suggest::nearest(name, imported.iter().map(String::as_str)) {
            Some(near) => error.with_hint(format!("did you mean `{module}::{near}`?")),
            None => error,
        };
    }
    let of = written.split_once('(').and_then(|(_, types)| types.split([',', ')']).next()).unwrap_or_default();
    if let Some(hint) = python::method(of, name).or_else(|| python::name(name)) {
        return error.with_hint(hint);
    }
    let functions = names::functions(context.engine, &context.state.source());
    let known = catalog.names().chain(functions.iter().map(String::as_str));
    match suggest::nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("`lorhai doc` lists all functions"),
    }
}

fn is_operator(name: &str) -> bool {
    !name.chars().any(|letter| letter.is_alphanumeric() || letter == '_')
}

pub fn unknown_variable(name: &str, context: &ErrorContext) -> Error {
    let declared = names::variables(context.engine, &context.state.source());
    let error = Error::input(format!("unknown variable `{name}`"));
    if declared.iter().any(|known| known == name) {
        return error.with_hint(
            "it is declared elsewhere: a `fn` does not see the script's variables, so pass it as an \
             argument; and a variable lives only in its block",
        );
    }
    let is_function = context.catalog.named(name).any(|known| known.form == Form::Function);
    if let Some(hint) = python::name(name).filter(|_| !is_function) {
        return error.with_hint(hint);
    }
    let known = context.scope.iter().map(|(name, _, _)| name).chain(declared.iter().map(String::as_str));
    match suggest::nearest(name, known) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None if context.place.is_some_and(|place| is_assigned(name, place)) => {
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

pub fn unknown_module(name: &str, context: &ErrorContext) -> Error {
    let declared = names::variables(context.engine, &context.state.source());
    let error = Error::input(format!("unknown module `{name}`"));
    match suggest::nearest(name, declared.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint(format!("import it first: import \"{name}\" as {name};")),
    }
}

/// A key that a map does not have; the map is found by the name left of the dot.
pub fn unknown_key(name: &str, context: &ErrorContext) -> Error {
    let error = Error::input(format!("unknown property `{name}`"));
    let keys = context.place.and_then(|place| names::keys_of_owner(place, context.scope));
    let keys = keys.or_else(|| keys_of_result(context));
    match keys {
        Some(keys) if !keys.is_empty() => error.with_hint(suggest::hint(name, keys.iter().map(String::as_str))),
        _ => error.with_hint("map.keys() lists the properties of a map"),
    }
}

/// The keys of the map that a function gives, as its documentation lists them: of `train(…).los`.
fn keys_of_result(context: &ErrorContext) -> Option<Vec<String>> {
    let place = context.place?;
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
    let catalog: &Catalog = context.catalog;
    let listed = catalog.named(&name[start..]).find_map(|function| {
        let doc = function.doc.split("```").next()?.replace('\n', " ");
        let (_, after) = doc.split_once("The result has ")?;
        let keys: Vec<String> = after.split('`').skip(1).step_by(2).map(str::to_string).collect();
        (!keys.is_empty()).then_some(keys)
    });
    listed
}

/// `text` is the engine's "Unknown property 'x' - a getter is not registered for type 'T'".
pub fn unknown_property(text: &str, context: &ErrorContext) -> Error {
    let mut quoted = text.split('\'').skip(1).step_by(2);
    let (Some(name), Some(of)) = (quoted.next(), quoted.next()) else {
        return Error::input(lower_first(text));
    };
    let of = type_name(of);
    let catalog: &Catalog = context.catalog;
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
