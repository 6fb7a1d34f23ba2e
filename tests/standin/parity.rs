//! The same runs on the CPU and on the stand-in: losses, norms of gradients, texts.

use super::gpu::{Machine, TRAINING};

/// f32 against f32, in another order of sums; AdamW keeps the differences of a few steps small.
const F32: f64 = 1e-6;
const F32_NORM: f64 = 1e-4;
/// bf16 rounds activations, at other places on each side.
const BF16: f64 = 2e-3;
const BF16_NORM: f64 = 2e-2;

const VARIANTS: &str = include_str!("variants.rhai");

/// The numbers of a line of the script, by "name step".
fn lines(text: &str) -> Vec<(String, f64, f64)> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, step, loss, norm] = words[..] else { panic!("{line}") };
        (format!("{name} {step}"), loss.parse().unwrap(), norm.parse().unwrap())
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn agree(actual: &str, expected: &str, loss_bound: f64, norm_bound: f64) {
    let (actual, expected) = (lines(actual), lines(expected));
    assert_eq!(actual.len(), expected.len());
    let off = |a: f64, b: f64| (a - b).abs() / b.abs();
    for ((name, loss, norm), (same, expected_loss, expected_norm)) in actual.iter().zip(&expected) {
        assert_eq!(name, same);
        let (loss_off, norm_off) = (off(*loss, *expected_loss), off(*norm, *expected_norm));
        println!("{name:<20} loss {loss:.6} off by {loss_off:.1e}, norm {norm:.4} off by {norm_off:.1e}");
        assert!(loss_off <= loss_bound, "{name}: loss {loss}, expected {expected_loss}");
        assert!(norm_off <= norm_bound, "{name}: norm {norm}, expected {expected_norm}");
    }
}

fn variants(dtype: &str, loss_bound: f64, norm_bound: f64) -> Machine {
    let (script, dtype) = (format!("{TRAINING}{VARIANTS}"), format!("dtype={dtype}"));
    let machine = Machine::new();
    let expected = machine.prints(&script, &["device=cpu", &dtype]);
    let actual = machine.prints(&script, &["device=cuda", &dtype]);
    agree(&actual, &expected, loss_bound, norm_bound);
    machine
}

const SWEEP: &str = r#"
let cfg = args(#{ device: "cpu" });
let model = load_model("scripts/tiny", #{ device: cfg.device, dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(16).tokenize(model, #{ max_length: 32, cache: false });
let result = sweep(model, data.split(#{ test: 4 }), #{
    grid: #{ rank: [2, 4, 8], use_dora: [false, true] }, out: cfg.device,
    lora: #{ alpha: 8, dropout: 0.1, target_modules: "all-linear" }, train: #{ steps: 2, batch: 2, lr: 1e-3 },
});
for row in result.rows { print(`${row.dir} 2 ${row.train_loss} ${row.eval_loss}`); }
"#;

/// Six trials side by side, with evaluation on held-out rows in place of the norm.
#[test]
fn a_sweep_is_that_of_the_cpu() {
    let machine = Machine::new();
    let expected = machine.prints(SWEEP, &["device=cpu"]);
    assert_eq!(expected.lines().count(), 6);
    agree(&machine.prints(SWEEP, &["device=cuda"]), &expected, F32, F32);
}

const DIVERGING: &str = r#"
let cfg = args(#{ device: "cpu" });
let model = load_model("scripts/tiny", #{ device: cfg.device, dtype: "f32" });
let data = load_dataset("scripts/tiny/train.jsonl").take(16).tokenize(model, #{ max_length: 32, cache: false });
let result = sweep(model, data.split(#{ test: 4 }), #{
    grid: #{ lr: [1e30, 1e-3] }, out: `diverging-${cfg.device}`,
    lora: #{ r: 4, target_modules: "all-linear" }, train: #{ steps: 4, batch: 2 },
});
for row in result.rows { if row.status == "finished" { print(`${row.dir} 4 ${row.train_loss} ${row.eval_loss}`); } }
"#;

/// Computed together, the values of one run times 0 would reach the others.
#[test]
fn a_run_that_diverges_leaves_the_others_alone() {
    let machine = Machine::new();
    let run = |device: &str| {
        let run = machine.run(DIVERGING, &[device]);
        assert!(run.errors.contains("lr=1e30: failed: step 2: the loss is NaN"), "{}", run.errors);
        assert_eq!(run.output.lines().count(), 1, "{}", run.output);
        run.output
    };
    agree(&run("device=cuda"), &run("device=cpu"), F32, F32);
}

/// Greedy and drawn texts, alone and in a batch, from the base and from an adapter.
#[test]
fn texts_are_those_of_the_cpu() {
    let script = format!(
        r#"{TRAINING}
        let cfg = args(#{{ device: "cpu" }});
        let model = train_as("x", #{{ device: cfg.device, dtype: "f32" }}, #{{}}, #{{}}, #{{ steps: 1 }}, #{{}});
        let prompts = ["the small", "a red fox and"];
        print(model.generate(prompts, #{{ max_new_tokens: 6 }}));
        print(model.generate("Repeat: the small fox", #{{ chat: true, max_new_tokens: 6, do_sample: true, seed: 3 }}));
        model.disable_adapters();
        print(model.generate(prompts, #{{ max_new_tokens: 6, repetition_penalty: 1.2, batch: 1 }}));"#
    );
    let machine = Machine::new();
    let texts = |device: &str| {
        let text = machine.prints(&script, &[device]);
        text.split_once('\n').unwrap().1.to_owned()
    };
    let expected = texts("device=cpu");
    assert!(expected.len() > 60, "{expected}");
    assert_eq!(texts("device=cuda"), expected);
}

const MEMORY: &str = r#"
let cfg = args(#{ dtype: "bf16" });
let model = load_model("scripts/tiny", #{ device: "cuda", dtype: cfg.dtype });
for dropout in [0.0, 0.1] {
    for rows in [1, 4] {
        model.add_lora(#{ name: `${dropout} ${rows}`, r: 8, target_modules: "all-linear", dropout: dropout });
        print(check_memory(model, #{ batch_size: rows, max_length: 128 }).error);
    }
}"#;

#[track_caller]
fn plans_agree(machine: &Machine, dtype: &str, bound: f64) {
    // The backward pass frees tensors in a thread of its own: beside other programs a peak can come out otherwise.
    let measured: Vec<String> = (0..3).map(|_| machine.prints(MEMORY, &[&format!("dtype={dtype}")])).collect();
    for step in 0..4 {
        let error = |text: &String| text.lines().nth(step).unwrap().parse::<f64>().unwrap().abs();
        let least = measured.iter().map(error).fold(f64::INFINITY, f64::min);
        assert!(least < bound, "{dtype}: {measured:?}");
    }
}

/// The plan of a step with flash attention, against what tensors hold in one: with our kernels, and with libtorch's
/// operations, which f16 takes.
#[test]
fn memory_plans_are_those_of_the_device() {
    plans_agree(&Machine::new(), "bf16", 0.05);
    plans_agree(&Machine::new(), "f16", 0.1);
}

#[test]
fn variants_in_f32_are_those_of_the_cpu() {
    let counts = variants("f32", F32, F32_NORM).counts();
    assert!(counts["operation:kernel norm_f32"] > 0 && counts["operation:kernel adamw_f32"] > 0, "{counts:?}");
}

#[test]
fn variants_in_bf16_are_those_of_the_cpu() {
    let counts = variants("bf16", BF16, BF16_NORM).counts();
    let flash = counts["operation:flash attention"];
    assert!(flash > 0 && counts["operation:flash attention backward"] > 0, "{counts:?}");
}
