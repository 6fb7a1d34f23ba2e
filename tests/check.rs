//! `lorhai check`: silent about scripts that run, and loud about those that cannot.
//!
//! The texts that users read for wrong scripts are in `mistakes/check.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lorhai::script::api::AREAS;
use lorhai::script::catalogue::docs::{functions, Function};
use lorhai::script::catalogue::option_list::declared_of;
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

/// Each option by each of its names, in a call of each function that takes it.
#[test]
fn every_option_and_alias_is_accepted() {
    let mut names = 0;
    let mut blamed = Vec::new();
    for function in AREAS.iter().flat_map(functions) {
        let method = usize::from(function.receiver().is_some());
        let arguments = vec!["x"; function.parameters.len() - method - usize::from(takes_options(&function))];
        // One script for a function: each check takes a while.
        let mut calls = Vec::new();
        for option in declared_of(&function) {
            for name in option.aliases.iter().chain([&option.name]) {
                let options = format!("#{{ {name:?}: {} }}", if option.inner.is_empty() { "1" } else { "#{}" });
                let arguments = [&arguments[..], &[options.as_str()]].concat().join(", ");
                let receiver = if method == 1 { "x." } else { "" };
                calls.push(format!("fn f{names}(x) {{ {receiver}{}({arguments}) }}\nf{names}(1);\n", function.name));
                names += 1;
            }
        }
        let problems = check_text(&calls.concat());
        blamed.extend(problems.iter().map(|problem| format!("{}: {problem}", function.signature())));
    }
    assert!(names > 90 && blamed.is_empty(), "{names} names\n{}", blamed.join("\n"));
}

fn takes_options(function: &Function) -> bool {
    function.parameters.iter().any(|(name, _)| name == "options")
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

/// The warnings alone, as line, column and message.
fn warnings(text: &str) -> Vec<(usize, usize, String)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.rhai");
    std::fs::write(&path, text).unwrap();
    let found = check(&path).into_iter().filter(Failure::is_warning);
    let place = |failure: &Failure| failure.place.as_ref().map_or((0, 0), |place| (place.line, place.column));
    found.map(|failure| (place(&failure).0, place(&failure).1, failure.error.message)).collect()
}

/// What each trap says: a part of the message, or of the hint.
#[test]
fn traps_of_the_language_are_warned_about() {
    for (text, line, column, part) in [
        ("let c = `a\\nb`;", 1, 11, "`\\n` between backticks"),
        ("let r = 1;\nlet c = `Q: ${r}\n\nA\\t${r}`;", 4, 2, "`\\t` between backticks"),
        ("print(`${1}\\n\\n### A:`);", 1, 12, "`\\n` between backticks"),
        ("let a = `\\\"quoted\\\"`;", 1, 10, "between backticks"),
        ("let a = `\\u00e9`;", 1, 10, "`\\u00e9` between backticks"),
        ("let list = [#{ x: 1 }]; for t in list { t.x = 2; }", 1, 41, "the change of `t.x` is lost"),
        ("let list = [[1]]; for t in list { t[0] = 2; }", 1, 35, "the change of `t[…]` is lost"),
        ("let list = [[1]]; for t in list { t.push(2); }", 1, 35, "the change of `t.push(…)` is lost"),
        ("let list = [1]; for t in list { t *= 2; }", 1, 33, "the change of `t` is lost"),
        ("let list = [#{ a: [1] }]; for t in list { t.a.push(2); print(t.b); }", 1, 43, "the change of"),
        ("for i in 0..10 { print(i); i += 2; }", 1, 28, "is given its next value by the loop"),
        ("fn add(l) { l.push(1); } add([1]);", 1, 13, "the change of `l.push(…)` is lost"),
        ("fn f(m) { m.lr2 = 1; } f(#{});", 1, 11, "the change of `m.lr2` is lost"),
        ("let f = |l| { l.push(1); }; f.call([]);", 1, 15, "the change of `l.push(…)` is lost"),
        ("print(log(2.718));", 1, 7, "base 10"),
        ("let x = 2.5; print(x.log());", 1, 22, "base 10"),
        ("print(7 / 2);", 1, 9, "`7 / 2` is 3"),
        ("let n = 7; let half = n / 2; print(half);", 1, 25, "drops the fraction"),
        ("let correct = 0; correct += 1; let all = [1, 2]; print(correct / all.len);", 1, 64, "drops the fraction"),
        ("let hits = 0; hits += 1; let n = [1].len(); let accuracy = hits / n; print(accuracy);", 1, 65, "drops"),
        ("let a = [1].len; let b = [1, 2].len; print(#{ rate: a / b });", 1, 55, "drops the fraction"),
        ("let a = [1].len; let b = [1, 2].len; print(100.0 * (a / b));", 1, 55, "drops the fraction"),
        ("let s = \" a \"; let t = s.trim(); print(t);", 1, 26, "`trim` returns nothing"),
        ("let s = \"a\"; print(s.replace(\"a\", \"b\"));", 1, 22, "`replace` returns nothing"),
        ("let rows = dataset([#{ text: \" a\" }]).map(|r| #{ text: r.text.trim() }); print(rows);", 1, 63, "`trim`"),
        ("let a = [\" x\"].map(|s| s.trim()); print(a);", 1, 26, "`trim` returns nothing"),
        ("let l = [2, 1]; let s = l.sort(); print(s);", 1, 27, "`sort` returns nothing"),
        ("let m = load_model(\"x\"); let p = m.add_lora(#{ r: 2 }); print(p);", 1, 36, "`add_lora` returns nothing"),
        ("let d = dataset([#{ a: 1 }]); d.shuffle(1); print(d);", 1, 33, "nothing uses"),
        ("let s = \"a\"; s.to_upper(); print(s);", 1, 16, "nothing uses"),
    ] {
        let found = warnings(text);
        let expected =
            found.iter().any(|(at, place, message)| (*at, *place) == (line, column) && message.contains(part));
        assert!(expected, "{text}\nexpected {line}:{column} {part}\nfound {found:?}");
        assert!(found.len() <= 2, "{text}\n{found:?}");
    }
}

#[test]
fn what_is_meant_is_not_warned_about() {
    for text in [
        "let a = \"a\\nb\"; let b = `${\"\\n\"}${a}`; let c = `two\nlines`; print(a + b + c);",
        "let pattern = `.*\\.(q|v)_proj\\d+`; let tex = `\\frac{1}{2} \\times \\nabla`; print(pattern + tex);",
        "let path = \"C:\\\\new\"; print(path);",
        "let out = []; for t in [#{ x: 1 }] { t.x = 2; out.push(t); } print(out);",
        "for t in [#{ x: 1 }] { t.x = 2; print(t.x); }",
        "for t in [#{ x: 1 }] { while t.x < 3 { print(t.x); t.x += 1; } }",
        "let list = [#{ x: 1 }]; for (t, i) in list { list[i].x = t.x + 1; } print(list);",
        "let n = 0; for t in [1, 2] { n += t; } print(n);",
        "fn add(l) { l.push(1); l } print(add([1]));",
        "fn add(l) { l.push(1); return l; } print(add([1]));",
        "fn clean(s) { s.trim(); s } print(clean(\" a\"));",
        "fn with_default(x) { x = x ?? 3; x * 2 } print(with_default(()));",
        "fn grow() { this.push(1); } let l = []; l.grow(); print(l);",
        "let total = 0; [1, 2].for_each(|x| total += x); print(total);",
        "let list = []; [1, 2].for_each(|x| list.push(x)); print(list);",
        "let optimizer = adamw(load_model(\"x\"), #{}); fn slow(o) { o.lr = 1e-5; } slow(optimizer);",
        "print(8 / 2); print(7.0 / 2); let n = [1, 2, 3].len; print([1, 2, 3][n / 2]);",
        "let cfg = args(#{ steps: 100 }); let every = max(cfg.steps / 10, 1); print(every);",
        "let mid = [1].len() / 2; print(mid);",
        "print(ln(2.0)); print(log10(100.0)); print(log(8.0, 2.0)); print(tensor([1.0]).log());",
        "let p = tensor([1.0]); print(log(p)); fn log(x, y, z) { x } print(log(1, 2, 3));",
        "let l = [2, 1]; l.sort(); print(l); let s = \" a\"; s.trim(); print(s);",
        "let last = [1].pop(); print(last); let m = #{ a: 1 }; print(m.remove(\"a\"));",
        "let d = dataset([#{ a: 1 }]); d = d.shuffle(1); print(d.len);",
        "let f = #{ replace: |a, b| a }; let x = f.replace(1, 2); print(x);",
        "fn trim() { 1 } let s = \"a\"; print(s.trim());",
        "print(`a\\nb`); // noqa",
    ] {
        let found = warnings(text);
        assert!(found.is_empty(), "{text}\n{found:?}");
    }
}

#[test]
fn a_variable_in_use_is_named_with_its_place() {
    let text = "let m = #{ a: 1 };\nlet values = m.keys().map(|k| m[k]);";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.rhai");
    std::fs::write(&path, text).unwrap();
    let ran = on_large_stack(|| Session::new().run_file(&path).map(drop)).unwrap().unwrap_err();
    for failure in [ran, check(&path).remove(0)] {
        let place = failure.place.as_ref().unwrap();
        assert_eq!((place.line, place.column), (2, 23), "{failure}");
        assert!(failure.error.message.contains("`m` is in use"), "{failure}");
    }
}

/// Scripts of the tests, of the documents and of their fixtures: each warning there was read, and is right.
#[test]
fn few_warnings_are_false() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["docs", "."] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            // The introduction to the language shows its traps, each of which is warned about.
            let is_about_traps = path.ends_with("rhai.md");
            if path.extension().is_none_or(|end| end != "md") || path.ends_with("reference.md") || is_about_traps {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for example in text.split("```rhai\n").skip(1).filter_map(|rest| rest.split("```").next()) {
                let found = warnings(example);
                assert!(found.is_empty(), "{}\n{example}\n{found:?}", path.display());
            }
        }
    }
}
