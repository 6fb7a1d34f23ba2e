//! The import rules of `src/lib.rs` and `docs/architecture.md`, circles of files, and opening comments.
//!
//! The rules stand here; `layers/paths.rs` reads the source, `layers/circles.rs` searches the graph of files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "layers/circles.rs"]
mod circles;
#[path = "layers/paths.rs"]
mod paths;

use circles::{circles, Graph, Modules};
use paths::Source;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// The folders in the order of the data; each may import those before it.
const FLOW: [&str; 8] = ["hub", "model", "lora", "data", "train", "eval", "sweep", "plot"];
/// Imported by anyone; they import one another only.
const FOUNDATIONS: [&str; 18] = [
    "error",
    "fence",
    "files",
    "foreign",
    "format",
    "heap",
    "interrupt",
    "native",
    "options",
    "overlay",
    "process_memory",
    "random",
    "sandbox",
    "stderr",
    "stdout",
    "suggest",
    "table",
    "threads",
];
/// What the root of the crate offers in the name of `error` and `options`.
const ROOT: [&str; 5] = ["Error", "Kind", "Result", "bail", "choices"];
/// Imports the flow and the foundations.
const BINDING: &str = "script";
/// Import what they like; imported by one another only.
const EDGE: [&str; 8] = ["cli", "cluster", "doctor", "lib", "main", "repl", "replay", "runs"];
/// Crates that one folder or file alone may name.
const CRATES: [(&str, &str); 6] = [
    ("rhai", "script"),
    ("plotters", "plot"),
    ("pdf_writer", "plot"),
    ("rustyline", "repl"),
    ("clap", "cli"),
    ("clap_complete", "cli"),
];
/// Folders of `src/` in which no files import each other in a circle.
const WITHOUT_CIRCLES: [&str; 4] = ["lora", "plot", "script", "sweep"];
/// Imports that close a circle today: a folder, a file in it, and the file that it imports. Without them the
/// imports of the folder form no circle. An entry that closes none any more fails the test and is to be deleted.
const CLOSING_IMPORTS: &[(&str, &str, &str)] = &[];

/// The files of `src/`.
static CRATE: LazyLock<Vec<Source>> = LazyLock::new(|| sources(&root().join("src")));

#[test]
fn imports_follow_the_flow() {
    let violations = violations(&CRATE, &root().join("src"));
    assert!(violations.is_empty(), "{} imports break the rule:\n{}", violations.len(), lines(&violations));
}

#[test]
fn everything_in_src_has_a_place_in_the_rule() {
    let library = syn::parse_file(&std::fs::read_to_string(root().join("src/lib.rs")).unwrap()).unwrap();
    let declared = library.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) => Some(item.ident.to_string()),
        _ => None,
    });
    let mut names: Vec<String> = declared.collect();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        names.push(entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    }
    let known: Vec<&str> = [&FLOW[..], &FOUNDATIONS, &EDGE, &[BINDING]].concat();
    let unknown: Vec<&String> = names.iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}: give them a place here, in src/lib.rs and in docs/architecture.md");
    for document in ["src/lib.rs", "docs/architecture.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        assert!(text.contains(&FLOW.join(" → ")), "{document} does not state the flow that is tested here");
    }
}

#[test]
fn every_rust_file_opens_with_what_it_defines() {
    let mut files = vec![root().join("build.rs")];
    for folder in ["src", "tests"] {
        below(&root().join(folder), "rs", &mut files);
    }
    assert!(files.len() > 100, "found only {} Rust files", files.len());
    let silent: Vec<String> = files.iter().filter(|file| !opens_with(file, "//! ")).map(|file| shown(file)).collect();
    assert!(silent.is_empty(), "expected a `//!` comment in the first line of:\n{}", silent.join("\n"));
}

#[test]
fn every_folder_of_src_has_a_module_file() {
    let mut files = Vec::new();
    below(&root().join("src"), "rs", &mut files);
    let folders = files.iter().filter_map(|file| file.parent()).filter(|folder| *folder != root().join("src"));
    let without = folders.filter(|folder| !folder.join("mod.rs").is_file() && !folder.with_extension("rs").is_file());
    let without: Vec<String> = without.map(shown).collect();
    assert!(without.is_empty(), "expected a mod.rs in:\n{}", without.join("\n"));
}

#[test]
fn every_script_opens_with_what_it_shows() {
    let mut files = Vec::new();
    below(&root().join("scripts"), "rhai", &mut files);
    assert!(!files.is_empty(), "found no script");
    let silent: Vec<String> = files.iter().filter(|file| !opens_with(file, "// ")).map(|file| shown(file)).collect();
    assert!(silent.is_empty(), "expected a `//` comment in the first line of:\n{}", silent.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    for (file, source, expected) in [
        ("hub/a.rs", "use crate::model::Config;", Some((1, "crate::model"))),
        ("train/a.rs", "use crate::eval::loss;", Some((1, "crate::eval"))),
        ("lora/a.rs", "use crate::{bail,\n    data::{Row, Batch}, files};", Some((2, "crate::data"))),
        ("sweep/a.rs", "fn f() { crate::plot::publish::publish(); }", Some((1, "crate::plot"))),
        ("plot/mod.rs", "pub use crate::script::Session;", Some((1, "crate::script"))),
        ("model/a.rs", "\n\nuse super::super::lora::Adapter;", Some((3, "super::super::lora"))),
        ("model/mod.rs", "use super::lora::Adapter;", Some((1, "super::lora"))),
        ("data/read/a.rs", "use super::super::super::train;", Some((1, "super::super::super::train"))),
        ("hub/a.rs", "use super::{super::eval::loss, cache};", Some((1, "super::super::eval"))),
        ("hub/a.rs", "mod tests { use super::super::super::eval; }", Some((1, "super::super::super::eval"))),
        ("hub/a.rs", "fn f() { bail!(Kind::Input, \"{}\", crate::model::NAME) }", Some((1, "crate::model"))),
        ("hub/a.rs", "macro_rules! m { () => { use crate::{files, eval::loss}; } }", Some((1, "crate::eval"))),
        ("files.rs", "use crate::hub::Hub;", Some((1, "crate::hub"))),
        ("script/api/a.rs", "use crate::cli;", Some((1, "crate::cli"))),
        ("script/a.rs", "use crate::doctor::report;", Some((1, "crate::doctor"))),
        ("eval/a.rs", "use crate::*;", Some((1, "crate::*"))),
        ("eval/a.rs", "use crate::{self as all};", Some((1, "crate::self"))),
        ("eval/a.rs", "use crate as all;", Some((1, "crate as"))),
        ("eval/a.rs", "use crate::newcomer::Thing;", Some((1, "crate::newcomer"))),
        ("newcomer/a.rs", "use crate::error::Result;", Some((1, "crate::error"))),
        ("sweep/a.rs", "fn f(map: &rhai::Map) {}", Some((1, "rhai"))),
        ("cli.rs", "use rhai::Engine;", Some((1, "rhai"))),
        ("sweep/a.rs", "use plotters::prelude::*;", Some((1, "plotters"))),
        ("script/a.rs", "#[derive(clap::Parser)] struct A;", Some((1, "clap"))),
        ("cli.rs", "use rustyline::Editor;", Some((1, "rustyline"))),
        ("plot/a.rs", "use crate::{data, hub, train::metrics, sweep::{self, Row}, Error, bail};", None),
        ("plot/a.rs", "use super::chart::Chart; mod tests { use super::*; }", None),
        ("hub/weights/a.rs", "use super::super::name::RepoName;", None),
        ("sweep/a.rs", "mod tests { use super::super::results::tests::result; }", None),
        ("script/a.rs", "use crate::{eval, lora, Error}; use rhai::Map; use super::handles;", None),
        ("cli.rs", "use crate::script::Session; use clap::Parser; use crate::doctor;", None),
        ("hub/a.rs", "pub(super) struct A; pub(crate) fn f<'a>(x: &'a str) -> char { '\\'' }", None),
        ("hub/a.rs", "// use crate::model; /* crate::eval */\n/// [`crate::plot`] and rhai\nfn f() {}", None),
        ("hub/a.rs", "/* /* crate::eval */ crate::plot */ const A: char = '\"'; const B: char = '\"';", None),
        ("hub/a.rs", "const A: &str = \"crate::model \\\" rhai\"; const B: &str = r#\"crate::eval \" rhai\"#;", None),
    ] {
        let violations = broken(&Source::parse(Path::new(file), source));
        let violations: Vec<(usize, &str)> = violations.iter().map(|one| (one.line, one.import.as_str())).collect();
        assert_eq!(violations, Vec::from_iter(expected), "{file}: {source}");
    }
}

#[test]
fn a_violation_is_reported_with_file_line_import_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("model/deep")).unwrap();
    std::fs::write(folder.path().join("model/deep/planted.rs"), "//! Planted.\n\nuse crate::train::AdamW;\n").unwrap();
    std::fs::write(folder.path().join("model/mod.rs"), "//! Fine.\nuse crate::hub::weights;\n").unwrap();
    let report = lines(&violations(&sources(folder.path()), folder.path()));
    assert!(
        report.ends_with("model/deep/planted.rs:3: `crate::train`: model/ may import hub and the foundations"),
        "{report}"
    );
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let modules = Modules::new(&CRATE);
    let mut report = String::new();
    for folder in WITHOUT_CIRCLES {
        let graph = modules.graph(&CRATE, folder);
        assert!(graph.len() > 10, "{folder}/: found only {} files", graph.len());
        let listed = CLOSING_IMPORTS.iter().filter(|(listed, _, _)| *listed == folder);
        let listed: Vec<(&str, &str)> = listed.map(|(_, file, target)| (*file, *target)).collect();
        faults(&graph, &listed).iter().for_each(|fault| report += &format!("{folder}/: {fault}\n"));
    }
    assert!(report.is_empty(), "expected no circles but those closed by CLOSING_IMPORTS, found:\n{report}");
}

/// Circles without the `listed` imports, and those of `listed` that close none.
fn faults(graph: &Graph, listed: &[(&str, &str)]) -> Vec<String> {
    let without = |imports: &[(&str, &str)]| {
        let mut graph = graph.clone();
        for (file, target) in imports {
            graph.get_mut(*file).map(|targets| targets.remove(*target));
        }
        circles(&graph)
    };
    let needless = listed.iter().filter(|entry| {
        let others: Vec<(&str, &str)> = listed.iter().filter(|other| other != entry).copied().collect();
        without(&others) == without(listed)
    });
    let needless =
        needless.map(|(file, target)| format!("{file} → {target} closes no circle: delete it from CLOSING_IMPORTS"));
    without(listed).into_iter().chain(needless).collect()
}

#[test]
fn plot_separates_data_from_rendering() {
    let graph = Modules::new(&CRATE).graph(&CRATE, "plot");
    for (folder, refused) in [("charts/", &["render/", "report/"][..]), ("render/", &["report/"])] {
        let files: Vec<&String> = graph.keys().filter(|file| file.starts_with(folder)).collect();
        assert!(files.len() > 5, "plot/{folder}: found only {} files", files.len());
        for (file, target) in files.iter().flat_map(|file| graph[*file].iter().map(move |target| (file, target))) {
            assert!(!refused.iter().any(|folder| target.starts_with(folder)), "plot/{file} imports {target}");
        }
    }
}

#[test]
fn planted_circles_are_found() {
    for (files, expected) in [
        (&[("a", "use super::b::B;"), ("b", "use super::a::A;")][..], &["a.rs → b.rs → a.rs"][..]),
        (&[("b", "use crate::plot::a::A;"), ("a", "fn f() { super::b::g(); }")], &["a.rs → b.rs → a.rs"]),
        (
            &[("a", "use super::{b, c};"), ("b", "use super::c::C;"), ("c", "fn f() { bail!(\"{}\", super::a::X) }")],
            &["a.rs → b.rs → c.rs → a.rs", "a.rs → c.rs → a.rs"],
        ),
        // By a name that the module of both re-exports.
        (
            &[("mod", "mod a; mod b; pub use b::B;"), ("a", "use super::B;"), ("b", "use super::a;")],
            &["a.rs → b.rs → a.rs"],
        ),
        (
            &[("mod", "pub use b::C as B;"), ("a", "use crate::plot::*;"), ("b", "use super::a;")],
            &["a.rs → b.rs → a.rs"],
        ),
        // With the file of a folder, which defines something itself; `inner` is a module within it.
        (
            &[("check", "mod calls; struct A; fn f() { calls::g() }"), ("check/calls", "use super::A;")],
            &["check.rs → check/calls.rs → check.rs"],
        ),
        (
            &[("mod", "mod a; fn f() { a::g() } mod inner { pub struct B; }"), ("a", "use super::inner::B;")],
            &["a.rs → mod.rs → a.rs"],
        ),
        // A module that is imported, and a path that goes on from there.
        (&[("mod", "mod deep; mod b;"), ("deep/mod", "mod a;"), ("deep/a", "use super::super::b;")][..], &[]),
        (
            &[
                ("deep/mod", "mod a;"),
                ("deep/a", "use super::super::b;"),
                ("b", "use super::deep; fn f() { deep::a::g() }"),
            ],
            &["b.rs → deep/a.rs → b.rs"],
        ),
        // No circles: one way, tests, other crates, other folders, re-exports, a macro's own names.
        (&[("a", "use super::b::B;"), ("b", "mod a { pub struct X; } fn f(x: a::X) {}")], &[]),
        (&[("a", "use super::b::B;"), ("b", "#[cfg(test)] mod tests { use super::super::a::A; use super::*; }")], &[]),
        (&[("a", "use super::b::B;"), ("b", "use a::A; use std::b; use ::plot::a; use crate::lora::a::A;")], &[]),
        (&[("mod", "mod a; mod b; pub use a::A; pub(super) use b::B;"), ("a", "use super::B;"), ("b", "")], &[]),
        (&[("a", "use super::b::B;"), ("b", "/// [`super::a`]\nfn f() { \"super::a::A\" } // super::a")], &[]),
    ] {
        let parse =
            |(file, text): &(&str, &str)| Source::parse(&Path::new("plot").join(file).with_extension("rs"), text);
        let sources: Vec<Source> = files.iter().map(parse).collect();
        let graph = Modules::new(&sources).graph(&sources, "plot");
        assert_eq!(Vec::from_iter(circles(&graph)), expected, "{files:?}");
    }
}

#[test]
fn a_listed_import_is_accepted_and_a_needless_entry_refused() {
    let graph = |imports: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (file, target) in imports {
            graph.entry((*file).to_owned()).or_default().insert((*target).to_owned());
        }
        graph
    };
    let circle = graph(&[("a.rs", "b.rs"), ("b.rs", "a.rs"), ("c.rs", "a.rs")]);
    assert_eq!(faults(&circle, &[]), ["a.rs → b.rs → a.rs"]);
    assert!(faults(&circle, &[("b.rs", "a.rs")]).is_empty());
    let needless = ["c.rs → a.rs closes no circle: delete it from CLOSING_IMPORTS"];
    assert_eq!(faults(&circle, &[("b.rs", "a.rs"), ("c.rs", "a.rs")]), needless);
    assert_eq!(faults(&graph(&[("c.rs", "a.rs")]), &[("c.rs", "a.rs")]), needless);
    assert_eq!(faults(&graph(&[]), &[("c.rs", "a.rs")]), needless);
}

#[test]
fn existing_imports_are_seen() {
    let seen = CRATE.iter().flat_map(|source| imports(source).map(|import| (place(&source.file), import.target)));
    let seen: Vec<(String, String)> = seen.collect();
    assert!(seen.len() > 300, "found only {} imports", seen.len());
    for (from, to) in [("model", "hub"), ("lora", "model"), ("train", "data"), ("plot", "sweep"), ("cli", "script")] {
        assert!(seen.contains(&(from.to_owned(), to.to_owned())), "{from} imports {to}, but the test does not see it");
    }
    let modules = Modules::new(&CRATE);
    for (folder, file, target) in [("lora", "merge.rs", "adapter.rs"), ("sweep", "table.rs", "summary.rs")] {
        let graph = modules.graph(&CRATE, folder);
        assert!(graph[file].contains(target), "{folder}/{file} imports {target}, but the test does not see it");
    }
}

/// An import that breaks the rule.
struct Violation {
    file: PathBuf,
    line: usize,
    import: String,
    why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: `{}`: {}", shown(&self.file), self.line, self.import, self.why)
    }
}

fn lines(violations: &[Violation]) -> String {
    violations.iter().map(Violation::to_string).collect::<Vec<_>>().join("\n")
}

/// What breaks the rule in `sources`, which lie below `src`.
fn violations(sources: &[Source], src: &Path) -> Vec<Violation> {
    let in_place = |violation: Violation| Violation { file: src.join(&violation.file), ..violation };
    sources.iter().flat_map(broken).map(in_place).collect()
}

/// The Rust files below `src`.
fn sources(src: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    below(src, "rs", &mut files);
    let parse =
        |file: &PathBuf| Source::parse(file.strip_prefix(src).unwrap(), &std::fs::read_to_string(file).unwrap());
    files.iter().map(parse).collect()
}

/// What breaks the rule in one file.
fn broken(source: &Source) -> Vec<Violation> {
    let from = place(&source.file);
    let violation =
        |line, import: &str, why| Violation { file: (&source.file).into(), line, import: import.to_owned(), why };
    let refused = imports(source).filter_map(|import| {
        let why = refusal(&from, &import.target)?;
        Some(violation(import.line, &import.text, why))
    });
    let mut violations: Vec<Violation> = refused.collect();
    for (ident, line) in &source.idents {
        if let Some((name, home)) = CRATES.iter().find(|(name, home)| name == ident && *home != from) {
            violations.push(violation(*line, name, format!("this crate is named in src/{home} alone")));
        }
    }
    violations.dedup_by(|a, b| (a.line, &a.import) == (b.line, &b.import));
    violations
}

/// Why `from` may not import `to`; `None` where it may.
fn refusal(from: &str, to: &str) -> Option<String> {
    let rank = |name: &str| FLOW.iter().position(|known| *known == name);
    let shared = FOUNDATIONS.contains(&to) || ROOT.contains(&to);
    if from == to || EDGE.contains(&from) {
        return None;
    }
    let before = rank(from).map(|rank| &FLOW[..rank]);
    let (is_allowed, rule) = if from == BINDING {
        (shared || rank(to).is_some(), "script/ may import the flow and the foundations".to_owned())
    } else if FOUNDATIONS.contains(&from) {
        (shared, "a foundation may import other foundations".to_owned())
    } else if let Some(before) = before {
        let folders = if before.is_empty() { String::new() } else { format!("{} and ", before.join(", ")) };
        (shared || before.contains(&to), format!("{from}/ may import {folders}the foundations"))
    } else {
        (false, format!("`{from}` has no place in the rule: give it one in tests/layers.rs"))
    };
    (!is_allowed).then_some(rule)
}

/// A path that leads to the root of the crate and from there to `target`.
struct Import {
    line: usize,
    /// As written, up to the target.
    text: String,
    /// The first name below the root.
    target: String,
}

/// The paths of a file that lead to the root of the crate: by `crate`, or by as many `super` as it takes.
fn imports(source: &Source) -> impl Iterator<Item = Import> + '_ {
    source.paths.iter().filter_map(|path| {
        let (below_root, skipped) = path.below_root()?;
        let Some((_, line)) = path.names.get(skipped) else {
            let line = path.names[0].1;
            return Some(Import { line, text: "crate as".to_owned(), target: String::new() });
        };
        let leads_to_root = below_root.len() == path.names.len() - skipped;
        let written: Vec<&str> = path.names[..=skipped].iter().map(|(name, _)| name.as_str()).collect();
        leads_to_root.then(|| Import { line: *line, text: written.join("::"), target: below_root[0].to_owned() })
    })
}

/// The folder or file right below `src` that a file belongs to.
fn place(file: &str) -> String {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first).to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files below `folder` that end in `ending`, sorted.
fn below(folder: &Path, ending: &str, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            below(&path, ending, files);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            files.push(path);
        }
    }
}

fn opens_with(file: &Path, start: &str) -> bool {
    std::fs::read_to_string(file).unwrap().starts_with(start)
}

/// Without the folder of the repository.
fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}
