//! `lorhai run --dry-run`: every script rehearses in little time and leaves nothing; what is told is what a run
//! does; what would fail late fails at once, in the same words.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_scripts, root};
use common::program::lorhai;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};

/// Seconds of processor time: three times what the longest takes, and far less than the runs themselves.
const LONGEST: f64 = 45.0;

/// A folder to run in, where `scripts` leads to the real ones, and one for temporary files.
struct Place {
    folder: tempfile::TempDir,
    temporary: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: folder_with_scripts(), temporary: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = lorhai(self.folder.path());
        command.arg("run").args(arguments).env("TMPDIR", self.temporary.path());
        command
    }

    /// As [`Self::run`], with the seconds of processor time that it took.
    // `wait4` below waits for the child.
    #[allow(clippy::zombie_processes)]
    fn timed(&self, arguments: &[&str]) -> (Output, f64) {
        use std::os::unix::process::ExitStatusExt;
        let logs = tempfile::tempdir().unwrap();
        let (out, err) = (logs.path().join("out"), logs.path().join("err"));
        let mut command = self.command(arguments);
        command.stdout(Stdio::from(fs::File::create(&out).unwrap()));
        command.stderr(Stdio::from(fs::File::create(&err).unwrap()));
        let child = command.spawn().unwrap();
        let mut status = 0;
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: waits for a child that nobody else waits for, and fills two places of ours.
        let usage = unsafe {
            assert_eq!(libc::wait4(child.id() as i32, &mut status, 0, usage.as_mut_ptr()), child.id() as i32);
            usage.assume_init()
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        let taken = seconds(usage.ru_utime) + seconds(usage.ru_stime);
        let status = ExitStatus::from_raw(status);
        (Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() }, taken)
    }

    /// Writes the script and runs it, rehearsed or truly.
    fn run_text(&self, text: &str, more: &[&str]) -> Output {
        fs::write(self.path("x.rhai"), format!("// A script.\n{text}")).unwrap();
        let found = self.run(&[&["x.rhai", "--quiet"], more].concat());
        fs::remove_file(self.path("x.rhai")).unwrap();
        found
    }

    /// Every file below the folder with its bytes, the scripts left out.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.symlink_metadata().unwrap() {
                    kind if kind.is_symlink() => {}
                    kind if kind.is_dir() => {
                        found.insert(path.clone(), Vec::new());
                        folders.push(path);
                    }
                    _ => drop(found.insert(path.clone(), fs::read(&path).unwrap())),
                }
            }
        }
        found
    }

    fn leaves_no_temporary_file(&self) -> bool {
        fs::read_dir(self.temporary.path()).unwrap().count() == 0
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const DATA: &str = r#"
let base = load_model("scripts/tiny");
let data = load_dataset("scripts/tiny/train.jsonl").take(60).tokenize(base, #{ max_length: 64 }).split(#{ test: 0.2 });
"#;

/// A sweep over ranks and seeds, of trials that take no time.
fn small_sweep(ranks: &str) -> String {
    format!(
        r#"{DATA}let result = sweep(base, data, #{{ grid: #{{ rank: {ranks}, seed: 2 }}, out: "runs/s",
            lora: #{{ alpha: |p| 2 * p.rank }}, train: #{{ steps: 7, batch: 4, lr: 1e-3 }} }});
"#
    )
}

#[test]
fn every_script_rehearses_in_little_time_and_leaves_nothing() {
    let mut failed = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(root().join("scripts")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // e2e needs files that are not shipped.
        if !name.ends_with(".rhai") || name == "e2e.rhai" {
            continue;
        }
        let place = Place::new();
        let (output, took) = place.timed(&["--dry-run", &format!("scripts/{name}")]);
        let told = out(&output).contains(&format!("rehearsal of scripts/{name}: nothing was trained or written"));
        let nothing_left = place.files().is_empty() && place.leaves_no_temporary_file();
        if !(output.status.success() && told && nothing_left && took < LONGEST) {
            let left: Vec<PathBuf> = place.files().into_keys().collect();
            failed.push(format!("{name}: {took} s, left {left:?}\n{}{}", out(&output), err(&output)));
        }
        count += 1;
    }
    assert!(count > 10 && failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn what_is_told_is_what_a_run_does() {
    let script = format!(
        r#"{}
let model = load_model("scripts/tiny");
model.add_lora(#{{ r: 4, target_modules: "all-linear" }});
let run = train(model, data, #{{ epochs: 1.5, batch: 5, accumulation: 2, eval_every: 2, keep_best: true, out: "runs/t" }});
print([run.steps, run.tokens, model.trainable_parameters, data.train.tokens]);
print(result.rows.map(|row| [row.rank, row.seed, row.tokens, row.trainable_params, row.status, row.dir]));
print(result.trained);
"#,
        small_sweep("[2, 4]")
    );
    let place = Place::new();
    let rehearsed = place.run_text(&script, &["--dry-run"]);
    assert!(rehearsed.status.success() && place.files().is_empty(), "{}{}", out(&rehearsed), err(&rehearsed));
    let truly = place.run_text(&script, &[]);
    assert!(truly.status.success(), "{}", err(&truly));
    let (printed, summary) =
        out(&rehearsed).split_once("\n\nrehearsal of x.rhai").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(printed, out(&truly).trim_end());
    // The numbers of the table are those that were printed, and the files those that the run wrote.
    let first: Vec<u64> = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
    let line = summary.lines().find(|line| line.starts_with("train, runs/t")).unwrap();
    let cells: Vec<String> = line.split_whitespace().skip(2).map(|cell| cell.replace(',', "")).collect();
    assert_eq!(cells[..4], ["1".to_owned(), first[0].to_string(), first[1].to_string(), first[2].to_string()]);
    for folder in ["runs/s", "runs/t"] {
        let files =
            place.files().iter().filter(|(path, _)| path.is_file() && path.starts_with(place.path(folder))).count();
        assert!(summary.contains(&format!("  {folder}/ ({files} files")), "expected {files} in {folder}:\n{summary}");
    }
}

#[test]
fn what_would_fail_late_fails_at_once_in_the_same_words() {
    let late = [
        ("best", r#"print(result.best("no_such_metric"));"#),
        ("no such column", r#"for row in result.rows { print(row.rnak); }"#),
        ("parent is a file", r#"write_json("file/best.json", result.best_trial("eval_loss"));"#),
        ("target is a folder", r#"result.chart(#{}).save("folder.svg");"#),
        ("another chart", r#"result.chart(#{ x: "rnak" }).save("runs/x.svg");"#),
        ("adapter that is not there", r#"base.load_adapter("runs/s/rank-8_seed-0/adapter");"#),
        ("folder of someone else", r#"base.add_lora(#{ r: 2 }); base.save_merged("folder.svg");"#),
        ("sweep of someone else", r#"sweep(base, data, #{ grid: #{ rank: [2] }, out: "folder.svg" });"#),
        ("training", r#"base.add_lora(#{ r: 2 }); train(base, data, #{ steps: 4, early_stopping: 2 });"#),
    ];
    for (what, last) in late {
        let place = Place::new();
        fs::write(place.path("file"), "x").unwrap();
        fs::create_dir(place.path("folder.svg")).unwrap();
        fs::write(place.path("folder.svg/mine"), "x").unwrap();
        let before = place.files();
        let script = format!("{}{last}", small_sweep("[2]"));
        let rehearsed = place.run_text(&script, &["--dry-run"]);
        assert_eq!(rehearsed.status.code(), Some(1), "{what}\n{}", out(&rehearsed));
        assert!(place.files() == before && place.leaves_no_temporary_file(), "{what}");
        let truly = place.run_text(&script, &[]);
        assert_eq!(err(&rehearsed), err(&truly), "{what}");
    }
}

#[test]
fn a_trial_that_would_fail_is_named() {
    let script = r#"
let base = load_model("scripts/tiny", #{ load_in_4bit: true });
let data = load_dataset("scripts/tiny/train.jsonl").take(20).tokenize(base, #{}).split(#{ test: 0.2 });
let result = sweep(base, data, #{ grid: #{ init: [true, "pissa"], seed: 2 }, train: #{ steps: 3 }, out: "runs/s" });
print(result.rows.map(|row| row.status));
"#;
    let place = Place::new();
    let output = place.run_text(script, &["--dry-run"]);
    assert_eq!(output.status.code(), Some(1));
    let text = out(&output);
    assert!(text.starts_with(r#"["finished", "finished", "failed", "failed"]"#), "{text}");
    assert!(text.contains("init=pissa would fail: ") && text.contains("PiSSA and OLoRA"), "{text}");
    assert!(err(&output).contains("2 trials would fail"), "{}", err(&output));
}

#[test]
fn what_was_written_is_read_again() {
    let script = format!(
        r#"{}
write_json("runs/a/point.json", #{{ x: read_text("scripts/tiny/config.json").len() }});
if read_json("runs/a/point.json").x < 10 {{ throw "too short"; }}
if open_sweep("runs/s").rows.len() != 4 {{ throw "rows"; }}
base.load_adapter("runs/s/" + result.best_trial("eval_loss").dir + "/adapter");
run_chart(["runs/s/" + result.rows[3].dir], #{{}}).save("runs/a/loss.png");
base.save_merged("runs/a/merged");
load_model("runs/a/merged").save("runs/a/copy");
write_text("runs/a/rows.jsonl", "{{\"text\": \"one\"}}\n");
if load_dataset("./runs/a/../a/rows.jsonl").len != 1 {{ throw "row"; }}
let answers = base.generate(["a", "b", "c"], #{{ max_new_tokens: 40 }});
if answers.len() != 3 {{ throw "answers"; }}
print("to the end");
"#,
        small_sweep("[2, 4]")
    );
    let place = Place::new();
    let output = place.run_text(&script, &["--dry-run"]);
    let text = out(&output);
    assert!(output.status.success() && text.contains("to the end\n"), "{text}{}", err(&output));
    assert!(text.contains("  runs/a/merged/ (") && text.contains("  runs/a/loss.png\n"), "{text}");
    assert!(place.files().is_empty() && place.leaves_no_temporary_file());
    let there = text.contains(&place.temporary.path().display().to_string());
    assert!(!there, "a name of the rehearsal's own shows:\n{text}");
}

#[test]
fn finished_trials_are_counted_and_stay_as_they_are() {
    let place = Place::new();
    let truly = place.run_text(&small_sweep("[2]"), &[]);
    assert!(truly.status.success(), "{}", err(&truly));
    let before = place.files();
    let script = format!("{}print(result.trained); print(result.rows.len());", small_sweep("[2, 4]"));
    let output = place.run_text(&script, &["--dry-run"]);
    let text = out(&output);
    assert!(output.status.success() && text.starts_with("2\n4\n"), "{text}{}", err(&output));
    assert!(text.contains("runs/s: 2 trials are finished already"), "{text}");
    assert!(!text.contains("rank=2") && text.contains("rank=4"), "{text}");
    assert!(place.files() == before);
}

#[test]
fn of_many_rows_some_stand_for_all() {
    let place = Place::new();
    let rows: String =
        (0..5000).map(|row| format!("{{\"text\": \"a small fox {}\"}}\n", "sees a bird ".repeat(row % 5))).collect();
    fs::write(place.path("rows.jsonl"), rows).unwrap();
    let script = r#"
let model = load_model("scripts/tiny");
model.add_lora(#{ r: 2 });
let data = load_dataset("rows.jsonl").tokenize(model, #{ audit: false });
print([data.len, data.tokens]);
print(train(model, data, #{ epochs: 1, batch: 8 }).steps);
"#;
    let numbers = |output: &Output| -> (Vec<u64>, u64) {
        let text = out(output);
        let mut lines = text.lines();
        (serde_json::from_str(lines.next().unwrap()).unwrap(), lines.next().unwrap().parse().unwrap())
    };
    let rehearsed = place.run_text(script, &["--dry-run"]);
    assert!(out(&rehearsed).contains("tokenized 4,096 of 5,000 rows"), "{}{}", out(&rehearsed), err(&rehearsed));
    let truly = place.run_text(&script.replace("epochs: 1", "steps: 1"), &[]);
    let ((rehearsed, steps), (truly, _)) = (numbers(&rehearsed), numbers(&truly));
    assert_eq!((rehearsed[0], steps), (truly[0], 625));
    let error = rehearsed[1] as f64 / truly[1] as f64 - 1.0;
    assert!(error.abs() < 0.01, "{} tokens were estimated, {} are true", rehearsed[1], truly[1]);
}

/// A run and a sweep that were killed.
#[test]
fn what_a_run_would_go_on_from_is_told_and_a_refusal_too() {
    let place = Place::new();
    let train = |options: &str| {
        format!(
            "{DATA}base.add_lora(#{{ r: 2 }});
train(base, data, #{{ steps: 600, batch: 1, save_every: 2, out: \"runs/r\"{options} }});"
        )
    };
    let sweep = |rate: &str| {
        format!(
            "{DATA}sweep(base, data, #{{ grid: #{{ rank: [2], seed: 2 }}, out: \"runs/s\", save_every: 2,
train: #{{ steps: 600, batch: 1, lr: {rate} }} }});"
        )
    };
    for (script, folder) in [(train(""), "runs/r"), (sweep("1e-3"), "runs/s/checkpoints")] {
        fs::write(place.path("case.rhai"), &script).unwrap();
        let mut child = place.command(&["case.rhai"]).stderr(Stdio::null()).spawn().unwrap();
        while !has_checkpoint(&place.path(folder)) {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // The true run leaves its number in the lock.
    let truly = place.run_text(&train(", lr: 7e-4"), &[]);
    fs::remove_file(place.path("case.rhai")).unwrap();
    let before = place.files();
    let told = place.run_text(&train(""), &["--dry-run"]);
    assert!(told.status.success() && out(&told).contains("runs/r: goes on from step "), "{}{}", out(&told), err(&told));
    let refused = place.run_text(&train(", lr: 7e-4"), &["--dry-run"]);
    for output in [&refused, &truly] {
        assert!(
            !output.status.success() && err(output).contains("train.optimizer.lr: 0.0002 → 0.0007"),
            "{}",
            err(output)
        );
    }
    assert_eq!(err(&refused), err(&truly));
    let rehearsed = |script: &str| {
        fs::write(place.path("case.rhai"), script).unwrap();
        let output = place.run(&["case.rhai", "--dry-run"]);
        fs::remove_file(place.path("case.rhai")).unwrap();
        output
    };
    let told = rehearsed(&sweep("1e-3"));
    assert!(told.status.success() && err(&told).contains(": going on from step "), "{}{}", out(&told), err(&told));
    let told = rehearsed(&sweep("2e-3"));
    assert!(told.status.success() && err(&told).contains("the settings changed"), "{}{}", out(&told), err(&told));
    assert!(place.files() == before, "a rehearsal changes nothing");
}

fn has_checkpoint(folder: &std::path::Path) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("checkpoint-") || (path.is_dir() && !name.starts_with('.') && has_checkpoint(&path))
    })
}
