//! The function reference, made from the doc comments of `api/`.
//!
//! Also the catalog of all known functions, which error messages look names up in.

use crate::script::api::{self, Area};
use crate::script::catalogue::option_list::{self, ListedOption};
use crate::script::language::explain;
use crate::script::values::from_script::type_name;
use rhai::{Engine, FuncMetadata};
use std::collections::{BTreeMap, BTreeSet};

/// One overload of a script function, as documented.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    pub form: Form,
    pub name: String,
    /// Name and script type of each parameter; the first is the receiver of a method.
    pub parameters: Vec<(String, String)>,
    /// Script type; empty if the function returns nothing.
    pub returns: String,
    /// Markdown, without the comment marks.
    pub doc: String,
}

/// How a function is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Function,
    Method,
    Getter,
    Setter,
}

impl Function {
    fn new(info: &FuncMetadata) -> Function {
        let by_reference = info.params_info.first().is_some_and(|first| first.contains("&mut"));
        let (form, name) = match (info.name.strip_prefix("get$"), info.name.strip_prefix("set$")) {
            (Some(property), _) => (Form::Getter, property),
            (_, Some(property)) => (Form::Setter, property),
            _ if by_reference => (Form::Method, info.name.as_str()),
            _ => (Form::Function, info.name.as_str()),
        };
        let doc: Vec<&str> = info.comments.iter().flat_map(|comment| comment.lines()).map(uncommented).collect();
        Function {
            form,
            name: name.to_string(),
            parameters: info.params_info.iter().map(|parameter| parsed(parameter)).collect(),
            returns: returned(&info.return_type),
            doc: doc.join("\n"),
        }
    }

    /// How a script writes it: `model.forward(batch: Batch) -> Output`.
    pub fn signature(&self) -> String {
        let shown = |(name, kind): &(String, String)| match kind.is_empty() {
            true => name.clone(),
            false => format!("{name}: {kind}"),
        };
        let receiver = self.receiver().map(explain::lowered).unwrap_or_default();
        let own = usize::from(self.form != Form::Function);
        let rest: Vec<String> = self.parameters.iter().skip(own).map(shown).collect();
        let rest = rest.join(", ");
        let returns = if self.returns.is_empty() { String::new() } else { format!(" -> {}", self.returns) };
        match self.form {
            Form::Function => format!("{}({rest}){returns}", self.name),
            Form::Method => format!("{receiver}.{}({rest}){returns}", self.name),
            Form::Getter => format!("{receiver}.{}{returns}", self.name),
            Form::Setter => format!("{receiver}.{} = {rest}", self.name),
        }
    }

    /// What stands before the brackets: `train`, `model.forward`, `output.loss`.
    pub fn path(&self) -> String {
        match self.receiver() {
            Some(receiver) => format!("{}.{}", explain::lowered(receiver), self.name),
            None => self.name.clone(),
        }
    }

    /// The type it is a method or property of.
    pub fn receiver(&self) -> Option<&str> {
        match self.form {
            Form::Function => None,
            _ => self.parameters.first().map(|(_, kind)| kind.as_str()),
        }
    }

    /// The first line, which must say it all.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default().trim()
    }

    /// The documentation before the examples, and the examples.
    pub fn parts(&self) -> (&str, &str) {
        let at = self.doc.find("```rhai").unwrap_or(self.doc.len());
        (self.doc[..at].trim_end(), &self.doc[at..])
    }

    /// The ```` ```rhai ```` blocks.
    pub fn examples(&self) -> Vec<String> {
        let blocks = self.doc.split("```rhai\n").skip(1);
        blocks.filter_map(|block| block.split("```").next()).map(str::to_string).collect()
    }
}

/// `"mut path: &str"` is the name `path` and the type `string`.
fn parsed(parameter: &str) -> (String, String) {
    let (name, kind) = parameter.split_once(':').unwrap_or((parameter, ""));
    let name = name.trim().trim_start_matches("mut ").trim_start_matches('_');
    let kind = if kind.trim().is_empty() { String::new() } else { type_name(kind) };
    (if name.is_empty() { kind.clone() } else { name.to_string() }, kind)
}

fn uncommented(line: &str) -> &str {
    let line = line.trim_start();
    let line = line.strip_prefix("///").unwrap_or(line);
    line.strip_prefix(' ').unwrap_or(line)
}

/// `RhaiResultOf<Model>` and `Result<Model, …>` are `Model`; `()` is nothing.
fn returned(name: &str) -> String {
    let name = name.replace(' ', "");
    let inner = ["RhaiResultOf<", "Result<"].iter().find_map(|start| name.strip_prefix(start));
    let inner = match inner {
        Some(inner) => inner.strip_suffix('>').unwrap_or(inner).trim_end_matches(",Box<EvalAltResult>"),
        None => name.as_str(),
    };
    match inner {
        "" | "()" => String::new(),
        other => type_name(other),
    }
}

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

fn collect(engine: &Engine) -> Vec<Function> {
    engine.collect_fn_metadata(None, |info| Some(Function::new(info.metadata)), true)
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
    let default = if ["required", "none"].contains(&option.default.as_str()) {
        option.default.clone()
    } else {
        format!("`{}`", option.default)
    };
    let inner = if option.inner.is_empty() { String::new() } else { " A map of options.".to_owned() };
    format!(
        "| {} | {} | {} | {}{inner} |\n",
        names.join(", "),
        cell(&option.type_text),
        cell(&default),
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

/// Numbers are ints and floats here; the language has others for programs that embed it.
fn is_odd_number(kind: &str) -> bool {
    let bits = kind.trim_start_matches(['i', 'u', 'f']);
    bits.len() + 1 == kind.len() && matches!(bits, "8" | "16" | "32" | "64" | "128")
}

/// All functions that a session knows: lorhai's, the language's, and the embedder's.
pub struct Catalog {
    functions: Vec<Function>,
}

impl Catalog {
    pub fn of(engine: &Engine) -> Catalog {
        let mut functions: Vec<Function> = api::AREAS.iter().flat_map(functions).collect();
        // Lorhai's own are registered without the names of parameters: they come from above.
        functions.extend(collect(engine).into_iter().filter(|other| !other.parameters.is_empty()));
        functions.sort();
        functions.dedup();
        Catalog { functions }
    }

    /// The names of functions and methods.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let callable = self.functions.iter().filter(|known| matches!(known.form, Form::Function | Form::Method));
        callable.map(|known| known.name.as_str()).filter(|name| name.starts_with(char::is_alphabetic))
    }

    /// How the functions of this name are called; a few at most.
    pub fn signatures(&self, name: &str) -> Vec<String> {
        let callable = self.functions.iter().filter(|known| matches!(known.form, Form::Function | Form::Method));
        let named: Vec<&Function> = callable.filter(|known| known.name == name).collect();
        // Those of number types that no script meets hide the others.
        let plain = named.iter().filter(|known| known.parameters.iter().all(|(_, kind)| !is_odd_number(kind)));
        let found: BTreeSet<String> = plain.map(|known| known.signature()).collect();
        found.into_iter().take(6).collect()
    }

    /// All of them, sorted.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Those of this name: overloads, and methods of several types.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |known| known.name == name)
    }

    pub fn has_method(&self, of: &str, name: &str) -> bool {
        self.named(name).any(|known| known.form == Form::Method && known.receiver() == Some(of))
    }

    /// How the properties of a type are read: `.loss -> Tensor`.
    pub fn property_signatures(&self, of: &str) -> Vec<String> {
        let getters = self.functions.iter().filter(|known| known.form == Form::Getter && known.receiver() == Some(of));
        getters.map(|getter| format!(".{} -> {}", getter.name, getter.returns)).collect()
    }

    /// The properties of a type.
    pub fn properties(&self, of: &str) -> Vec<String> {
        let getters = self.functions.iter().filter(|known| known.form == Form::Getter && known.receiver() == Some(of));
        getters.map(|known| known.name.clone()).collect()
    }
}
