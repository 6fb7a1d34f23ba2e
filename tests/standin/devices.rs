//! Two GPUs: everything on the second of them, without a byte on the first; and which device a script gets.

use super::common::program::finished;
use super::gpu::{Machine, TRAINING};
use std::fs;
use std::io::Write;
use std::process::Stdio;

fn two_gpus() -> Machine {
    Machine::new().with("STANDIN_GPUS", 2)
}

/// What a script that names its device in `args` prints on the first GPU, and on the second. There nothing may be
/// allocated on the first.
#[track_caller]
fn on_each(script: &str) -> (String, String) {
    let machine = two_gpus();
    let first = machine.prints(script, &["device=cuda:0"]);
    let second = machine.prints(script, &["device=cuda:1"]);
    let counts = machine.counts();
    assert!(counts["allocation:cuda:1"] > 0, "{counts:?}");
    assert_eq!(counts.get("allocation:cuda:0"), None, "{counts:?}");
    (first, second)
}

#[test]
fn every_way_to_train_runs_on_the_second_gpu() {
    let script = format!(
        r#"{TRAINING}
        let cfg = args(#{{ device: "" }});
        for dtype in ["f32", "bf16"] {{
            let place = #{{ device: cfg.device, dtype: dtype }};
            train_as("lora", place, #{{}}, #{{}}, #{{ steps: 2, gradient_checkpointing: true }}, #{{}});
            train_as("dora", place, #{{}}, #{{ use_dora: true }}, #{{ steps: 1 }}, #{{}});
            train_as("nf4", place, #{{ load_in_4bit: true }}, #{{}}, #{{ steps: 2 }}, #{{ packing: true }});
        }}
        train_as("pissa", #{{ device: cfg.device }}, #{{}}, #{{ init_lora_weights: "pissa" }}, #{{ steps: 1 }}, #{{}});
        train_as("whole", #{{ device: cfg.device, dtype: "f32" }}, #{{}}, (), #{{ lr: 1e-4, steps: 1 }}, #{{}});"#
    );
    let (first, second) = on_each(&script);
    assert_eq!(first.lines().count(), 12);
    assert_eq!(second, first);
}

#[test]
fn two_processes_train_on_gpus_what_one_does() {
    let machine = two_gpus();
    let script = r#"
        let cfg = args(#{ out: "" });
        let model = load_model("scripts/tiny", #{ device: "cuda", dtype: "f32" });
        model.add_lora(#{ r: 4, dropout: 0.1 });
        let data = load_dataset("scripts/tiny/train.jsonl").take(40).tokenize(model, #{}).split(#{ test: 0.2 });
        let result = train(model, data, #{ steps: 6, batch: 5, out: cfg.out });
        print(`${result.train_loss} ${result.eval_loss}`);"#;
    let one = machine.prints(script, &["out=one"]);
    let mut command = machine.command();
    let two = finished(command.args(["run", "case.rhai", "--processes", "2", "--quiet", "--set", "out=two"]));
    assert_eq!((two.code, two.errors.as_str()), (Some(0), ""));
    let numbers = |text: &str| -> Vec<f64> { text.split_whitespace().map(|number| number.parse().unwrap()).collect() };
    let (one, two) = (numbers(&one), numbers(&two.output));
    assert!(one.len() == 2 && one.iter().zip(&two).all(|(one, two)| (one - two).abs() < 1e-6 * one), "{one:?} {two:?}");
}

#[test]
fn texts_merging_and_memory_on_the_second_gpu() {
    let script = format!(
        r#"{TRAINING}
        let cfg = args(#{{ device: "" }});
        let model = train_as("x", #{{ device: cfg.device, dtype: "f32" }}, #{{}}, #{{}}, #{{ steps: 2 }}, #{{}});
        print(model.generate(["the small", "a red fox and"], #{{ max_new_tokens: 6 }}));
        print(model.generate("the small", #{{ max_new_tokens: 6, do_sample: true, seed: 3 }}));
        print(check_memory(model, #{{ batch_size: 2, max_length: 64 }}).measured);
        model.merge();
        print(model.generate("the small", #{{ max_new_tokens: 6 }}));
        model.unmerge();
        model.save_merged("merged");
        print(load_model("merged", #{{ device: cfg.device, dtype: "f32" }}).generate("the small", #{{ max_new_tokens: 6 }}));
        let x = tensor([[1.0, 2.0], [3.0, 4.0]], #{{ device: cfg.device, requires_grad: true }});
        x.matmul(x).sum().backward();
        print(x.grad.to_array());"#
    );
    let (first, second) = on_each(&script);
    assert!(first.lines().count() >= 8, "{first}");
    assert_eq!(second, first);
}

#[test]
fn a_sweep_on_the_second_gpu() {
    let script = r#"
        let cfg = args(#{ device: "" });
        let model = load_model("scripts/tiny", #{ device: cfg.device, dtype: "f32" });
        let data = load_dataset("scripts/tiny/train.jsonl").take(16).tokenize(model, #{ max_length: 32, cache: false });
        let result = sweep(model, data.split(#{ test: 4 }), #{
            grid: #{ rank: [2, 4], use_dora: [false, true] }, out: cfg.device.sub_string(5),
            lora: #{ alpha: 8, dropout: 0.1, target_modules: "all-linear" }, train: #{ steps: 2, batch: 2, lr: 1e-3 },
        });
        for row in result.rows { print(`${row.dir} ${row.train_loss} ${row.eval_loss}`); }"#;
    let (first, second) = on_each(script);
    assert_eq!(first.lines().count(), 4);
    assert_eq!(second, first);
}

/// Memory runs out on the first GPU; the run goes on from its checkpoint on the second, to the same end.
#[test]
fn a_run_goes_on_on_another_gpu() {
    let script = format!(
        r#"{TRAINING}
        let cfg = args(#{{ device: "cuda" }});
        let place = #{{ device: cfg.device, dtype: "f32" }};
        train_as("x", place, #{{}}, #{{}}, #{{ steps: 5, batch: 1, out: "run", save_every: 1 }}, #{{}});"#
    );
    let whole = two_gpus();
    let expected = whole.prints(&script, &["device=cuda:0"]);
    let fails_at = whole.counts()["allocations"] * 3 / 4;
    let cut = two_gpus().with("STANDIN_FAILS_AT", fails_at);
    let run = cut.run(&script, &["device=cuda:0"]);
    assert_eq!(run.code, Some(1), "{}", run.errors);
    assert!(!run.output.is_empty());
    let again = cut.without_switches().with("STANDIN_GPUS", 2);
    let rest = again.prints(&script, &["device=cuda:1"]);
    assert_eq!(format!("{}{rest}", run.output), expected);
    let adapter = |machine: &Machine| fs::read(machine.folder.path().join("run/adapter/adapter_model.safetensors"));
    assert!(adapter(&again).unwrap() == adapter(&whole).unwrap(), "the adapters differ");
}

const DEVICES: &str = r#"for device in ["auto", "cuda", "cuda:0", "cpu"] {
    print(load_model("scripts/tiny", #{ device: device }).device);
}
print(load_model("scripts/tiny").device);"#;

/// `--device` is for a script that leaves the choice; what a script names stays.
#[test]
fn the_argument_is_the_default_of_a_script() {
    let machine = two_gpus();
    fs::write(machine.folder.path().join("case.rhai"), format!("// A test.\n{DEVICES}")).unwrap();
    let devices = |arguments: &[&str]| {
        let output = machine.command().args(["run", "case.rhai"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(devices(&[]), "cuda:0 cuda:0 cuda:0 cpu cuda:0");
    assert_eq!(devices(&["--device", "auto"]), "cuda:0 cuda:0 cuda:0 cpu cuda:0");
    assert_eq!(devices(&["--device", "cuda:1"]), "cuda:1 cuda:1 cuda:0 cpu cuda:1");
    assert_eq!(devices(&["--device", "cpu"]), "cpu cuda:0 cuda:0 cpu cpu");
}

#[test]
fn the_argument_is_the_default_of_the_prompt() {
    let machine = two_gpus();
    let mut child = machine
        .command()
        .args(["repl", "--device", "cuda:1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"print(load_model(\"scripts/tiny\").device)\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("cuda:1"));
}

#[test]
fn a_device_that_is_not_there_is_refused_before_the_script_runs() {
    let machine = two_gpus();
    fs::write(machine.folder.path().join("case.rhai"), "// A test.\nprint(1);").unwrap();
    for (device, code, expected) in
        [("cuda:2", 1, "this machine has 2 GPU(s)"), ("gpu", 2, "expected \"auto\", \"cpu\", \"cuda\" or \"cuda:N\"")]
    {
        let output = machine.command().args(["run", "case.rhai", "--device", device]).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(code), &b""[..]));
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
    }
}
