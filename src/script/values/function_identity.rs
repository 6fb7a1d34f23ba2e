//! What tells a function of a script from another one: its text and that of the functions that it calls, wherever they
//! stand in the script.

use regex::Regex;
use rhai::{FnPtr, NativeCallContext, ScriptFuncDef};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Does a function of the script take so many arguments? `None` for one that is not known, such as a closure of another
/// script.
pub fn takes(context: &NativeCallContext, function: &FnPtr, arguments: usize) -> Option<bool> {
    let of_count = |count: usize| definition(context, function.fn_name(), function.curry().len() + count);
    if of_count(arguments).is_some() {
        return Some(true);
    }
    (0..8).any(|count| of_count(count).is_some()).then_some(false)
}

/// A hash that changes with what the function does, as far as its text says; `None` for one that is not known. Captured
/// values are not in it. `script` is the text of the script.
pub fn identity(context: &NativeCallContext, function: &FnPtr, arguments: usize, script: &str) -> Option<String> {
    let first = definition(context, function.fn_name(), function.curry().len() + arguments)?;
    // The engine lists functions in an order that differs from process to process.
    let (mut waiting, mut seen, mut texts) = (vec![first], BTreeSet::new(), BTreeSet::new());
    while let Some(function) = waiting.pop() {
        if !seen.insert((function.name.to_string(), function.params.len())) {
            continue;
        }
        let body = format!("{:?}", function.body);
        waiting.extend(all(context).filter(|other| body.contains(other.name.as_str())));
        texts.insert(format!("{:?} {}", function.params, text(&body, script)));
    }
    let first = text(&format!("{:?}", first.body), script);
    let hash = Sha256::digest(texts.into_iter().fold(first, |all, text| all + text.as_str()));
    Some(format!("{hash:x}")[..16].to_owned())
}

fn definition<'c>(context: &'c NativeCallContext, name: &str, parameters: usize) -> Option<&'c ScriptFuncDef> {
    all(context).find(|function| function.name == name && function.params.len() == parameters)
}

/// The functions and closures of the running script.
fn all<'c>(context: &'c NativeCallContext) -> impl Iterator<Item = &'c ScriptFuncDef> {
    let functions = |module: &'c rhai::Module| module.iter_script_fn_info().map(|(.., function)| function.as_ref());
    context.iter_namespaces().flat_map(functions)
}

/// The engine's description of a body without lines and columns, names of closures, which depend on these, and hashes,
/// which differ from process to process. Of the values that `switch` compares with it has hashes alone, so a body with
/// one counts as changed where anything in the script is.
fn text(body: &str, script: &str) -> String {
    const PLACES: &str = r"@ [\d:.\-]+|\d+:\d+|anon\$[0-9a-f]+|hash\w*: (\(\d+, \d+\)|\d+)";
    static UNSTABLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(PLACES).ok());
    match &*UNSTABLE {
        Some(unstable) if !body.contains("SwitchCasesCollection") => unstable.replace_all(body, "").into_owned(),
        _ => script.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rhai::{Dynamic, Engine};

    /// The identity of the function that the script gives to `of`, which takes one argument.
    fn of(script: &str) -> String {
        let (mut engine, text) = (Engine::new(), script.to_owned());
        engine.register_fn("of", move |context: NativeCallContext, function: FnPtr| -> Dynamic {
            identity(&context, &function, 1, &text).map_or(Dynamic::UNIT, Dynamic::from)
        });
        engine.register_fn("takes", |context: NativeCallContext, function: FnPtr, count: i64| {
            takes(&context, &function, count as usize).unwrap_or(false)
        });
        engine.eval::<Dynamic>(script).unwrap().to_string()
    }

    #[test]
    fn places_do_not_matter_and_text_does() {
        let closure = of("of(|x| x + 1)");
        assert_eq!(closure.len(), 16);
        assert_eq!(closure, of("let y = 1;\n\n// more\nof( |x|   x +\n 1 )"));
        for other in ["|x| x + 2", "|x| x - 1", "|y| y + 1", "|x| x", "|x| { let y = x; y += 1; y }"] {
            assert_ne!(closure, of(&format!("of({other})")), "{other}");
        }
        let switch = |value: i64| of(&format!("of(|x| switch x {{ {value} => 1, _ => 2 }})"));
        assert_ne!(switch(1), switch(2));
        assert_eq!(switch(1), switch(1));
        let assigned = |operator: &str| of(&format!("of(|x| {{ let y = 1; y {operator} x; y }})"));
        assert_ne!(assigned("+="), assigned("-="));
    }

    #[test]
    fn what_it_calls_belongs_to_it() {
        let calling =
            |inner: &str| of(&format!("fn twice(x) {{ {inner} }}\nfn other(x) {{ x }}\nof(|x| twice(x) + 1)"));
        assert_eq!(calling("2 * x"), calling("2 *\n\n x"));
        assert_ne!(calling("2 * x"), calling("3 * x"));
        let nested = |inner: &str, before: &str| of(&format!("{before}of(|x| [x].map(|y| {inner}))"));
        assert_eq!(nested("y + 1", ""), nested("y + 1", "let a = 1;\n"));
        assert_ne!(nested("y + 1", ""), nested("y + 2", ""));
        let captured = "let weight = 0.5;\n\nof(|x| x * weight)";
        assert_eq!(of(captured), of(&captured.replace("\n\n", "\n")));
    }

    #[test]
    fn arguments_are_counted_without_captured_values() {
        assert_eq!(of("let w = 1; takes(|x, y| x + y + w, 2)"), "true");
        assert_eq!(of("let w = 1; takes(|x, y| x + y + w, 3)"), "false");
    }
}
