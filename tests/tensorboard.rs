//! A sweep's event files in the real TensorBoard: its reader and its server show the values of
//! `metrics.jsonl` and the settings of `config.json`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_script, golden};
use common::needs::python;
use common::program::lorhai;
use std::process::Command;

const SCRIPT: &str = r#"
let base = load_model("scripts/tiny", #{ dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(40).tokenize(base, #{ max_length: 64 }).split(#{ test: 8 });
sweep(base, data, #{ grid: #{ rank: [2, 4] }, charts: false, out: "out",
    train: #{ steps: 12, log_every: 1, batch: 2, eval_every: 4, schedule: "cosine" } });
"#;

#[test]
#[ignore = "needs tensorboard: set TENSORBOARD_PYTHON"]
fn a_sweep_opens_in_tensorboard_with_its_curves_and_settings() {
    let (python, folder) = (python("TENSORBOARD_PYTHON"), folder_with_script(SCRIPT));
    assert!(lorhai(folder.path()).args(["run", "--quiet", "case.rhai"]).status().unwrap().success());
    let check = golden("tensorboard/check_sweep.py");
    let told = Command::new(python).arg(check).arg(folder.path().join("out")).output().unwrap();
    let (output, errors) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success() && output.contains("ok: TensorBoard shows 2 trials"), "{output}{errors}");
}
