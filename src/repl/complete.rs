//! What the word at the cursor can become.

use super::cursor::{self, Call, Context};
use super::known::{is_word, Known, Typed};
use super::{commands, syntax};
use crate::hub;
use crate::script::catalogue::docs::{Form, Function};
use std::path::Path;

/// One way to finish a word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// What the list shows.
    pub shown: String,
    /// What replaces the word.
    pub text: String,
}

/// What Tab inserts on a blank line.
pub const INDENT: &str = "    ";

/// The byte where the word before the cursor begins, and what it can become, sorted.
pub fn complete(known: &Known, text: &str) -> (usize, Vec<Candidate>) {
    if let Some(completion) = commands::complete(known, text) {
        return completion;
    }
    let line = text.rsplit('\n').next().unwrap_or(text);
    if line.trim().is_empty() && !text.is_empty() {
        return (text.len(), vec![literal(INDENT)]);
    }
    let (start, context) = cursor::context(text);
    let typed = &text[start..];
    match context {
        Context::Text { call } => in_string(known, start, typed, call.as_ref()),
        Context::Nothing => (start, Vec::new()),
        Context::Member(chain) => (start, fitting(members(known, known.typed(&chain)), typed)),
        Context::Name => (start, fitting(names(known), typed)),
        Context::Key { call, path, written } => {
            let mut options = known.options(&call, &path);
            options.retain(|option| !written.contains(&option.name));
            let keys = options
                .iter()
                .map(|option| Candidate { shown: option.name.clone(), text: format!("{}: ", option.name) });
            (start, fitting(keys.collect(), typed))
        }
    }
}

/// A candidate that is inserted as it is shown.
fn literal(text: &str) -> Candidate {
    Candidate { shown: text.to_string(), text: text.to_string() }
}

fn fitting(mut all: Vec<Candidate>, typed: &str) -> Vec<Candidate> {
    all.retain(|candidate| candidate.text.starts_with(typed));
    all.sort();
    all.dedup();
    all
}

/// Variables, functions and keywords.
fn names(known: &Known) -> Vec<Candidate> {
    let functions = known.catalog.functions().iter().filter(|function| function.form == Form::Function);
    let functions = functions.chain(&known.user_functions).filter(|function| is_word(&function.name));
    let variables = known.variables.iter().map(|variable| literal(&variable.name));
    variables
        .chain(functions.map(|function| called(function, 0)))
        .chain(syntax::KEYWORDS.iter().map(|word| literal(word)))
        .collect()
}

/// A function with its opening bracket, a property as it is. `receivers` is 1 where the first
/// parameter stands before the dot, else 0.
fn called(function: &Function, receivers: usize) -> Candidate {
    let arguments = function.parameters.len().saturating_sub(receivers);
    match function.form {
        Form::Getter | Form::Setter => literal(&function.name),
        _ if arguments == 0 => literal(&format!("{}()", function.name)),
        _ => Candidate { shown: format!("{}(…)", function.name), text: format!("{}(", function.name) },
    }
}

fn members(known: &Known, owner: Option<Typed>) -> Vec<Candidate> {
    let Some(owner) = owner else { return Vec::new() };
    let keys = owner.variable.iter().flat_map(|variable| &variable.keys).filter(|key| is_word(&key.name));
    keys.map(|key| literal(&key.name)).chain(known.members(&owner.kind).map(|function| called(function, 1))).collect()
}

fn in_string(known: &Known, start: usize, typed: &str, call: Option<&Call>) -> (usize, Vec<Candidate>) {
    let from_hub = call.map_or_else(Vec::new, |call| hub_names(known, call));
    let from_hub: Vec<Candidate> =
        from_hub.iter().filter(|name| name.starts_with(typed)).map(|name| literal(name)).collect();
    if !from_hub.is_empty() && !typed.starts_with(['.', '/']) {
        // Hub names contain a slash, as paths do: both are offered in full.
        let folder = typed.rfind('/').map_or("", |slash| &typed[..=slash]);
        let paths = paths(typed).into_iter().map(|path| literal(&format!("{folder}{}", path.text)));
        return (start, from_hub.into_iter().chain(paths).collect());
    }
    (start + typed.rfind('/').map_or(0, |slash| slash + 1), paths(typed))
}

/// The names in the hub's cache, where the argument is such a name.
fn hub_names(known: &Known, call: &Call) -> Vec<String> {
    let named = |function: &&Function| function.parameters.first().is_some_and(|(name, _)| name == "name");
    let function = known.callable(&call.name).filter(|_| call.argument == 0).find(named);
    let Some(function) = function.filter(|function| function.form == Form::Function) else { return Vec::new() };
    let kind = if function.returns == "Dataset" { "datasets" } else { "models" };
    hub::Hub::from_env().map(|hub| hub::cached_names(&hub.cache, kind)).unwrap_or_default()
}

/// The last part of a path: files and folders that begin with it.
pub fn paths(typed: &str) -> Vec<Candidate> {
    let (folder, name) = typed.rsplit_once('/').map_or(("", typed), |(folder, name)| (folder, name));
    let folder = match folder {
        "" if typed.starts_with('/') => Path::new("/"),
        "" => Path::new("."),
        folder => Path::new(folder),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let path = |entry: std::fs::DirEntry| {
        let file = entry.file_name().into_string().ok()?;
        let hidden = file.starts_with('.') && !name.starts_with('.');
        let end = if entry.path().is_dir() { "/" } else { "" };
        (file.starts_with(name) && !hidden).then(|| literal(&format!("{file}{end}")))
    };
    fitting(entries.filter_map(path).collect(), "")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::script::Session;

    /// What is known after some inputs.
    pub fn known(inputs: &[&str]) -> Known {
        let mut session = Session::new();
        for (at, input) in inputs.iter().enumerate() {
            session.run_input(at + 1, input).unwrap_or_else(|failure| panic!("{failure}"));
        }
        Known::of(&session)
    }

    fn texts(known: &Known, text: &str) -> Vec<String> {
        complete(known, text).1.into_iter().map(|candidate| candidate.text).collect()
    }

    #[test]
    fn names_of_functions_variables_and_keywords() {
        let known = known(&["let lower = 1; fn load_mine(a) { a }"]);
        assert_eq!(
            complete(&known, "print(load_"),
            (6, {
                let call = |name: &str| Candidate { shown: format!("{name}(…)"), text: format!("{name}(") };
                vec![call("load_dataset"), call("load_mine"), call("load_model")]
            })
        );
        assert_eq!(texts(&known, "lowe"), ["lower"]);
        assert_eq!(texts(&known, "whi"), ["while"]);
        assert_eq!(texts(&known, "nothing_like_this"), Vec::<String>::new());
    }

    #[test]
    fn members_by_the_type_of_the_value() {
        let known = known(&[
            "let t = tensor([[1.0, 2.0]]); let cfg = #{ train: #{ lr: 1, log: 2 } }; let rows = [#{ text: 1 }];",
            "let data = dataset([#{ a: 1 }]);",
        ]);
        assert_eq!(texts(&known, "t.sh"), ["shape"]);
        assert_eq!(texts(&known, "t.sum().ba"), ["backward()"]);
        // What takes a map first can be called on one.
        assert_eq!(texts(&known, "cfg.train.l"), ["len()", "line_chart()", "log", "lr"]);
        assert_eq!(texts(&known, "rows[0].te"), ["text"]);
        assert_eq!(texts(&known, "load_model(\"x\").add_l"), ["add_lora("]);
        assert!(texts(&known, "data.").contains(&"filter(".to_string()));
        assert!(!texts(&known, "data.").contains(&"backward()".to_string()));
        assert!(texts(&known, "\"ab\".").contains(&"to_upper()".to_string()));
        assert!(texts(&known, "data.split(#{ test: 0.5 }).").contains(&"train".to_string()));
        assert_eq!(texts(&known, "unknown."), Vec::<String>::new());
    }

    #[test]
    fn keys_inside_the_map_of_a_call() {
        let known = known(&["let x = 1;"]);
        assert_eq!(texts(&known, "evaluate(m, d, #{ b"), ["batch: "]);
        assert_eq!(texts(&known, "train(m, d, #{ lr: 1, early"), ["early_stopping: "]);
        assert!(!texts(&known, "train(m, d, #{ lr: 1, ").contains(&"lr: ".to_string()));
        assert_eq!(texts(&known, "sweep(m, d, #{ train: #{ max_g"), ["max_grad_norm: "]);
        assert_eq!(texts(&known, "m.add_lora(#{ target_m"), ["target_modules: "]);
    }

    #[test]
    fn paths_inside_strings_and_indents_on_blank_lines() {
        let known = known(&[]);
        assert_eq!(complete(&known, "read_text(\"Cargo.to"), (11, vec![literal("Cargo.toml")]));
        assert_eq!(complete(&known, "x = \"src/repl/mod"), (14, vec![literal("mod.rs")]));
        assert_eq!(texts(&known, "load_dataset(\"scri"), ["scripts/"]);
        assert_eq!(texts(&known, "fn f() {\n"), [INDENT]);
    }
}
