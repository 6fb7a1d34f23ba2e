//! The options of functions as documents, completion and `lorhai check` list them.
//!
//! They come from the declarations ([`options!`](crate::options!)). Functions whose options are not declared yet are
//! read from their documentation: a list there begins at `Options:` and ends with its sentence. An option is a name
//! between backticks, mostly with its default and meaning in brackets behind it. "Those of `f`" means all options of
//! `f`, "but `x` and `y`" all except these.

use crate::options::{Declared, Table};
use crate::script::api::AREAS;
use crate::script::catalogue::docs::{Catalog, Function};
use crate::script::values::settings;

/// One option of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedOption {
    pub name: String,
    /// Python's names for it.
    pub aliases: Vec<String>,
    /// Its type with its range or choices; empty where it is not declared.
    pub type_text: String,
    pub default: String,
    /// What it does.
    pub about: String,
    /// The options inside, where it is a map of options.
    pub inner: Vec<ListedOption>,
}

impl From<&Declared> for ListedOption {
    fn from(option: &Declared) -> Self {
        ListedOption {
            name: option.name.to_owned(),
            aliases: option.aliases.iter().map(ToString::to_string).collect(),
            type_text: option.type_text(),
            default: option.default_text(),
            about: option.about_text(),
            inner: (option.inner)().map(declared).unwrap_or_default(),
        }
    }
}

impl ListedOption {
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// Type, default and meaning in a line, as far as they are known.
    pub fn summary(&self) -> String {
        let default = if self.default.is_empty() || self.default == "required" {
            self.default.clone()
        } else {
            format!("default {}", self.default)
        };
        let parts = [self.type_text.as_str(), default.as_str()].into_iter().filter(|part| !part.is_empty());
        let facts = parts.collect::<Vec<_>>().join(", ");
        match (facts.is_empty(), self.about.is_empty()) {
            (true, _) => self.about.clone(),
            (false, true) => facts,
            (false, false) => format!("{facts}: {}", self.about),
        }
    }
}

fn declared(table: &'static Table) -> Vec<ListedOption> {
    table.options().into_iter().map(ListedOption::from).collect()
}

/// The declared options of a function; none where it takes no map of options, or where they are not declared.
pub fn declared_of(function: &Function) -> Vec<ListedOption> {
    if !function.parameters.iter().any(|(name, _)| name == "options") {
        return Vec::new();
    }
    let path = function.path();
    let all = AREAS.iter().flat_map(|area| area.options.iter().copied().flatten());
    let table = all.filter(|(of, _)| *of == path).map(|(_, table)| table()).next();
    table.map(declared).unwrap_or_default()
}

impl ListedOption {
    /// The function whose options the map in this option holds, and those it does not hold:
    /// `the options of `add_lora` but `name` and `seed``.
    fn holds_options_of(&self) -> Option<(&str, Vec<&str>)> {
        let (function, after) = self.about.split_once("options of `")?.1.split_once('`')?;
        let clause = after.split([';', ',']).next().unwrap_or_default();
        let without = clause.strip_prefix(" but ").unwrap_or_default();
        Some((function, without.split('`').skip(1).step_by(2).collect()))
    }
}

/// The options of the functions called `name`, or of the map at `path` inside them.
pub fn of(catalog: &Catalog, name: &str, path: &[String]) -> Vec<ListedOption> {
    let found = listed(catalog, name, 0);
    let Some((first, rest)) = path.split_first() else { return found };
    let Some(option) = found.iter().find(|option| option.is_called(first)) else { return Vec::new() };
    if !option.inner.is_empty() {
        return if rest.is_empty() { option.inner.clone() } else { Vec::new() };
    }
    let Some((inner, without)) = option.holds_options_of() else { return Vec::new() };
    let mut options = of(catalog, inner, rest);
    options.retain(|option| !rest.is_empty() || !without.contains(&option.name.as_str()));
    options
}

/// Documentation that refers to itself must not go round for ever.
const DEEPEST: usize = 4;

fn listed(catalog: &Catalog, name: &str, depth: usize) -> Vec<ListedOption> {
    let functions: Vec<&Function> = catalog.named(name).collect();
    listed_by(catalog, &functions, depth)
}

/// The options that the documentation of one function lists, without those of its overloads.
pub fn own(catalog: &Catalog, function: &Function) -> Vec<ListedOption> {
    listed_by(catalog, &[function], 0)
}

fn listed_by(catalog: &Catalog, functions: &[&Function], depth: usize) -> Vec<ListedOption> {
    let mut found: Vec<ListedOption> = Vec::new();
    for function in functions {
        found.extend(declared_of(function));
    }
    for entry in functions.iter().flat_map(|function| entries(function)) {
        match entry {
            Entry::Own(option) => found.push(option),
            Entry::AllOf(other) if depth < DEEPEST => found.extend(listed(catalog, &other, depth + 1)),
            Entry::AllOf(_) => {}
            Entry::But(without) => found.retain(|option| option.name != without),
        }
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|option| seen.insert(option.name.clone()));
    found
}

enum Entry {
    Own(ListedOption),
    AllOf(String),
    But(String),
}

fn entries(function: &Function) -> Vec<Entry> {
    let doc = function.doc.split("```").next().unwrap_or_default();
    let paragraphs = doc.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    paragraphs.filter_map(|paragraph| Some(entries_of(list(&paragraph)?))).flatten().collect()
}

/// What follows `Options:`; or `those of …`, where all options are another function's.
fn list(paragraph: &str) -> Option<&str> {
    let after = |start: &str| paragraph.find(start).map(|at| at + start.len());
    let all = || after("options are ").filter(|at| paragraph[*at..].starts_with("those of `"));
    Some(&paragraph[after("Options:").or_else(all)?..])
}

fn entries_of(list: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut rest = list;
    let mut before = String::new();
    while let Some(letter) = rest.chars().next() {
        let length = match letter {
            '`' => {
                let name = rest[1..].split('`').next().unwrap_or_default();
                let more = before.trim() == "and" && matches!(found.last(), Some(Entry::But(_)));
                found.push(if more { Entry::But(name.to_string()) } else { entry(name, before.trim_end()) });
                before.clear();
                name.len() + 2
            }
            '(' => {
                let inside = bracketed(rest);
                if let Some(Entry::Own(option)) = found.last_mut().filter(|_| before.trim().is_empty()) {
                    option.about = inside.to_string();
                }
                inside.len() + 2
            }
            '.' if rest[1..].starts_with(' ') || rest.len() == 1 => break,
            _ => {
                before.push(letter);
                letter.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}

fn entry(name: &str, before: &str) -> Entry {
    match before {
        _ if before.ends_with("those of") => Entry::AllOf(name.to_string()),
        _ if before.ends_with("but") => Entry::But(name.to_string()),
        _ => {
            let aliases = settings::aliases(name).iter().map(ToString::to_string).collect();
            Entry::Own(ListedOption { name: name.to_string(), aliases, ..ListedOption::default() })
        }
    }
}

/// The text between the bracket that `text` begins with and the one that closes it.
fn bracketed(text: &str) -> &str {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[1..at];
        }
    }
    &text[1..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use rhai::Engine;

    fn names(function: &str, path: &[&str]) -> Vec<String> {
        let path: Vec<String> = path.iter().map(|part| part.to_string()).collect();
        of(&Catalog::of(&Engine::new()), function, &path).into_iter().map(|option| option.name).collect()
    }

    #[test]
    fn lists_are_read_up_to_the_end_of_their_sentence() {
        assert_eq!(names("random_model", &[]), ["seed", "dtype", "device"]);
        assert_eq!(names("evaluate", &[]), ["batch"]);
        let lora = names("add_lora", &[]);
        assert!(lora.contains(&"exclude_modules".to_string()) && !lora.contains(&"lora_alpha".to_string()), "{lora:?}");
        let all = of(&Catalog::of(&Engine::new()), "lr_schedule", &[]);
        assert_eq!((all[0].default.as_str(), all[1].default.as_str()), ("required", "0.0"));
        assert!(
            all[1].summary().starts_with("float of at least 0, default 0.0: Steps in which"),
            "{}",
            all[1].summary()
        );
    }

    #[test]
    fn lists_that_refer_to_others_are_followed() {
        let add_lora = names("add_lora", &[]);
        let spec: Vec<String> =
            add_lora.iter().filter(|name| !["name", "seed"].contains(&name.as_str())).cloned().collect();
        assert_eq!((names("count_parameters", &[]), spec.len() + 2), (spec.clone(), add_lora.len()));
        assert!(names("memory_plan", &[]).ends_with(&spec));
        let compare = names("compare", &[]);
        assert!(compare.contains(&"references".to_string()) && compare.contains(&"top_k".to_string()), "{compare:?}");
        assert!(!compare.contains(&"stream".to_string()), "{compare:?}");
        assert_eq!(names("sweep", &["lora"]), spec);
        let train = names("sweep", &["train"]);
        assert!(train.contains(&"seed".to_string()) && !train.contains(&"out".to_string()), "{train:?}");
        assert!(names("sweep", &["out"]).is_empty());
    }

    #[test]
    fn every_list_names_options() {
        for area in crate::script::api::AREAS {
            for function in crate::script::catalogue::docs::functions(area) {
                let says = function.doc.contains("Options:");
                assert!(!says || !entries(&function).is_empty(), "{}: no option found", function.signature());
            }
        }
    }
}
