//! The import rules of `src/lib.rs` and `docs/architecture.md`, and the opening comments.
//!
//! Reads the source text: finds paths that begin with `crate::` or with `super::`, and the
//! names of some crates, outside comments and strings. Paths that a macro makes are not seen.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt;
use std::path::{Path, PathBuf};

/// The folders in the order of the data; each may import those before it.
const FLOW: [&str; 8] = ["hub", "model", "lora", "data", "train", "eval", "sweep", "plot"];
/// Imported by anyone; they import one another only.
const FOUNDATIONS: [&str; 10] =
    ["error", "files", "format", "interrupt", "native", "overlay", "random", "stderr", "suggest", "table"];
/// What the root of the crate offers in the name of `error`.
const ROOT: [&str; 4] = ["Error", "Kind", "Result", "bail"];
/// Imports the flow and the foundations.
const BINDING: &str = "script";
/// Import what they like; imported by one another only.
const EDGE: [&str; 7] = ["cli", "doctor", "lib", "main", "repl", "replay", "runs"];
/// Crates that one folder or file alone may name.
const CRATES: [(&str, &str); 5] =
    [("rhai", "script"), ("plotters", "plot"), ("rustyline", "repl"), ("clap", "cli"), ("clap_complete", "cli")];

#[test]
fn imports_follow_the_flow() {
    let found = violations(&root().join("src"));
    assert!(found.is_empty(), "{} imports break the rule:\n{}", found.len(), lines(&found));
}

#[test]
fn everything_in_src_has_a_place_in_the_rule() {
    let source = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let tokens = tokens(&source);
    let declared = tokens.windows(3).filter(|three| three[0].text == "mod" && three[2].text == ";");
    let mut names: Vec<String> = declared.map(|three| three[1].text.to_owned()).collect();
    for entry in std::fs::read_dir(root().join("src")).unwrap() {
        names.push(entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    }
    let known: Vec<&str> = [&FLOW[..], &FOUNDATIONS, &EDGE, &[BINDING]].concat();
    let lost: Vec<&String> = names.iter().filter(|name| !known.contains(&name.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?}: give them a place here, in src/lib.rs and in docs/architecture.md");
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
    assert!(files.len() > 100, "found {} Rust files only", files.len());
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
        let found = broken(Path::new(file), source);
        let found: Vec<(usize, &str)> = found.iter().map(|one| (one.line, one.import.as_str())).collect();
        assert_eq!(found, Vec::from_iter(expected), "{file}: {source}");
    }
}

#[test]
fn a_violation_in_a_tree_is_told_with_file_line_import_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("model/deep")).unwrap();
    std::fs::write(folder.path().join("model/deep/planted.rs"), "//! Planted.\n\nuse crate::train::AdamW;\n").unwrap();
    std::fs::write(folder.path().join("model/mod.rs"), "//! Fine.\nuse crate::hub::weights;\n").unwrap();
    let told = lines(&violations(folder.path()));
    assert!(
        told.ends_with("model/deep/planted.rs:3: `crate::train`: model/ may import hub and the foundations"),
        "{told}"
    );
}

#[test]
fn the_imports_that_are_there_are_seen() {
    let mut files = Vec::new();
    below(&root().join("src"), "rs", &mut files);
    let seen = files.iter().flat_map(|file| {
        let inside = file.strip_prefix(root().join("src")).unwrap();
        let found = imports(inside, &std::fs::read_to_string(file).unwrap());
        found.into_iter().map(|import| (place(inside), import.target)).collect::<Vec<_>>()
    });
    let seen: Vec<(String, String)> = seen.collect();
    assert!(seen.len() > 300, "found {} imports only", seen.len());
    for (from, to) in [("model", "hub"), ("lora", "model"), ("train", "data"), ("plot", "sweep"), ("cli", "script")] {
        assert!(seen.contains(&(from.to_owned(), to.to_owned())), "{from} imports {to}, and that was not seen");
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

/// What breaks the rule in the files below `src`.
fn violations(src: &Path) -> Vec<Violation> {
    let mut files = Vec::new();
    below(src, "rs", &mut files);
    let found = files.into_iter().flat_map(|file| {
        let found = broken(file.strip_prefix(src).unwrap(), &std::fs::read_to_string(&file).unwrap());
        found.into_iter().map(move |one| Violation { file: file.clone(), ..one }).collect::<Vec<_>>()
    });
    found.collect()
}

/// What breaks the rule in one file; `file` is its path within `src`.
fn broken(file: &Path, source: &str) -> Vec<Violation> {
    let from = place(file);
    let offending = |import: Import| {
        let why = refusal(&from, &import.target)?;
        Some(Violation { file: file.to_owned(), line: import.line, import: import.text, why })
    };
    let mut found: Vec<Violation> = imports(file, source).into_iter().filter_map(offending).collect();
    for token in tokens(source) {
        let home = CRATES.iter().find(|(name, home)| *name == token.text && *home != from);
        if let Some((name, home)) = home {
            let why = format!("this crate is named in src/{home} alone");
            found.push(Violation { file: file.to_owned(), line: token.line, import: (*name).to_owned(), why });
        }
    }
    found
}

/// Why `from` may not import `to`; `None` where it may.
fn refusal(from: &str, to: &str) -> Option<String> {
    let rank = |name: &str| FLOW.iter().position(|known| *known == name);
    let shared = FOUNDATIONS.contains(&to) || ROOT.contains(&to);
    if from == to || EDGE.contains(&from) {
        return None;
    }
    match rank(from) {
        _ if from == BINDING => match shared || rank(to).is_some() {
            true => None,
            false => Some("script/ may import the flow and the foundations".to_owned()),
        },
        _ if FOUNDATIONS.contains(&from) => match shared {
            true => None,
            false => Some("a foundation may import other foundations".to_owned()),
        },
        None => Some(format!("`{from}` has no place in the rule: give it one in tests/layers.rs")),
        Some(own) => match shared || rank(to).is_some_and(|other| other < own) {
            true => None,
            false if own == 0 => Some(format!("{from}/ may import the foundations")),
            false => Some(format!("{from}/ may import {} and the foundations", FLOW[..own].join(", "))),
        },
    }
}

/// A path that leads to the root of the crate and from there to `target`.
struct Import {
    line: usize,
    /// As written, up to the target.
    text: String,
    /// The first name below the root.
    target: String,
}

/// All imports of one file by `crate::…` and `super::…`.
fn imports(file: &Path, source: &str) -> Vec<Import> {
    let tokens = tokens(source);
    let mut inside = module_path(file);
    let mut opened: Vec<usize> = Vec::new();
    let mut found = Vec::new();
    let (mut depth, mut at) = (0, 0);
    while let Some(token) = tokens.get(at) {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text);
        let mut end = at + 1;
        match token.text {
            "{" => depth += 1,
            "}" => {
                if opened.last() == Some(&depth) {
                    opened.pop();
                    inside.pop();
                }
                depth = usize::saturating_sub(depth, 1);
            }
            "mod" if next(2) == "{" => {
                inside.push(next(1).to_owned());
                opened.push(depth + 1);
            }
            "crate" if next(1) == "as" => {
                found.push(Import { line: token.line, text: "crate as".to_owned(), target: String::new() });
            }
            "crate" if next(1) == "::" => end = follow(&tokens, at + 2, &[], "crate", &mut found),
            "super" if next(1) == "::" => end = follow(&tokens, at, &inside, "", &mut found),
            _ => {}
        }
        at = end;
    }
    found
}

/// Follows a path from `at`, where `base` is the module that it has led to and `text` what
/// was written so far; gives the place behind it.
fn follow(tokens: &[Token], at: usize, base: &[String], text: &str, found: &mut Vec<Import>) -> usize {
    let Some(token) = tokens.get(at) else { return at };
    let written = if text.is_empty() { token.text.to_owned() } else { format!("{text}::{}", token.text) };
    let goes_on = tokens.get(at + 1).is_some_and(|next| next.text == "::");
    match token.text {
        "super" if goes_on => {
            let above = &base[..base.len().saturating_sub(1)];
            follow(tokens, at + 2, above, &written, found)
        }
        "{" => {
            let mut next = at + 1;
            while tokens.get(next).is_some_and(|token| token.text != "}") {
                next = follow(tokens, next, base, text, found);
                next = end_of_item(tokens, next);
            }
            next + 1
        }
        name => {
            if base.is_empty() {
                found.push(Import { line: token.line, text: written, target: name.to_owned() });
            }
            at + 1
        }
    }
}

/// The place behind the comma that ends an item of a group, or of the brace that ends the group.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" if depth == 0 => return at,
            "," if depth == 0 => return at + 1,
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// `hub/weights/index.rs` is `hub::weights::index`; `hub/mod.rs` is `hub`.
fn module_path(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// The folder or file right below `src` that a file belongs to.
fn place(file: &Path) -> String {
    let first = file.iter().next().map(Path::new).unwrap_or(file);
    first.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A word or a mark of the source, with its line from 1.
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The source without comments and without strings and characters.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(letter) = source[at..].chars().next() {
        let rest = &source[at..];
        let (length, counts) = match letter {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (block_comment(rest), false),
            '"' => (quoted(rest, '"'), false),
            '\'' => (character(rest), false),
            'r' | 'b' | 'c' if raw_string(rest) > 0 => (raw_string(rest), false),
            _ if is_word(letter) => (rest.find(|next| !is_word(next)).unwrap_or(rest.len()), true),
            ':' if rest.starts_with("::") => (2, true),
            _ => (letter.len_utf8(), !letter.is_whitespace()),
        };
        if counts {
            tokens.push(Token { text: &rest[..length], line });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The length of the block comment that `rest` begins with; they nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(next) = rest[at..].find(['/', '*']).map(|found| at + found) {
        let (step, length) = match rest[next..].get(..2) {
            Some("/*") => (1, 2),
            Some("*/") => (-1, 2),
            _ => (0, 1),
        };
        depth += step;
        at = next + length;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of what `rest` begins with up to the closing `mark`; a backslash hides one letter.
fn quoted(rest: &str, mark: char) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, letter)) = characters.next() {
        match letter {
            '\\' => drop(characters.next()),
            _ if letter == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character is dropped as a whole, of a lifetime the mark alone.
fn character(rest: &str) -> usize {
    let mut characters = rest.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(rest, '\''),
        _ => 1,
    }
}

/// The length of the raw string that `rest` begins with, 0 if there is none.
fn raw_string(rest: &str) -> usize {
    let Some(after) = ["r", "br", "cr"].iter().find_map(|start| rest.strip_prefix(start)) else { return 0 };
    let hashes = after.len() - after.trim_start_matches('#').len();
    if !after[hashes..].starts_with('"') {
        return 0;
    }
    let start = rest.len() - after.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len())
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
        } else if path.extension().is_some_and(|found| found == ending) {
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
