//! Files as people have them, read by datasets and by lorhai; and the rows that datasets chooses by seed. Inputs and Python's
//! results are in `tests/golden/data/*.json`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::read_json;
use lorhai::data::read::{locate, read_files, Delimiter, Format, Header, Loaded, Quoting, Slice, TableOptions};
use lorhai::data::{Dataset, Like, LoadOptions, SplitOptions};
use lorhai::options::OptionType;
use lorhai::script::{on_large_stack, Session};
use serde_json::{json, Value};
use std::path::{Path, PathBuf};

fn golden(name: &str) -> Value {
    read_json(common::files::golden("data").join(name))
}

fn decoded(text: &str) -> Vec<u8> {
    let digit =
        |c: u8| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|d| *d == c);
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter_map(digit) {
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn options(case: &Value) -> LoadOptions {
    let text = |name: &str| case["options"][name].as_str().map(str::to_owned);
    let list = |name: &str| -> Option<Vec<String>> {
        let items = case["options"][name].as_array()?;
        Some(items.iter().map(|item| item.as_str().unwrap().to_owned()).collect())
    };
    let header = match case["options"]["header"].as_bool() {
        Some(false) => Header::None,
        _ => list("header").map_or(Header::FirstLine, Header::Names),
    };
    let quoting = text("quoting").map(|name| Quoting::from_value(&lorhai::options::Value::Text(name)).unwrap());
    let table =
        TableOptions { delimiter: text("delimiter").map(|text| Delimiter(text.as_bytes()[0])), quoting, header };
    LoadOptions {
        split: text("split"),
        columns: list("columns"),
        field: text("field"),
        table,
        ..LoadOptions::default()
    }
}

fn load(folder: &Path, case: &Value) -> lorhai::Result<Loaded> {
    for (name, content) in case["files"].as_object().unwrap() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = content["base64"].as_str().map(decoded);
        std::fs::write(path, bytes.unwrap_or_else(|| content["text"].as_str().unwrap().into())).unwrap();
    }
    let paths: Vec<PathBuf> = match &case["path"] {
        Value::Array(names) => names.iter().map(|name| folder.join(name.as_str().unwrap())).collect(),
        name => vec![folder.join(name.as_str().unwrap())],
    };
    let options = options(case);
    locate(&paths, &options)?.read(&options)
}

fn rows(data: &Dataset) -> Value {
    data.iter().map(|row| Value::Object(row.unwrap().into_owned())).collect()
}

/// Prints a table: `cargo test --test data_files -- --nocapture`.
#[test]
fn files_are_read_as_in_python_or_the_difference_is_reported() {
    let cases = golden("files.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() >= 60, "{}", cases.len());
    let (mut equal, mut failed) = (0, Vec::new());
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let result = load(folder.path(), case);
        let python = case["python"].get("rows").unwrap_or(&case["python"]["error"]);
        let expected = case.get("lorhai").unwrap_or(&case["python"]);
        let shown = |value: &Value| value.to_string().chars().take(70).collect::<String>();
        let (read, right) = match &result {
            Ok(loaded) => {
                let read = rows(&loaded.data);
                equal += usize::from(read == *python);
                // A difference that is not an error needs a note, or a reason in the case.
                let is_explained = read == *python || !loaded.notes.is_empty() || case["why"].is_string();
                (shown(&read), expected.get("rows") == Some(&read) && is_explained)
            }
            Err(error) => {
                let text = error.to_string();
                let right = match (case.get("lorhai"), expected["error"].as_str()) {
                    (Some(_), Some(part)) => text.contains(part),
                    (None, Some(_)) => true,
                    _ => false,
                };
                (text.replace(&folder.path().display().to_string(), "…").chars().take(120).collect(), right)
            }
        };
        println!("{:<40} python: {:<72} lorhai: {read}", case["name"].as_str().unwrap(), shown(python));
        if !right {
            failed.push(format!("{}: expected {expected}, got {read}", case["name"]));
        }
    }
    println!("{} inputs: {equal} read as Python reads them", cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_change_of_meaning_is_noted() {
    let cases = golden("files.json");
    let notes = |name: &str| {
        let case = cases.as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        load(folder.path(), case).unwrap().notes.join("\n")
    };
    for (name, text) in [
        ("rows under data", "the rows under `data` are read"),
        ("dict of columns", "read as 2 rows of the columns q, n"),
        ("orient=split", "orient=\"split\""),
        ("list of conversations", "`messages` of a row"),
        ("quotes that are text", "line 3 has one that does not enclose a field"),
        ("quotes that join rows", "quotes are read as text"),
        ("text behind a quote in tsv", "quotes are read as text"),
        ("text behind a quote in csv", "line 2 has text after a closing quote"),
        ("image column", "column `image` is left out"),
    ] {
        assert!(notes(name).contains(text), "{name}: {}", notes(name));
    }
    assert_eq!(["csv", "jsonl.gz", "stray file", "quoted tsv"].map(notes).concat(), "");
}

/// The value of a script's last expression, as text.
fn script(text: &str) -> String {
    on_large_stack(|| {
        let result = Session::new().run_source("case.rhai", text);
        result.map_or_else(|failure| failure.to_json().to_string(), |value| value.to_string())
    })
    .unwrap()
}

#[test]
fn scripts_read_and_keep_the_values_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    let text =
        "{\"t\":\"a\",\"id\":18446744073709551615,\"s\":NaN}\n{\"t\":\"b\",\"id\":1,\"s\":-Infinity,\"more\":1}\n";
    std::fs::write(&path, text).unwrap();
    let load = format!("let d = load_dataset(\"{}\");", path.display());
    let run = |rest: &str| script(&format!("{load} {rest}"));
    assert_eq!(run("`${d.row(0).id}`"), u64::MAX.to_string());
    assert_eq!(run("d.filter(|row| row.id > 5).len"), "1");
    assert_eq!(run("d.filter(|row| row.id == 1 || 5 < row.id).len"), "2");
    assert_eq!(run("d.row(0).s.is_nan()"), "true");
    assert_eq!(
        run("let e = d.map(|row| { row.x = row.more; row }); `${e.row(0).id} ${e.row(1).s} ${e.row(0).x == ()}`"),
        format!("{} -inf true", u64::MAX)
    );
    assert_eq!(run("d.row(0).more == ()"), "true", "a column that some rows lack");
    assert!(run("d.preview(2)").contains("NaN") && run("d.describe()").contains("float"));
    assert_eq!(run("d.shuffle(1, #{ like: \"datasets\" }).len"), "2");
    let names = format!("[\"{0}\", \"{0}\"]", path.display());
    assert_eq!(script(&format!("load_dataset({names}, #{{ columns: [\"t\"], split: \"train[:75%]\" }}).len")), "3");
}

#[test]
fn shuffles_and_splits_choose_the_same_rows_as_datasets() {
    let golden = golden("orders.json");
    let numbers = |data: &Dataset, most: usize| -> Value {
        data.iter().take(most).map(|row| row.unwrap()["n"].clone()).collect()
    };
    let mut compared = 0;
    for case in golden["orders"].as_array().unwrap() {
        let (size, seed) = (case["size"].as_u64().unwrap(), case["seed"].as_u64().unwrap());
        let data = Dataset::from_rows((0..size).map(|n| json!({"n": n}).as_object().unwrap().clone()));
        assert_eq!(numbers(&data.shuffle_like(seed, Like::Datasets), 12), case["shuffle"], "shuffle {size} {seed}");
        for (name, test) in [("0.1", 0.1), ("0.25", 0.25), ("1", 1.0)] {
            let Some(expected) = case.get(name) else { continue };
            let options = SplitOptions { test, seed, like: Like::Datasets, ..SplitOptions::default() };
            let (train, test) = data.split_with(&options).unwrap();
            let halves = json!([train.len(), numbers(&train, 8), numbers(&test, 8)]);
            assert_eq!(halves, *expected, "split {size} {seed} {name}");
            compared += 1;
        }
    }
    for case in golden["stratified"].as_array().unwrap() {
        let labels = case["labels"].as_array().unwrap().iter().enumerate();
        let data =
            Dataset::from_rows(labels.map(|(n, label)| json!({"n": n, "label": label}).as_object().unwrap().clone()));
        let options = SplitOptions {
            test: 0.25,
            seed: case["seed"].as_u64().unwrap(),
            like: Like::Datasets,
            stratify: Some("label".into()),
            group: None,
        };
        let (train, test) = data.split_with(&options).unwrap();
        assert_eq!(json!([numbers(&train, 20), numbers(&test, 20)]), json!([case["train"], case["test"]]));
        compared += 1;
    }
    println!("{compared} splits are those of datasets");
    assert!(compared > 100, "{compared}");
}

#[test]
fn groups_stay_on_one_side_and_classes_keep_their_proportions() {
    let rows = (0..1000).map(|n| json!({"mr": format!("p{}", n * n % 97), "n": n, "label": n % 10 == 0}));
    let data = Dataset::from_rows(rows.map(|row| row.as_object().unwrap().clone()));
    let by = |seed: u64, group: Option<&str>, stratify: Option<&str>| {
        let (group, stratify) = (group.map(str::to_owned), stratify.map(str::to_owned));
        data.split_with(&SplitOptions { test: 0.1, seed, group, stratify, ..SplitOptions::default() }).unwrap()
    };
    let values = |data: &Dataset, name: &str| {
        data.iter().map(|row| row.unwrap()[name].to_string()).collect::<std::collections::BTreeSet<_>>()
    };
    for seed in 0..5 {
        let (train, test) = by(seed, Some("mr"), None);
        assert_eq!((train.len(), test.len()), (900, 100), "groups of about 20 rows add up to 100");
        assert!(values(&train, "mr").is_disjoint(&values(&test, "mr")));
        assert_eq!(values(&train, "n").len() + values(&test, "n").len(), 1000, "no row is lost");
        let (_, again) = by(seed, Some("mr"), None);
        assert_eq!(values(&again, "n"), values(&test, "n"));
        let (train, test) = by(seed, None, Some("label"));
        let positive = |data: &Dataset| data.iter().filter(|row| row.as_ref().unwrap()["label"] == true).count();
        assert_eq!((test.len(), positive(&test), positive(&train)), (100, 10, 90));
    }
    assert_ne!(values(&by(0, Some("mr"), None).1, "mr"), values(&by(1, Some("mr"), None).1, "mr"));
    let refused = |options: SplitOptions| data.split_with(&options).unwrap_err().to_string();
    let of = |name: &str| Some(name.to_owned());
    assert!(refused(SplitOptions { group: of("mrr"), ..SplitOptions::default() }).contains("no column `mrr`"));
    assert!(refused(SplitOptions { stratify: of("n"), ..SplitOptions::default() }).contains("only one row"));
    let both = SplitOptions { group: of("mr"), stratify: of("label"), ..SplitOptions::default() };
    assert!(refused(both).contains("found both"));
}

#[test]
fn slices_beyond_the_rows_leave_none() {
    assert_eq!(Slice::parse("train[20:]").unwrap()[0].range(10).unwrap(), 10..10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{\"a\":1}\n").unwrap();
    let none = LoadOptions { split: Some("train[5:]".into()), ..LoadOptions::default() };
    assert!(Dataset::load_with(&path, &none).unwrap_err().message.contains("no rows are left"));
    let lines = LoadOptions { format: Some(Format::Json), ..LoadOptions::default() };
    assert_eq!(read_files(&[path], &lines).unwrap().data.len(), 1);
}
