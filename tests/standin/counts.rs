//! What a step asks of the device: operations (each of which a GPU would launch), and waits of the host for it.
//!
//! A bound is what was counted when it was set. Lower it where a change needs less.

use super::common::files::{read_json, tiny_folder};
use super::gpu::{Counts, Machine, TRAINING};
use tempfile::TempDir;

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

/// The shipped tokenizer with the configuration of such a model.
fn folder_of_layers(layers: i64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny_folder().join(name), folder.path().join(name)).unwrap();
    }
    let mut config = read_json(tiny_folder().join("config.json"));
    for (name, value) in [
        ("num_hidden_layers", layers),
        ("hidden_size", 112),
        ("intermediate_size", 608),
        ("num_attention_heads", 14),
        ("num_key_value_heads", 2),
    ] {
        config[name] = value.into();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

/// A step of the model with the shape of Qwen2.5-0.5B and so many layers. Its widths are an eighth of the real ones, on which
/// the counts do not depend.
fn of_layers(layers: i64, grid: &str, dropout: f64) -> Counts {
    let folder = folder_of_layers(layers);
    of_a_step(&|steps: i64| {
        format!(
            r#"
            let model = random_model("{}", #{{ device: "cuda", dtype: "bf16" }});
            let data = load_dataset("scripts/tiny/train.jsonl").take(6);
            sweep(model, data.tokenize(model, #{{ max_length: 32, cache: false }}).split(#{{ test: 1 }}), #{{
                grid: #{{ {grid} }}, out: "sweep",
                lora: #{{ alpha: |p| 2 * p.rank, dropout: {dropout:?}, target_modules: "all-linear" }},
                train: #{{ steps: {steps}, batch: 1, log_every: 100 }},
            }});"#,
            folder.path().display()
        )
    })
}

/// The same with all 24 layers, from 2 and 4.
fn of_half_a_billion(grid: &str, dropout: f64) -> Counts {
    let (two, four) = (of_layers(2, grid, dropout), of_layers(4, grid, dropout));
    let extrapolated = four.iter().map(|(name, count)| {
        let at_two = two.get(name).copied().unwrap_or(0);
        (name.clone(), at_two + 11 * (count - at_two))
    });
    extrapolated.collect()
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
fn a_step_at_the_shape_of_half_a_billion() {
    let (one, six) = ("rank: [16]", "rank: [2, 4, 8, 16, 32, 64]");
    for (grid, dropout, operations) in [(one, 0.05, 1233), (one, 0.0, 1041), (six, 0.05, 1445)] {
        at_most(&format!("{grid}, dropout {dropout}"), &of_half_a_billion(grid, dropout), operations, 1);
    }
    // 1,485 with all layers.
    at_most("sixteen, two layers", &of_layers(2, "rank: [16], seed: 16", 0.05), 209, 1);
}

#[test]
fn a_step_of_one_adapter() {
    at_most("f32", &of_a_step(&single("f32")), 402, 1);
    at_most("bf16", &of_a_step(&single("bf16")), 233, 1);
}

#[test]
fn a_step_of_a_sweep() {
    at_most("six ranks", &of_a_step(&sweep("[1, 2, 4, 8, 16, 32]")), 285, 1);
}
