//! The function reference is true: every script function says what it does in one line, and
//! has an example that runs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::folder_with_scripts;
use lorhai::script::api::AREAS;
use lorhai::script::catalogue::docs::{functions, Function};
use lorhai::script::catalogue::option_list::declared_of;
use lorhai::script::{on_large_stack, Session};

fn all() -> Vec<Function> {
    AREAS.iter().flat_map(functions).collect()
}

#[test]
fn every_function_says_what_it_does_in_one_line() {
    for function in all() {
        let (signature, summary) = (function.signature(), function.summary().to_owned());
        assert!(summary.len() > 10 && summary.ends_with(['.', '`']), "{signature}: `{summary}`");
        assert!(summary.chars().count() <= 110, "{signature}: the first line is too long: `{summary}`");
    }
}

#[test]
fn every_function_has_an_example() {
    let without: Vec<String> = all().iter().filter(|f| f.examples().is_empty()).map(Function::signature).collect();
    assert!(without.is_empty(), "without an example:\n{}", without.join("\n"));
}

#[test]
fn options_are_declared_with_their_meaning() {
    let has_options = |function: &Function| function.parameters.iter().any(|(name, _)| name == "options");
    let declared = |function: &Function| !declared_of(function).is_empty();
    let without: Vec<String> =
        all().iter().filter(|function| has_options(function) && !declared(function)).map(Function::signature).collect();
    assert!(without.is_empty(), "no options declared for:\n{}", without.join("\n"));
    for function in all() {
        for option in declared_of(&function) {
            let (path, name) = (function.path(), &option.name);
            assert!(option.about.ends_with('.') && option.about.len() > 8, "{path}: `{name}`: `{}`", option.about);
            assert!(!option.type_text.is_empty() && !option.default.is_empty(), "{path}: `{name}`");
        }
    }
}

/// Each in a session of its own, in a folder that holds nothing but the shipped model.
#[test]
fn every_example_runs() {
    let folder = folder_with_scripts();
    std::env::set_current_dir(folder.path()).unwrap();
    std::env::set_var("LORHAI_CACHE", folder.path().join("cache"));
    let failed = on_large_stack(|| {
        let run = |function: &Function| {
            let failures = function.examples().into_iter().filter_map(|example| {
                let _ = std::fs::remove_dir_all("runs");
                let mut session = Session::new();
                session.set_quiet(true);
                session.capture_prints();
                let failure = session.run_source("example", &example).err()?;
                Some(format!("{}\n{example}\n{failure}\n", function.signature()))
            });
            failures.collect::<Vec<_>>()
        };
        all().iter().flat_map(run).collect::<Vec<String>>()
    });
    let failed = failed.unwrap();
    assert!(failed.is_empty(), "{} examples fail:\n\n{}", failed.len(), failed.join("\n"));
}
