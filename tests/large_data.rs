//! Data sets beyond what stays in memory: with a limit of a few bytes the real program has the rows, columns, errors,
//! fingerprints and tokens that it has in memory; a full disk is an error, and a killed process leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::folder_with_script;
use common::program::{finished, lorhai, Finished};
use lorhai::data::{Dataset, Row};
use serde_json::{json, Value};
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

const LIMIT: &str = "LORHAI_DATA_IN_MEMORY";

fn run(folder: &Path, limit: Option<&str>) -> Finished {
    let mut command = lorhai(folder);
    if let Some(limit) = limit {
        command.env(LIMIT, limit);
    }
    finished(command.args(["run", "case.rhai"]))
}

/// Runs the script in memory and with several limits, in folders of their own, and compares all that it prints and the
/// names of what it leaves in the cache.
fn compare(script: &str, files: &[(&str, &[u8])]) -> String {
    let outcome = |limit: Option<&str>| {
        let folder = folder_with_script(script);
        files.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
        let finished = run(folder.path(), limit);
        let cached = fs::read_dir(folder.path().join("cache/tokenized")).map(|entries| {
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        });
        (finished.code, finished.output, finished.errors, cached.unwrap_or_default())
    };
    let expected = outcome(None);
    for limit in ["0", "150", "4000"] {
        assert_eq!(outcome(Some(limit)), expected, "{LIMIT}={limit}");
    }
    assert_eq!(expected.0, Some(0), "{}", expected.2);
    expected.1
}

fn table() -> Vec<Value> {
    let row = |n: usize| {
        let text = "가\t\"나\" ".repeat(n % 5 + 1);
        json!({"id": u64::MAX - n as u64, "text": text, "x": n as f64 / 7.0, "tag": format!("t{}", n % 3), "none": null})
    };
    (0..60).map(row).collect()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

const SHOW: &str = r#"
let show = |name, data| {
    print(`${name} ${data.len} ${data.columns}`);
    for row in data { print(row); }
};
"#;

#[test]
fn every_format_gives_the_same_rows() {
    let table = table();
    let uneven = "{\"a\": 1, \"b\": NaN}\n{\"b\": -Infinity, \"c\": [1.0, {\"d\": \"\\u0000\"}]}\n\n{\"c\": 18446744073709551615, \"a\": -0.0}\n";
    let csv: String = (0..50).map(|n| format!("{n},{}.5,{},\"a \"\"{n}\"\"\n b\",\n", n, n % 2 == 0)).collect();
    let csv = format!("int,float,flag,text,empty\n{csv}");
    let mixed = format!("code,part\n{}late,x\n", "007,3\n".repeat(40));
    let nested = fs::read("tests/golden/data/nested.parquet").unwrap();
    let script = format!(
        r#"{SHOW}
        for name in ["a.jsonl", "uneven.jsonl", "a.json", "a.csv", "mixed.csv", "a.tsv", "a.txt", "a.parquet"] {{
            show.call(name, load_dataset(name));
        }}
        show.call("columns", load_dataset("a.jsonl", #{{ columns: ["x", "id"] }}));
        show.call("split", load_dataset("a.jsonl", #{{ split: "train[10:20]" }}));
        show.call("several", load_dataset(["uneven.jsonl", "a.json"]));
        print(load_dataset("uneven.jsonl").describe());
        print(load_dataset("a.jsonl").preview(4));
        for name in ["broken.jsonl", "large.jsonl", "broken.csv", "empty.jsonl"] {{
            try {{ load_dataset(name); }} catch (error) {{ print(`${{name}}: ${{error}}`); }}
        }}
        "#
    );
    let files: [(&str, &[u8]); 12] = [
        ("a.jsonl", &lines(&table).into_bytes()),
        ("uneven.jsonl", uneven.as_bytes()),
        ("a.json", &Value::from(table).to_string().into_bytes()),
        ("a.csv", csv.as_bytes()),
        ("mixed.csv", mixed.as_bytes()),
        ("a.tsv", b"a\tb\n1\tx\n2\t\"y\n"),
        ("a.txt", "one\n\n셋\r\nlast".as_bytes()),
        ("a.parquet", &nested),
        ("broken.jsonl", b"{\"a\": 1}\n{\"a\": 2}\n{\"a\": }\n"),
        ("large.jsonl", b"{\"a\": 1}\n{\"a\": 123456789012345678901}\n"),
        ("broken.csv", b"a,b\n1,2\n3\n"),
        ("empty.jsonl", b"\n"),
    ];
    let output = compare(&script, &files);
    assert!(output.contains("\"id\": 18446744073709551615") || output.contains("18446744073709551615"), "{output}");
    assert!(output.contains("broken.jsonl: ") && output.contains("line 3"), "{output}");
}

#[test]
fn every_operation_gives_the_same_rows() {
    let script = format!(
        r#"{SHOW}
        let data = load_dataset("a.jsonl");
        let seen = [];
        let mapped = data.map(|row| {{ row.n = row.text.len; row.remove("none"); row }});
        show.call("map", mapped);
        show.call("filter", mapped.filter(|row| row.n > 12));
        show.call("none", mapped.filter(|row| false));
        show.call("shuffle", data.shuffle(3));
        show.call("like", data.shuffle(3, #{{ like: "datasets" }}));
        show.call("select", data.select([5, 5, 0]));
        show.call("columns", data.select_columns(["x", "id"]));
        show.call("remove", data.remove_columns(["text"]));
        show.call("rename", data.rename("text", "prompt").take(3));
        show.call("skip", data.skip(55));
        show.call("concatenate", data.skip(50).concatenate(data.take(4)).concatenate(dataset([data.row(-1)])));
        for options in [#{{ test: 0.2 }}, #{{ test: 7, group: "tag" }}, #{{ test: 6, stratify: "tag" }}] {{
            let halves = data.split(options);
            show.call("train", halves.train);
            show.call("test", halves.test);
        }}
        show.call("missing", data.map(|row| if row.x < 3.0 {{ #{{ a: row.x }} }} else {{ #{{ b: row.id, a: () }} }}));
        print(data.map(|row| #{{ nan: 0.0 / 0.0, list: [row.x, [row.tag]] }}).row(7));
        for number in [0, 59, -1, -60, 60, -61] {{
            try {{ print(data.row(number)); }} catch (error) {{ print(error); }}
        }}
        try {{ data.map(|row| if row.x > 5.0 {{ throw "no" }} else {{ row }}); }} catch (error) {{ print(error); }}
        try {{ data.concatenate(data.rename("x", "y")); }} catch (error) {{ print(error); }}
        "#
    );
    let output = compare(&script, &[("a.jsonl", &lines(&table()).into_bytes())]);
    assert!(output.contains("missing 60 [\"a\", \"b\"]"), "{output}");
}

#[test]
fn tokens_audit_and_training_are_the_same() {
    let rows: Vec<Value> = (0..40)
        .map(|n| json!({"prompt": format!("a small fox {n} "), "completion": "sees a bird ".repeat(n % 4 + 1), "w": n % 3}))
        .collect();
    let script = r#"
        let model = load_model("scripts/tiny", #{ dtype: "f32" });
        let data = load_dataset("a.jsonl");
        for options in [#{}, #{ cache: false }, #{ packing: true, max_length: 60 }, #{ max_length: 12, drop_unlabelled: true, audit: false }] {
            // The second time, the tokens come from the cache.
            for round in 0..2 {
                let tokens = data.tokenize(model, options);
                print(`${tokens.len} ${tokens.tokens} ${tokens.labels} ${tokens.read_as}`);
                for row in 0..tokens.len { print(tokens.show(row)); }
            }
        }
        print(data.tokenize(model, #{ weights: "w" }).labels);
        let halves = data.tokenize(model, #{}).split(#{ test: 5 });
        model.add_lora(#{ r: 2 });
        let result = train(model, halves, #{ steps: 8, batch: 3, lr: 1e-2, out: "runs/x" });
        print(`${result.train_loss} ${result.eval_loss}`);
        // Goes on from what is there, by the fingerprint of the tokens.
        print(train(model, halves, #{ steps: 8, batch: 3, lr: 1e-2, out: "runs/x" }).train_loss);
        "#;
    let folder = |limit: Option<&str>| {
        let folder = folder_with_script(script);
        fs::write(folder.path().join("a.jsonl"), lines(&rows)).unwrap();
        let finished = run(folder.path(), limit);
        assert_eq!(finished.code, Some(0), "{}", finished.errors);
        let adapter = fs::read(folder.path().join("runs/x/adapter/adapter_model.safetensors")).unwrap();
        (finished.output, adapter)
    };
    let expected = folder(None);
    assert_eq!(folder(Some("0")), expected);
    assert_eq!(folder(Some("300")), expected);
}

#[test]
fn a_file_that_changes_after_it_was_loaded_changes_no_row() {
    let folder = folder_with_script(
        r#"let data = load_dataset("a.jsonl");
        print("loaded");
        while load_dataset("flag.txt").len == 1 {}
        print(data.row(59).tag + data.len);"#,
    );
    fs::write(folder.path().join("a.jsonl"), lines(&table())).unwrap();
    fs::write(folder.path().join("flag.txt"), "wait\n").unwrap();
    let mut command = lorhai(folder.path());
    let mut child = command.args(["run", "case.rhai"]).env(LIMIT, "0").stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 7];
    stdout.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"loaded\n");
    fs::write(folder.path().join("a.jsonl"), "gone").unwrap();
    let spare = folder.path().join("spare.txt");
    fs::write(&spare, "go\non\n").unwrap();
    fs::rename(&spare, folder.path().join("flag.txt")).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest, "t260\n");
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_killed_process_leaves_no_file() {
    let folder =
        folder_with_script(r#"let data = load_dataset("a.jsonl").map(|row| row); print("loaded"); while true {}"#);
    fs::write(folder.path().join("a.jsonl"), lines(&table())).unwrap();
    let (cache, temporary) = (folder.path().join("cache"), folder.path().join("tmp"));
    fs::create_dir(&temporary).unwrap();
    let mut command = lorhai(folder.path());
    command.env(LIMIT, "0").env("TMPDIR", &temporary);
    let mut child = command.args(["run", "case.rhai"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    // The rows are in two files that have no name.
    let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let nameless = links.filter(|link| link.starts_with(&cache) && link.to_string_lossy().ends_with("(deleted)"));
    assert!(nameless.count() >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(files_below(&cache), Vec::<std::path::PathBuf>::new());
    assert_eq!(files_below(&temporary), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_full_disk_is_an_error_that_names_the_way_out() {
    let folder = folder_with_script(r#"let data = load_dataset("a.jsonl"); print(data.len);"#);
    let row = json!({"text": "x".repeat(1000)});
    fs::write(folder.path().join("a.jsonl"), lines(&vec![row; 3000])).unwrap();
    let mut command = lorhai(folder.path());
    // As with a full disk, the system writes no more of a file than this.
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: between fork and exec one call that is allowed there.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let finished = finished(command.args(["run", "case.rhai"]).env(LIMIT, "1000"));
    assert_eq!((finished.code, finished.output.as_str()), (Some(1), ""));
    let expected = "error: cannot write the rows of a large data set, which need a file on the disk of `";
    assert!(finished.errors.starts_with(expected), "{}", finished.errors);
    assert_eq!(files_below(&folder.path().join("cache")), Vec::<std::path::PathBuf>::new());
}

#[test]
#[ignore = "needs the right to mount a file system"]
fn a_small_disk_that_fills_up_is_named_with_the_way_out() {
    let disk = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(disk.path()).status();
    assert!(mounted.unwrap().success(), "this test needs the right to mount");
    let folder = folder_with_script(r#"let data = load_dataset("a.jsonl"); print(data.len);"#);
    let row = json!({"text": "x".repeat(1000)});
    fs::write(folder.path().join("a.jsonl"), lines(&vec![row; 3000])).unwrap();
    let mut command = lorhai(folder.path());
    let finished = finished(command.args(["run", "case.rhai"]).env(LIMIT, "1000").env("LORHAI_CACHE", disk.path()));
    let _ = Command::new("umount").arg("-l").arg(disk.path()).status();
    assert!(finished.errors.contains("No space left on device"), "{}", finished.errors);
    assert!(finished.errors.contains("set LORHAI_CACHE to a folder on a larger one"), "{}", finished.errors);
}

#[test]
fn a_sandboxed_script_keeps_its_rows_where_it_may_write() {
    let folder = folder_with_script(r#"let data = load_dataset("a.jsonl").map(|row| row); print(data.row(-1).tag);"#);
    fs::write(folder.path().join("a.jsonl"), lines(&table())).unwrap();
    let finished = finished(lorhai(folder.path()).args(["run", "--sandbox", "case.rhai"]).env(LIMIT, "0"));
    if finished.errors.contains("this kernel has no Landlock") {
        println!("not checked: this kernel has no Landlock");
        return;
    }
    assert_eq!((finished.code, finished.output.as_str()), (Some(0), "t2\n"), "{}", finished.errors);
    assert!(!finished.errors.contains("stay in memory"), "{}", finished.errors);
    assert_eq!(files_below(&folder.path().join("runs")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_fingerprint_is_the_hash_of_the_texts_of_the_rows() {
    let rows = table().into_iter().map(|row| row.as_object().unwrap().clone()).collect::<Vec<Row>>();
    // By Python's json and hashlib: the length of each text in eight bytes, then the text.
    let expected = "361be9e6a38c9ad6ac84d54ca2c7aa3ead8c76c4f67d461bd4bc759fa6b4a6ea";
    assert_eq!(Dataset::from_rows(rows).fingerprint().unwrap(), expected);
}
