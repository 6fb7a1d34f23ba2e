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
    ["1", "empty"].into_iter().for_each(trains_without_kernels);
}

fn trains_without_kernels(broken: &str) {
    let machine = Machine::new().with("STANDIN_BROKEN_MODULE", broken);
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

/// The modules that were loaded, by their kind, and what `doctor` says of the kernels.
fn modules(machine: &Machine) -> (Vec<String>, String) {
    machine.prints(&two_steps(), &[]);
    let counts = machine.counts();
    let kinds = counts.keys().filter_map(|name| Some(name.strip_prefix("module:")?.to_owned())).collect();
    let doctor = machine.command().arg("doctor").output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("GPU kernels")).unwrap();
    (kinds, line.to_owned())
}

/// Machine code for the GPU where the compiler knows it and the driver takes it, else PTX.
#[test]
fn kernels_are_compiled_for_the_gpu() {
    for (machine, kind, target) in [
        (Machine::new(), "cubin", "for sm_90 by NVRTC 13.0, "),
        (Machine::new().with("STANDIN_CAPABILITY", "12.0"), "cubin", "for sm_120 by"),
        (Machine::new().with("STANDIN_CAPABILITY", "99.0"), "PTX", "for compute_75 by"),
        (Machine::new().with("STANDIN_BROKEN_MODULE", "cubin"), "PTX", "for compute_75 by"),
    ] {
        let (kinds, line) = modules(&machine);
        assert_eq!(kinds, [kind], "{line}");
        assert!(line.contains(target) && line.contains("target/standin/libnvrtc.so.13"), "{line}");
    }
}

/// Compiled kernels are kept; a file that is damaged is written anew.
#[test]
fn kernels_are_compiled_once() {
    let machine = Machine::new();
    let files = || {
        let entries = fs::read_dir(machine.folder.path().join("cache/kernels")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    modules(&machine);
    let written = files();
    assert!(matches!(&written[..], [file] if file.to_str().unwrap().contains("sm_90-")), "{written:?}");
    let image = fs::read(&written[0]).unwrap();
    let time = fs::metadata(&written[0]).unwrap().modified().unwrap();
    modules(&machine);
    assert_eq!((files(), fs::metadata(&written[0]).unwrap().modified().unwrap()), (written.clone(), time));
    fs::write(&written[0], "damaged\0").unwrap();
    let (kinds, line) = modules(&machine);
    assert!(kinds == ["cubin"] && line.contains("sm_90"), "{kinds:?}: {line}");
    assert!(fs::read(&written[0]).unwrap() == image);
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

const SWEEP: &str = r#"
    let model = load_model("scripts/tiny", #{ device: "cuda", dtype: "f32" });
    let data = load_dataset("scripts/tiny/train.jsonl").take(12).tokenize(model, #{ max_length: 32, cache: false });
    let result = sweep(model, data.split(#{ test: 4 }), #{
        grid: #{ rank: [2, 4, 8, 16] }, out: "sweep",
        lora: #{ alpha: 8, dropout: 0.1, target_modules: "all-linear" }, train: #{ steps: 3, batch: 2, lr: 1e-3 },
    });
    for row in result.rows { print(`${row.dir} ${row.train_loss} ${row.eval_loss}`); }"#;

/// Which trials run together changes numbers by rounding.
#[track_caller]
fn same_trials(actual: &str, expected: &str) {
    let (actual, expected): (Vec<_>, Vec<_>) = (actual.lines().collect(), expected.lines().collect());
    assert_eq!(actual.len(), expected.len(), "{actual:?}");
    for (actual, expected) in actual.iter().zip(&expected) {
        let words = actual.split(' ').zip(expected.split(' ')).enumerate();
        for (at, (actual, expected)) in words {
            let number = |word: &str| word.parse::<f64>().unwrap();
            let is_same = match at {
                0 => actual == expected,
                _ => (number(actual) / number(expected) - 1.0).abs() < 1e-5,
            };
            assert!(is_same, "{actual}, expected {expected}");
        }
    }
}

/// Wherever an allocation of a sweep fails, the sweep goes on with fewer trials side by side or names the reason, and
/// run again it has all of its results.
#[test]
fn a_sweep_whose_memory_runs_out_loses_no_trial() {
    let whole = Machine::new();
    let expected = whole.prints(SWEEP, &[]);
    assert_eq!(expected.lines().count(), 4);
    let allocations = whole.counts()["allocations"];
    let mut went_on = 0;
    for eighth in [1, 3, 5, 7] {
        let machine = Machine::new().with("STANDIN_FAILS_AT", allocations * eighth / 8);
        let run = machine.run(SWEEP, &[]);
        println!("{eighth}/8: {:?}\n{}{}", run.code, run.output, run.errors);
        if run.code == Some(0) {
            same_trials(&run.output, &expected);
            went_on += 1;
        } else {
            assert!(run.errors.contains("out of memory"), "{}", run.errors);
        }
        same_trials(&machine.without_switches().prints(SWEEP, &[]), &expected);
    }
    assert!(went_on >= 2, "{went_on} of 4 sweeps went on");
}
