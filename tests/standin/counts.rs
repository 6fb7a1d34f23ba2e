//! What a step asks of the device: operations (each of which a GPU would launch), and waits of the host for it.
//!
//! A bound is what was counted when it was set. Lower it where a change needs less.

use super::gpu::{Counts, Machine, TRAINING};

/// The counts of one step, from the difference of runs of 2 and of 4 steps.
fn of_a_step(script: &dyn Fn(i64) -> String) -> Counts {
    let counts = |steps: i64| {
        let machine = Machine::new();
        machine.prints(&script(steps), &[]);
        machine.counts()
    };
    let (few, many) = (counts(2), counts(4));
    let of_one = |(name, count): (&String, &i64)| (name.clone(), (count - few.get(name).copied().unwrap_or(0)) / 2);
    many.iter().map(of_one).filter(|(_, count)| *count != 0).collect()
}

fn single(dtype: &'static str) -> impl Fn(i64) -> String {
    move |steps| {
        format!(
            "{TRAINING}train_as(\"x\", #{{ device: \"cuda\", dtype: \"{dtype}\" }}, #{{}}, #{{}}, \
             #{{ steps: {steps}, log_every: 100 }}, #{{}});"
        )
    }
}

/// Trials of several ranks side by side.
fn sweep(ranks: &'static str) -> impl Fn(i64) -> String {
    move |steps| {
        format!(
            r#"
            let model = load_model("scripts/tiny", #{{ device: "cuda", dtype: "bf16" }});
            let data = load_dataset("scripts/tiny/train.jsonl").take(12).tokenize(model, #{{ max_length: 32, cache: false }});
            sweep(model, data.split(#{{ test: 2 }}), #{{
                grid: #{{ rank: {ranks} }}, out: "sweep",
                lora: #{{ alpha: 8, dropout: 0.1, target_modules: "all-linear" }},
                train: #{{ steps: {steps}, batch: 2, log_every: 100 }},
            }});"#
        )
    }
}

#[track_caller]
fn at_most(what: &str, counts: &Counts, operations: i64, waits: i64) {
    println!("{what}: {counts:#?}");
    assert!(counts["operations"] <= operations, "{what}: {} operations, expected {operations}", counts["operations"]);
    let actual = counts.get("waits").copied().unwrap_or(0);
    assert!(actual <= waits, "{what}: {actual} waits, expected {waits}");
}

#[test]
fn a_step_of_one_adapter() {
    at_most("f32", &of_a_step(&single("f32")), 563, 2);
    at_most("bf16", &of_a_step(&single("bf16")), 462, 2);
}

#[test]
fn a_step_of_a_sweep() {
    at_most("six ranks", &of_a_step(&sweep("[1, 2, 4, 8, 16, 32]")), 1997, 7);
}
