//! `lorhai check`: silent about scripts that run, and loud about those that cannot.
//!
//! The texts that users read for wrong scripts are in `mistakes/check.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lorhai::script::api::AREAS;
use lorhai::script::docs::functions;
use lorhai::script::{on_large_stack, Failure, Session};
use std::path::{Path, PathBuf};

fn check(path: &Path) -> Vec<Failure> {
    on_large_stack(|| Session::new().check_file(path)).unwrap().unwrap()
}

fn check_text(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.rhai");
    std::fs::write(&path, text).unwrap();
    check(&path).into_iter().map(|failure| failure.error.message).collect()
}

#[test]
fn no_script_that_runs_is_blamed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(root.join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let scripts: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "rhai")).collect();
    assert!(scripts.len() > 5);
    for script in scripts {
        let found: Vec<String> = check(&script).iter().map(Failure::to_string).collect();
        assert!(found.is_empty(), "{}", found.join("\n\n"));
    }
}

/// They are run by `api_docs.rs`, so whatever is said of them is wrong.
#[test]
fn no_example_of_the_reference_is_blamed() {
    for function in AREAS.iter().flat_map(functions) {
        for example in function.examples() {
            let found = check_text(&example);
            // An example of one line does not use the settings that it shows.
            let wrong: Vec<&String> = found.iter().filter(|text| !text.ends_with("is never used")).collect();
            assert!(wrong.is_empty(), "{}\n{example}\n{wrong:?}", function.signature());
        }
    }
}

#[test]
fn what_only_looks_wrong_is_let_pass() {
    for text in [
        "let object = #{ size: 3, grow: |by| by + 1 }; print(object.grow(2));",
        "let object = #{}; object.grow = |by| by; print(object.grow(2));",
        "fn split(x) { x } print(split(1)); print(\"a b\".split(\" \"));",
        "fn double() { this *= 2; } let x = 1; x.double(); print(x);",
        "let f = |x| x; print(f.call(1)); print(call(f, 1)); print(type_of(f)); let g = f.curry(1); print(g.call());",
        "import \"other\" as other; print(other::whatever(1, 2, 3));",
        "let cfg = args(#{ a: 1, b: 2 }); fn use_all(c) { print(c.a + c.b); } use_all(cfg);",
        "let cfg = args(#{ a: 1, b: 2 }); let f = |x| x + cfg.a; print(f.call(1)); print(`${cfg.b}`);",
        "let cfg = args(#{ a: 1, b: [2], c: #{ d: 1, e: 2 } }); print(cfg.b[0] + cfg[\"a\"]); print(cfg.c.keys());",
        "let cfg = args(#{ a: 1 }); cfg.b = cfg.a; print(cfg.b);",
        "let cfg = args(#{ a: \"x\" }); print(cfg.a.len()); if cfg.a.len > 2 { print(1); }",
        "let options = #{ whatever: 1 }; if is_def_var(\"options\") { print(options.whatever); }",
        "let data = dataset([#{ text: \"a\" }]); print(data.map(|row| #{ any: row.text, other: 1 }).len);",
        "switch 3 { 1 => print(1), _ => print(2) } loop { break; } try { throw 1; } catch (e) { print(e); }",
        "print([1, 2].map(|x| x).filter(|x| x > 1).len()); print(1.max(2));",
    ] {
        let found = check_text(text);
        assert!(found.is_empty(), "{text}\n{found:?}");
    }
}

#[test]
fn nothing_runs_while_checking() {
    let folder = tempfile::tempdir().unwrap();
    let (script, left) = (folder.path().join("case.rhai"), folder.path().join("left.txt"));
    std::fs::write(&script, format!("write_text({:?}, \"x\");\nnowhere();", left.display().to_string())).unwrap();
    assert_eq!(check(&script).len(), 1);
    assert!(!left.exists());
}

#[test]
fn every_problem_is_told_in_the_order_of_the_script() {
    let found = check_text("one();\nprint(two);\nload_model();\nload_model(\"x\", #{ four: 1 });\nprint(five);\n");
    let expected = [
        "unknown function `one`",
        "unknown variable `two`",
        "`load_model`: expected 1 or 2 arguments, found 0",
        "load_model: unknown option `four`",
        "unknown variable `five`",
    ];
    assert_eq!(found, expected);
}
