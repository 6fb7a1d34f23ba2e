//! The documentation of lorhai's functions, from the doc comments of `api/`: the catalog of all functions, and the
//! reference as Markdown.

use crate::script::api::{self, Area};
use crate::script::catalogue::function::collect;
pub use crate::script::catalogue::function::{Catalog, Form, Function};
use crate::script::catalogue::option_list::{self, ListedOption};
use rhai::Engine;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::OnceLock;

/// The functions of one area, sorted: functions, then methods and properties by type.
pub fn functions(area: &Area) -> Vec<Function> {
    let mut engine = Engine::new_raw();
    for module in (area.documented)() {
        engine.register_global_module(module.into());
    }
    let mut functions = collect(&engine);
    functions.sort_by_cached_key(|known| {
        (known.receiver().map(str::to_string), known.name.clone(), known.form, known.parameters.clone())
    });
    functions
}

impl Catalog {
    /// All functions that the session of this engine knows.
    pub fn of(engine: &Engine) -> Catalog {
        let mut functions: Vec<Function> = documented().to_vec();
        // lorhai's functions are registered without the names of parameters: those of `api` have them.
        functions.extend(collect(engine).into_iter().filter(|other| !other.parameters.is_empty()));
        functions.sort();
        functions.dedup();
        without_replacements(&mut functions);
        Catalog { functions }
    }
}

/// All functions of lorhai, collected once: the engine describes them anew at every call.
fn documented() -> &'static [Function] {
    static DOCUMENTED: OnceLock<Vec<Function>> = OnceLock::new();
    DOCUMENTED.get_or_init(|| api::AREAS.iter().flat_map(functions).collect())
}

/// Removes the functions that stand in for one of the language's (`engine/sizes.rs`): that one is documented.
fn without_replacements(functions: &mut Vec<Function>) {
    let call = |function: &Function| {
        let kinds = function.parameters.iter().map(|(_, kind)| kind.clone());
        (function.form, function.name.clone(), kinds.collect::<Vec<String>>())
    };
    let documented: HashSet<_> = functions.iter().filter(|known| !known.doc.is_empty()).map(call).collect();
    functions.retain(|known| !known.doc.is_empty() || !documented.contains(&call(known)));
}

/// The whole reference as Markdown; the same bytes for the same functions.
pub fn reference() -> String {
    let mut text = String::from(
        "# Function reference\n\nMade by `lorhai docs` from the comments in `src/script/api/`; \
         do not edit it by hand.\nEvery example is run by the tests. The functions of the language itself \
         are in the [Rhai book](https://rhai.rs/book/).\n",
    );
    text.push_str(&contents());
    let mut tables = BTreeSet::new();
    for area in api::AREAS {
        text.push_str(&format!("\n## {}\n\n{}\n", area.title, area.about));
        let mut shown = BTreeSet::new();
        for function in functions(area) {
            if shown.insert(function.signature()) {
                text.push_str(&section(&function, &mut tables));
            }
        }
    }
    text.push_str(&option_index());
    text
}

/// The chapters with their functions, each name once.
fn contents() -> String {
    let mut text = String::from("\n## Contents\n\n");
    for area in api::AREAS {
        let names: BTreeSet<String> =
            functions(area).iter().filter(|known| !known.name.contains('$')).map(Function::path).collect();
        let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("* [{}](#{}): {}\n", area.title, anchor(area.title), names.join(", ")));
    }
    text.push_str("* [Options](#options)\n");
    text
}

/// What GitHub calls a heading in links.
fn anchor(title: &str) -> String {
    title.to_lowercase().replace(' ', "-")
}

/// A function with its options and examples. Overloads share one table, which `tables` remembers.
fn section(function: &Function, tables: &mut BTreeSet<String>) -> String {
    let (doc, examples) = function.parts();
    let options = option_list::declared_of(function);
    let mut text = format!("\n### `{}`\n\n{doc}\n", function.signature());
    if !options.is_empty() && tables.insert(function.path()) {
        text.push_str("\n| option | type | default | meaning |\n|---|---|---|---|\n");
        options.iter().for_each(|option| text.push_str(&row(option)));
    }
    if !examples.is_empty() {
        text.push_str(&format!("\n{}\n", examples.trim_end()));
    }
    text
}

fn row(option: &ListedOption) -> String {
    let names = std::iter::once(&option.name).chain(&option.aliases).map(|name| format!("`{name}`"));
    let names: Vec<String> = names.collect();
    let cell = |text: &str| text.replace('|', "\\|");
    let inner = if option.inner.is_empty() || option.type_text != "map" { "" } else { " A map of options." };
    format!(
        "| {} | {} | {} | {}{inner} |\n",
        names.join(", "),
        cell(&option.type_text),
        cell(&option.default_markdown()),
        cell(&option.about)
    )
}

/// Every declared option with the functions that take it.
fn option_index() -> String {
    let mut index: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for function in api::AREAS.iter().flat_map(functions) {
        for option in option_list::declared_of(&function) {
            for name in option.aliases.iter().chain([&option.name]) {
                index.entry(name.clone()).or_default().insert(function.path());
            }
        }
    }
    let mut text = String::from("\n## Options\n\n| option | taken by |\n|---|---|\n");
    for (name, functions) in index {
        let functions: Vec<String> = functions.into_iter().map(|path| format!("`{path}`")).collect();
        text.push_str(&format!("| `{name}` | {} |\n", functions.join(", ")));
    }
    text
}
