//! The program killed at the system calls by which it saves: what it saves is whole afterwards, the old or the new, and
//! the next run leaves no temporary file. A few calls of each function are tried; with `LORHAI_EVERY_KILL=1` all are.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::link_scripts;
use common::needs;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The calls that change what lies on a disk. A process that is killed between two of them leaves what the first one left.
const CALLS: [&str; 16] = [
    "openat",
    "mkdir",
    "write",
    "writev",
    "pwrite64",
    "copy_file_range",
    "sendfile",
    "fallocate",
    "chmod",
    "fchmod",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
];

/// How many calls are tried, unless all are.
const SAMPLED: usize = 4;

/// A file's content by its path in the folder.
type Content = BTreeMap<String, Vec<u8>>;

struct Case {
    name: &'static str,
    /// Saves what is there first.
    before: String,
    /// Saves over it, and is killed.
    script: String,
    /// What is replaced whole: folders or files.
    targets: &'static [&'static str],
    /// Names that a killed run may leave out: a training run saves at its end what it moved aside at its beginning.
    may_be_absent: bool,
}

const MODEL: &str = r#"let m = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });"#;
const DATA: &str =
    r#"let d = load_dataset("scripts/tiny/train.jsonl").take(4).tokenize(m, #{ cache: false, max_length: 32 });"#;

fn cases() -> Vec<Case> {
    let adapter = |r: u32, rest: &str| format!(r#"{MODEL} m.add_lora(#{{ r: {r}, alpha: {r} }}); {rest}"#);
    let random = |seed: u32, rest: &str| {
        format!(r#"let m = random_model("scripts/tiny", #{{ seed: {seed}, device: "cpu" }}); {rest}"#)
    };
    let case = |name, before, script, targets| Case { name, before, script, targets, may_be_absent: false };
    let train = |r: u32| adapter(r, &format!(r#"{DATA} train(m, d, #{{ steps: 2, batch: 2, out: "run" }});"#));
    let train_all = |lr: &str| {
        format!(r#"{MODEL} m.train_all(); {DATA} train(m, d, #{{ steps: 2, batch: 2, lr: {lr}, out: "run" }});"#)
    };
    vec![
        case(
            "save_adapter",
            adapter(2, r#"m.save_adapter("a");"#),
            adapter(4, r#"m.chat_template = "{{ messages }}"; m.save_adapter("a");"#),
            &["a"],
        ),
        case("save", random(1, r#"m.save("a");"#), random(2, r#"m.save("a");"#), &["a"]),
        case(
            "save_merged",
            adapter(2, r#"m.save_merged("a", #{ max_shard_size: "1MB" });"#),
            adapter(2, r#"m.save_merged("a", #{ dtype: "bf16" });"#),
            &["a"],
        ),
        case(
            "export_gguf",
            adapter(2, r#"m.export_gguf("m.gguf", #{ type: "f32" }); m.export_gguf("a.gguf", #{ what: "adapter" });"#),
            adapter(4, r#"m.export_gguf("m.gguf", #{ type: "f16" }); m.export_gguf("a.gguf", #{ what: "adapter" });"#),
            &["m.gguf", "a.gguf"],
        ),
        case(
            "write_text and write_json",
            r#"write_text("t/a.txt", "old"); write_json("t/b.json", [1, 2]);"#.to_owned(),
            r#"write_text("t/a.txt", "newer"); write_json("t/b.json", #{ a: 1 });"#.to_owned(),
            &["t/a.txt", "t/b.json"],
        ),
        Case { may_be_absent: true, ..case("train", train(2), train(4), &["run/adapter"]) },
        Case { may_be_absent: true, ..case("train_all", train_all("1e-3"), train_all("2e-3"), &["run/model"]) },
    ]
}

fn program(folder: &Path, script: &str) -> Vec<String> {
    std::fs::write(folder.join("case.rhai"), script).unwrap();
    vec![env!("CARGO_BIN_EXE_lorhai").to_owned(), "run".to_owned(), "--quiet".to_owned(), "case.rhai".to_owned()]
}

fn run(folder: &Path, words: &[String]) -> Output {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).current_dir(folder).env("LORHAI_CACHE", folder.join("cache"));
    // Each thread of libtorch would be traced.
    command.env("OMP_NUM_THREADS", "1").env("MKL_NUM_THREADS", "1").stdin(Stdio::null()).output().unwrap()
}

fn run_to_its_end(folder: &Path, script: &str) {
    let output = run(folder, &program(folder, script));
    assert!(output.status.success(), "{script}\n{}", common::program::text(&output));
}

/// Runs a script under strace with `options`.
fn traced(folder: &Path, script: &str, options: &[String]) -> Output {
    // Not every processor has all of them.
    let trace = format!("trace={}", CALLS.map(|call| format!("?{call}")).join(","));
    let words = ["strace", "-f", "-o", "trace.txt", "-e", &trace].map(str::to_owned);
    run(folder, &[&words[..], options, &program(folder, script)].concat())
}

/// What lies at `path`, a file or a folder.
fn content(path: &Path) -> Content {
    fn visit(path: &Path, name: &str, content: &mut Content) {
        match std::fs::read_dir(path) {
            Ok(entries) => {
                for entry in entries.map(Result::unwrap) {
                    visit(&entry.path(), &format!("{name}/{}", entry.file_name().display()), content);
                }
            }
            Err(_) => drop(std::fs::read(path).map(|bytes| content.insert(name.to_owned(), bytes))),
        }
    }
    let mut content = Content::new();
    visit(path, "", &mut content);
    content
}

/// Puts back what lay at `path`, instead of what lies there.
fn restore(path: &Path, content: &Content) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    for (name, bytes) in content {
        let file = if name.is_empty() { path.to_path_buf() } else { path.join(&name[1..]) };
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

fn temporaries(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with(".part-") {
            paths.push(entry.path());
        } else if entry.file_type().unwrap().is_dir() {
            paths.extend(temporaries(&entry.path()));
        }
    }
    paths
}

/// A system call, and how many of its kind the thread that saves has made by then.
type Point = (&'static str, usize);

/// The calls at which to kill, in their order: from the one before the program first touches what it saves.
fn points(folder: &Path, case: &Case, options: &[String]) -> Vec<Point> {
    let output = traced(folder, &case.script, options);
    assert!(output.status.success(), "{}", common::program::text(&output));
    let text = std::fs::read_to_string(folder.join("trace.txt")).unwrap();
    let calls: Vec<(&str, &str, &str)> = text
        .lines()
        .filter_map(|line| {
            let (thread, rest) = line.trim_start().split_once(' ')?;
            let (call, arguments) = rest.trim_start().split_once('(')?;
            Some((thread, call, arguments))
        })
        .collect();
    let first =
        calls.iter().position(|(_, _, arguments)| arguments.contains(".part-") && arguments.contains("O_CREAT"));
    let first = first.expect("the script saves something");
    let saving = calls[first].0;
    let mut made = BTreeMap::new();
    let mut points = Vec::new();
    let mut before = 0;
    for (at, (_, call, arguments)) in calls.iter().enumerate().filter(|(_, (thread, ..))| *thread == saving) {
        let Some(kind) = CALLS.into_iter().find(|kind| kind == call) else { continue };
        let number = made.entry(kind).or_insert(0);
        *number += 1;
        // An existing file that is opened stays as it is.
        if kind != "openat" || arguments.contains("O_CREAT") {
            before += usize::from(at < first);
            points.push((kind, *number));
        }
    }
    points.split_off(before.saturating_sub(1))
}

/// Some of the points, evenly spaced, the first and the last among them; all where that is asked for.
fn sampled(points: Vec<Point>) -> Vec<Point> {
    if std::env::var_os("LORHAI_EVERY_KILL").is_some() {
        return points;
    }
    (0..SAMPLED).map(|at| points[at * (points.len() - 1) / (SAMPLED - 1)]).collect()
}

/// Judges one target after a kill.
fn ensure_whole(
    folder: &Path,
    case: &Case,
    (target, without_exchange): (&str, bool),
    (old, new): (&Content, &Content),
    what: &str,
) -> bool {
    let now = content(&folder.join(target));
    let is_moved = case.may_be_absent && now.is_empty() && content(&folder.join(format!("{target}.previous"))) == *old;
    // Where folders cannot be exchanged, the next run gives the old one its name again.
    let is_between = without_exchange && now.is_empty() && temporaries(folder).iter().any(|path| content(path) == *old);
    let is_moved = is_moved || is_between;
    assert!(
        now == *old || now == *new || is_moved,
        "{what}: `{target}` is neither the old nor the new, but {:?}",
        now.keys()
    );
    now == *new
}

fn killed_at_every_call(case: &Case, options: &[String]) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    link_scripts(folder);
    let contents = || -> Vec<Content> { case.targets.iter().map(|target| content(&folder.join(target))).collect() };
    let put = |contents: &[Content]| {
        for (target, content) in case.targets.iter().zip(contents) {
            let _ = std::fs::remove_dir_all(folder.join(format!("{target}.previous")));
            restore(&folder.join(target), content);
        }
    };
    run_to_its_end(folder, &case.script);
    let new = contents();
    put(&vec![Content::new(); new.len()]);
    run_to_its_end(folder, &case.before);
    let old = contents();
    assert!(new.iter().zip(&old).all(|(new, old)| new != old && !new.is_empty() && !old.is_empty()));
    let points = points(folder, case, options);
    assert!(contents() == new, "{}: the same script saves the same bytes", case.name);
    let (all, tried) = (points.len(), sampled(points));
    let (mut kills, mut kept, mut replaced) = (0, 0, 0);
    for (call, number) in tried {
        let what = format!("{}, killed at {call} {number}", case.name);
        put(&old);
        let kill = format!("inject={call}:signal=KILL:when={number}");
        let output = traced(folder, &case.script, &[options, &["-e".to_owned(), kill]].concat());
        // strace ends as the program did; a run that another thread's calls shortened is at its end.
        if output.status.signal().is_none() && output.status.code() != Some(137) {
            assert!(output.status.success(), "{what}: {}", common::program::text(&output));
            continue;
        }
        kills += 1;
        let whole = case.targets.iter().zip(old.iter().zip(&new));
        let are_new = whole
            .map(|(target, (old, new))| ensure_whole(folder, case, (target, !options.is_empty()), (old, new), &what));
        if are_new.fold(true, |all, is_new| all & is_new) {
            replaced += 1;
        } else {
            kept += 1;
        }
        run_to_its_end(folder, &case.script);
        assert!(contents() == new, "{what}");
        assert!(temporaries(folder).is_empty(), "{what}");
    }
    println!("{}: killed at {kills} of {all} calls, {kept} left the old, {replaced} the new", case.name);
    assert!(all >= 10 && kills > 2 && kept > 0, "{all} {kills} {kept}");
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

macro_rules! killed {
    ($($test:ident: $name:literal;)*) => {
        $(
            #[test]
            #[ignore = "needs strace"]
            fn $test() {
                needs::strace();
                killed_at_every_call(&case($name), &[]);
            }
        )*
    };
}

killed! {
    save_adapter_is_whole_at_every_kill: "save_adapter";
    save_is_whole_at_every_kill: "save";
    save_merged_is_whole_at_every_kill: "save_merged";
    export_gguf_is_whole_at_every_kill: "export_gguf";
    texts_are_whole_at_every_kill: "write_text and write_json";
    train_is_whole_at_every_kill: "train";
    train_all_is_whole_at_every_kill: "train_all";
}

#[test]
#[ignore = "needs strace"]
fn a_folder_survives_every_kill_where_folders_cannot_be_exchanged() {
    needs::strace();
    killed_at_every_call(&case("save_adapter"), &["-e".to_owned(), "inject=renameat2:error=EINVAL".to_owned()]);
}
