//! Eleven public Python scripts, written again in `scripts/ports/`: each is found to be without a trap by `check`, and
//! runs without a warning.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_scripts, root};
use common::program::text;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Settings that make a port quick, and a file that it leaves.
const PORTS: [(&str, &[&str], &str); 11] = [
    ("alpaca_lora", &["steps=2"], "alpaca/adapter/adapter_model.safetensors"),
    ("axolotl", &["rows=40"], "axolotl/adapter/adapter_model.safetensors"),
    ("causal_lm", &["rows=20"], "causal/predictions.csv"),
    ("chat_notebook", &["steps=2"], "notebook/merged/model.safetensors"),
    ("korean_qlora", &["steps=2"], "korean/adapter/adapter_model.safetensors"),
    ("llama_factory", &["steps=1", "predict=2", "max_samples=40"], "factory/predict.json"),
    ("metamath", &["steps=2", "test=4"], "metamath/result.json"),
    ("peft_sft", &["rows=30"], "sft/adapter/chat_template.jinja"),
    ("pissa", &["steps=1"], "pissa/as_lora/adapter_config.json"),
    ("qlora", &["steps=1", "limit=2"], "qlora/predictions.json"),
    ("without_regret", &["steps=1", "ranks=1,2", "rates=1e-3,3e-3", "batches=2,4"], "regret/batch/report.html"),
];

fn lorhai(folder: &Path, arguments: &[&str]) -> Output {
    common::program::lorhai(folder).args(arguments).output().unwrap()
}

#[test]
fn every_port_is_listed() {
    let entries = std::fs::read_dir(root().join("scripts/ports")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, PORTS.map(|(name, ..)| name));
}

#[test]
fn every_port_runs_without_a_trap_or_a_warning() {
    let folder = folder_with_scripts();
    for (name, settings, left) in PORTS {
        let file = format!("scripts/ports/{name}.rhai");
        let checked = text(&lorhai(folder.path(), &["check", &file]));
        assert!(checked.contains("no problems found"), "{name}: {checked}");
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
        let output = lorhai(folder.path(), &[&["run", &file][..], &settings].concat());
        let said = text(&output);
        assert!(output.status.success(), "{name}: {said}");
        assert!(!said.contains("warning"), "{name}: {said}");
        assert!(folder.path().join("runs/ports").join(left).exists(), "{name} left no {left}: {said}");
    }
}

/// Prompts are built of texts in plain quotes, whose line breaks are line breaks.
#[test]
fn prompts_of_ports_hold_line_breaks() {
    let folder = folder_with_scripts();
    for name in ["alpaca_lora", "korean_qlora"] {
        let said = text(&lorhai(
            folder.path(),
            &["run", "--quiet", &format!("scripts/ports/{name}.rhai"), "--set", "steps=1"],
        ));
        let row = said.lines().find(|line| line.contains("train ")).unwrap();
        assert!(row.contains("\\n│\\n│#│#│#") && !row.contains("\\\\n"), "{name}: {row}");
    }
}
