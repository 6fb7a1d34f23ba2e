//! Past runs from the command line: listed, shown, compared, reported again.
//!
//! What is said of folders that are no runs is in `mistakes/runs.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::folder_with_script;
use common::program::finished;
use std::path::Path;

/// Two single runs and a sweep of two trials, of which one fails.
const SCRIPT: &str = r#"
let base = load_model("scripts/tiny", #{ dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(40).tokenize(base, #{ max_length: 64 }).split(#{ test: 8 });
let options = #{ rank: [2, 4] };
sweep(base, data, #{ grid: options, train: #{ steps: 4, log_every: 1, batch: 2, eval_every: 2 }, out: "runs/ranks" });
sweep(base, data, #{ grid: #{ lr: [1e-3, 1e38] }, train: #{ steps: 3, batch: 2 }, out: "runs/half", charts: false });
for rank in [2, 4] {
    base.add_lora(#{ r: rank, name: "rank" + rank });
    train(base, data, #{ steps: 4, log_every: 1, batch: 2, lr: 1e-3 * rank, out: "runs/single/rank" + rank });
}
"#;

fn lorhai(folder: &Path, arguments: &[&str]) -> String {
    ended_with(0, folder, arguments)
}

fn ended_with(code: i32, folder: &Path, arguments: &[&str]) -> String {
    let ran = finished(common::program::lorhai(folder).args(arguments));
    assert!(ran.code == Some(code), "{arguments:?}: {}", ran.errors);
    ran.output
}

/// One of its trials fails.
fn run_script(folder: &Path) {
    ended_with(3, folder, &["run", "--quiet", "case.rhai"]);
}

#[test]
fn what_was_run_can_be_looked_at_again() {
    let folder = folder_with_script(SCRIPT);
    let folder = folder.path();
    run_script(folder);
    listed(folder);
    shown(folder);
    compared(folder);
    reported_again(folder);
}

fn listed(folder: &Path) {
    // One that was begun and no more.
    std::fs::create_dir_all(folder.join("runs/begun")).unwrap();
    std::fs::write(folder.join("runs/begun/run.json"), r#"{"settings": {}, "status": "unfinished"}"#).unwrap();
    std::fs::remove_file(folder.join("runs/ranks/rank-4/result.json")).unwrap();
    let text = lorhai(folder, &["runs"]);
    let line =
        |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}\n{text}"));
    assert!(line("runs/begun").contains("unfinished"), "{text}");
    assert!(line("runs/ranks").contains("unfinished (1 of 2 trials)") && line("runs/ranks").contains("eval_loss"));
    assert!(
        line("runs/single/rank2").contains("finished") && line("runs/single/rank2").contains("eval_loss"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 6, "a trial is no line of its own\n{text}");
    run_script(folder);
    let text = lorhai(folder, &["runs", "runs"]);
    assert!(text.contains("finished (2 trials)") && text.contains("finished (2 trials, 1 failed)"), "{text}");
}

fn shown(folder: &Path) {
    let table = lorhai(folder, &["show", "runs/ranks"]);
    assert!(
        table.contains("trainable_params") && table.contains("report.html") && !table.contains("rank-2"),
        "{table}"
    );
    let trial = lorhai(folder, &["show", "runs/ranks/rank-4"]);
    assert!(trial.contains("lora.r ") && trial.contains("eval_perplexity") && trial.contains("adapter/"), "{trial}");
    let single = lorhai(folder, &["show", "runs/single/rank2"]);
    let words: Vec<&str> = single.split_whitespace().collect();
    for pair in [["lora.r", "2"], ["train.optimizer.lr", "0.002"], ["steps", "4"], ["model.name", "scripts/tiny"]] {
        assert!(words.windows(2).any(|two| two == pair), "{pair:?} in\n{single}");
    }
}

fn compared(folder: &Path) {
    let text = lorhai(folder, &["compare", "runs/single/rank2", "runs/single/rank4", "--chart", "both.svg"]);
    let settings: Vec<&str> = text.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    let names: Vec<&str> = settings.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["lora.r", "train.optimizer.lr"], "{text}");
    assert!(text.contains("eval_loss"), "{text}");
    let chart = std::fs::read_to_string(folder.join("both.svg")).unwrap();
    assert!(chart.contains("rank2: training") && chart.contains("rank4: held out"));
    let same = lorhai(folder, &["compare", "runs/single/rank2", "runs/single/rank2"]);
    assert!(same.starts_with("no setting differs\n"), "{same}");
}

/// The page and the charts come out as the sweep itself made them, to the byte.
fn reported_again(folder: &Path) {
    let out = folder.join("runs/ranks");
    let before = std::fs::read(out.join("report.html")).unwrap();
    let chart = std::fs::read(out.join("charts/eval_loss_by_rank.svg")).unwrap();
    let adapter = std::fs::metadata(out.join("rank-2/adapter/adapter_model.safetensors")).unwrap().modified().unwrap();
    std::fs::remove_file(out.join("report.html")).unwrap();
    std::fs::remove_dir_all(out.join("charts")).unwrap();
    let text = lorhai(folder, &["report", "runs/ranks"]);
    assert!(text.contains("runs/ranks/report.html"), "{text}");
    assert!(std::fs::read(out.join("report.html")).unwrap() == before, "the report changed");
    assert!(std::fs::read(out.join("charts/eval_loss_by_rank.svg")).unwrap() == chart, "the chart changed");
    let after = std::fs::metadata(out.join("rank-2/adapter/adapter_model.safetensors")).unwrap().modified().unwrap();
    assert_eq!(after, adapter, "nothing is trained");
    // One that drew no charts and kept nothing for a page.
    lorhai(folder, &["report", "runs/half"]);
    let page = std::fs::read_to_string(folder.join("runs/half/report.html")).unwrap();
    assert!(page.contains("Sweep half"));
}

#[test]
fn the_program_tells_what_it_is_and_helps_shells() {
    let folder = tempfile::tempdir().unwrap();
    let version = lorhai(folder.path(), &["--version"]);
    let expected = format!("lorhai {} (libtorch 2.11.0; ", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&expected) && version.contains(std::env::consts::ARCH), "{version}");
    for (shell, mark) in [("bash", "complete -F"), ("zsh", "#compdef lorhai"), ("fish", "complete -c lorhai")] {
        let script = lorhai(folder.path(), &["completions", shell]);
        assert!(script.contains(mark) && script.contains("compare"), "{shell}\n{script}");
    }
    let help = lorhai(folder.path(), &["--help"]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> =
        commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(names.contains(&"replay") && names.len() >= 10, "{names:?}");
    for name in names {
        let help = lorhai(folder.path(), &[name, "--help"]);
        assert!(help.contains("Example") && help.contains(&format!("\n  lorhai {name}")), "{help}");
    }
    for word in ["check", "compare", "Examples:", "Exit codes:", "LORHAI_CACHE"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
}

#[test]
fn functions_are_told_to_people_and_to_editors() {
    let folder = tempfile::tempdir().unwrap();
    let lorhai = |arguments: &[&str]| lorhai(folder.path(), arguments);
    assert!(lorhai(&["doc"]).contains("\n  lr_schedule     "));
    assert!(lorhai(&["doc", "lr_schedule"]).starts_with("lr_schedule(name: string, options: map) -> Schedule\n"));
    lorhai(&["docs", "--definitions", "l.d.rhai", "--json", "l.json"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing but what was asked for");
    let text = std::fs::read_to_string(folder.path().join("l.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["functions"].as_array().unwrap().len() > 100);
    lorhai(&["docs", "--check", "--definitions", "l.d.rhai"]);
    std::fs::write(folder.path().join("l.d.rhai"), "module static;\n").unwrap();
    let mut command = common::program::lorhai(folder.path());
    command.args(["docs", "--check", "--definitions", "l.d.rhai"]);
    assert_eq!(finished(&mut command).code, Some(1));
}
