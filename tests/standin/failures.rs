//! What fails on a GPU that is used: kernels that do not load, memory that runs out, too little capability. And two of
//! them in one program.

use super::gpu::{Machine, TRAINING};
use std::fs;

const TWO_STEPS: &str = r#"
let cfg = args(#{ device: "cuda" });
train_as("x", #{ device: cfg.device, dtype: "f32" }, #{}, #{}, #{ steps: 2, batch: 2 }, #{});
"#;

fn two_steps() -> String {
    format!("{TRAINING}{TWO_STEPS}")
}

/// The losses, which are the third word of each line.
fn losses(text: &str) -> Vec<f64> {
    text.lines().map(|line| line.split(' ').nth(2).unwrap().parse().unwrap()).collect()
}

#[track_caller]
fn close(actual: &str, expected: &str) {
    let (actual, expected) = (losses(actual), losses(expected));
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(&expected) {
        assert!((actual - expected).abs() <= 1e-6 * expected, "{actual}, expected {expected}");
    }
}

#[test]
fn kernels_that_do_not_load_are_not_needed() {
    let machine = Machine::new().with("STANDIN_BROKEN_MODULE", 1);
    let expected = machine.prints(&two_steps(), &["device=cpu"]);
    let run = machine.run(&two_steps(), &[]);
    assert_eq!(run.code, Some(0), "{}", run.errors);
    close(&run.output, &expected);
    let notes: Vec<&str> = run.errors.lines().filter(|line| line.starts_with("note: the GPU")).collect();
    assert!(matches!(notes[..], [note] if note.contains("without lorhai's own kernels")), "{}", run.errors);
    assert!(!machine.counts().keys().any(|name| name.contains("kernel ")), "{:?}", machine.counts());
    let doctor = machine.command().arg("doctor").output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("slower than it could"), "{doctor:?}");
}

#[test]
fn a_gpu_without_bf16_takes_f16() {
    let script = r#"print(load_model("scripts/tiny").dtype);"#;
    for (capability, dtype) in [("7.5", "f16\n"), ("8.0", "bf16\n"), ("12.0", "bf16\n")] {
        assert_eq!(Machine::new().with("STANDIN_CAPABILITY", capability).prints(script, &[]), dtype);
    }
}

#[test]
fn flash_attention_is_for_gpus_that_have_it() {
    let script = format!(
        "{TRAINING}train_as(\"x\", #{{ device: \"cuda\", dtype: \"bf16\" }}, #{{}}, #{{}}, #{{ steps: 1 }}, #{{}});"
    );
    for (capability, has_flash) in [("7.5", false), ("8.6", true)] {
        let machine = Machine::new().with("STANDIN_CAPABILITY", capability);
        machine.prints(&script, &[]);
        assert_eq!(machine.counts().contains_key("operation:flash attention"), has_flash);
    }
}

#[test]
fn two_gpus_train_in_one_program() {
    let machine = Machine::new().with("STANDIN_GPUS", 2);
    let expected = machine.prints(&two_steps(), &["device=cuda"]);
    assert_eq!(machine.prints(&two_steps(), &["device=cuda:1"]), expected);
    let both = format!(
        r#"{TRAINING}
        for device in ["cuda:1", "cuda:0", "cuda:1"] {{
            train_as("x", #{{ device: device, dtype: "f32" }}, #{{}}, #{{}}, #{{ steps: 2, batch: 2 }}, #{{}});
        }}"#
    );
    assert_eq!(machine.prints(&both, &[]), expected.repeat(3));
    let text = String::from_utf8(machine.command().arg("doctor").output().unwrap().stdout).unwrap();
    let gpus: Vec<&str> = text.lines().filter(|line| line.starts_with("GPU cuda:")).collect();
    assert!(matches!(gpus[..], [a, b] if a.contains("Stand-in A") && b.contains("Stand-in B")), "{text}");
}

/// A run whose memory runs out on the way keeps its checkpoints, and goes on from them to the same end.
#[test]
fn memory_that_runs_out_loses_nothing() {
    let script = format!(
        r#"{TRAINING}
        let place = #{{ device: "cuda", dtype: "f32" }};
        let model = train_as("x", place, #{{}}, #{{}}, #{{ steps: 6, batch: 1, out: "run", save_every: 1 }}, #{{}});"#
    );
    let whole = Machine::new();
    let expected = whole.prints(&script, &[]);
    let allocations = whole.counts()["allocations"];
    let cut = Machine::new().with("STANDIN_FAILS_AT", allocations * 3 / 4);
    let run = cut.run(&script, &[]);
    assert_eq!(run.code, Some(1), "{}", run.output);
    assert!(run.errors.contains("out of memory") && run.errors.contains("smaller batch"), "{}", run.errors);
    let done = run.output.lines().count();
    assert!((1..6).contains(&done), "{}", run.output);
    // The same folder, with memory enough.
    let again = cut.without_switches();
    let rest = again.prints(&script, &[]);
    assert_eq!(format!("{}{rest}", run.output), expected);
    let adapter = |machine: &Machine| fs::read(machine.folder.path().join("run/adapter/adapter_model.safetensors"));
    assert!(adapter(&again).unwrap() == adapter(&whole).unwrap(), "the adapters differ");
}
