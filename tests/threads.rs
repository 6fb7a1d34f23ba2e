//! Users choose how many threads compute, by `--threads` or a variable.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{json, Value};
use std::process::{Command, Output};

fn lorhai(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    for name in ["LORHAI_THREADS", "OMP_NUM_THREADS"] {
        command.env_remove(name);
    }
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn line_of_doctor(variables: &[(&str, &str)]) -> String {
    let text = String::from_utf8(lorhai(&["doctor"], variables).stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("CPU threads")).unwrap().trim().to_owned()
}

#[test]
fn doctor_says_how_many_threads_and_why() {
    assert_eq!(line_of_doctor(&[("LORHAI_THREADS", "3")]), "3: LORHAI_THREADS");
    assert_eq!(line_of_doctor(&[("OMP_NUM_THREADS", "1")]), "1: OMP_NUM_THREADS");
    assert_eq!(line_of_doctor(&[("OMP_NUM_THREADS", "1"), ("LORHAI_THREADS", "2")]), "2: LORHAI_THREADS");
    assert!(line_of_doctor(&[]).contains("processors that this process may use"), "{}", line_of_doctor(&[]));
}

/// The run's record has the number.
#[test]
fn a_run_computes_in_as_many_threads_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/tiny");
    let script = folder.path().join("case.rhai");
    let source = format!(
        "let model = load_model({tiny:?});\nmodel.add_lora(#{{ r: 2 }});\n\
         let data = load_dataset(\"{tiny}/train.jsonl\").take(8).tokenize(model, #{{ cache: false }});\n\
         let result = train(model, data, #{{ steps: 2, out: args(#{{ out: \"run\" }}).out }});\nprint(result.train_loss);\n"
    );
    std::fs::write(&script, source).unwrap();
    let run = |out: &str, arguments: &[&str], variables: &[(&str, &str)]| -> (String, Value) {
        let out = folder.path().join(out).display().to_string();
        let (script, set) = (script.display().to_string(), format!("out={out}"));
        let all = [&["run", "--quiet", &script, "--set", &set], arguments].concat();
        let output = lorhai(&all, variables);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let origin = std::fs::read(format!("{out}/origin.json")).unwrap();
        (String::from_utf8(output.stdout).unwrap(), serde_json::from_slice(&origin).unwrap())
    };
    let (_, origin) = run("one", &["--threads", "1"], &[]);
    assert_eq!((&origin["machine"]["threads"], &origin["machine"]["dtype"]), (&json!(1), &json!("f32")));
    let (loss, origin) = run("three", &[], &[("LORHAI_THREADS", "3")]);
    assert_eq!(origin["machine"]["threads"], 3);
    assert!(loss.trim().parse::<f64>().unwrap().is_finite());
}

#[test]
fn numbers_of_threads_that_are_none_are_refused() {
    let refused = lorhai(&["run", "--threads", "0", "case.rhai"], &[]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("expected a number of threads from 1 to 1024, found \"0\""), "{message}");
    let refused = lorhai(&["run", "case.rhai"], &[("LORHAI_THREADS", "many")]);
    let message = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("LORHAI_THREADS: expected a number of threads") && message.contains("many"), "{message}");
    let doctor = lorhai(&["doctor"], &[("LORHAI_THREADS", "0")]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("problem: threads: LORHAI_THREADS"));
}
