//! A sweep's event files in the real TensorBoard: its reader and its server show the values of
//! `metrics.jsonl` and the settings of `config.json`.
//!
//! Skipped unless `TENSORBOARD_PYTHON` names a Python that has tensorboard.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

const SCRIPT: &str = r#"
let base = load_model("scripts/tiny", #{ dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(40).tokenize(base, #{ max_length: 64 }).split(#{ test: 8 });
sweep(base, data, #{ grid: #{ rank: [2, 4] }, charts: false, out: "out",
    train: #{ steps: 12, log_every: 1, batch: 2, eval_every: 4, schedule: "cosine" } });
"#;

#[test]
fn a_sweep_opens_in_tensorboard_with_its_curves_and_settings() {
    let Some(python) = std::env::var_os("TENSORBOARD_PYTHON") else {
        println!("skipped: TENSORBOARD_PYTHON names no Python with tensorboard");
        return;
    };
    let (root, folder) = (Path::new(env!("CARGO_MANIFEST_DIR")), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink(root.join("scripts"), folder.path().join("scripts")).unwrap();
    std::fs::write(folder.path().join("case.rhai"), SCRIPT).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    program.args(["run", "--quiet", "case.rhai"]).current_dir(&folder).env("LORHAI_CACHE", folder.path().join("cache"));
    assert!(program.status().unwrap().success());
    let check = root.join("tests/golden/tensorboard/check_sweep.py");
    let told = Command::new(python).arg(check).arg(folder.path().join("out")).output().unwrap();
    let (output, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success() && output.contains("ok: TensorBoard shows 2 trials"), "{output}{errors}");
}
