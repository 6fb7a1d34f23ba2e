//! Frozen matrices packed for the CPU: products, losses and runs as without, and no copy that is out of date.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "packed/models.rs"]
mod models;
#[path = "packed/products.rs"]
mod products;

use common::files::{read_json, tiny_folder};
use common::program::{finished, lorhai};

const SCRIPT: &str = r#"
let model = load_model("TINY", #{ dtype: "f32" });
print(model.generate("The", #{ max_new_tokens: 40 }));
let data = load_dataset("TINY/train.jsonl").take(24).tokenize(model, #{ cache: false }).split(#{ test: 8 });
let result = sweep(model, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: 4, batch: 4 }, out: "runs/ranks" });
model.add_lora(#{ r: 4 });
train(model, data, #{ steps: 4, batch: 4, lr: 1e-3, log_every: 1, out: "runs/single" });
"#;

/// The run's record has the choice, and a repetition of the run has the same bits.
#[test]
fn the_variable_chooses_and_the_record_has_the_choice() {
    let outputs: Vec<(String, Vec<f64>)> = ["0", "1"]
        .iter()
        .map(|variable| {
            let folder = tempfile::tempdir().unwrap();
            let source = SCRIPT.replace("TINY", tiny_folder().to_str().unwrap());
            std::fs::write(folder.path().join("case.rhai"), source).unwrap();
            let command = |arguments: &[&str]| {
                let mut command = lorhai(folder.path());
                finished(command.env("LORHAI_PACKED_WEIGHTS", variable).args(arguments))
            };
            let ran = command(&["run", "--quiet", "case.rhai"]);
            assert_eq!(ran.code, Some(0), "{}", ran.errors);
            let origin = read_json(folder.path().join("runs/single/origin.json"));
            let expected = if *variable == "1" { "f32, packed for the CPU" } else { "f32" };
            assert_eq!(origin["machine"]["dtype"], expected);
            let again = command(&["replay", "runs/single"]);
            assert_eq!(again.code, Some(0), "{}{}", again.output, again.errors);
            let log = std::fs::read_to_string(folder.path().join("runs/single/metrics.jsonl")).unwrap();
            let rows = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            (ran.output, rows.filter_map(|row| row["loss"].as_f64()).collect())
        })
        .collect();
    let [(text, losses), (packed_text, packed_losses)] = &outputs[..] else { panic!() };
    assert_eq!(text, packed_text);
    assert_eq!((losses.len(), packed_losses.len()), (4, 4));
    assert!(losses.iter().zip(packed_losses).all(|(loss, packed)| (loss - packed).abs() < 1e-4 * loss));
}

#[test]
fn doctor_says_what_is_packed_and_another_value_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |variable: &str| finished(lorhai(folder.path()).env("LORHAI_PACKED_WEIGHTS", variable).arg("doctor"));
    assert!(doctor("0").output.contains("packed weights     none: "), "{}", doctor("0").output);
    if cfg!(target_arch = "x86_64") {
        let forced = doctor("1").output;
        assert!(forced.contains("packed weights     all that can be: LORHAI_PACKED_WEIGHTS"), "{forced}");
    }
    let refused = doctor("yes");
    assert!(
        refused.output.contains("problem: LORHAI_PACKED_WEIGHTS: expected 0 or 1, found \"yes\""),
        "{}",
        refused.output
    );
}
