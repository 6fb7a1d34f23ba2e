//! Every script in `scripts/` runs, here with few steps, and its help lists its settings.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "scripts/second.rs"]
mod second;

use common::files::{link_scripts, root};
use common::needs::assets;
use common::program::{lorhai, text};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Settings that make a script quick; a script without an entry runs as it is.
const QUICK: &[(&str, &[&str])] = &[
    ("article", &["steps=2", "questions=2"]),
    ("before_after", &["steps=2"]),
    ("custom_loop", &["steps=2"]),
    ("custom_loss", &["steps=2"]),
    ("distill", &["steps=2", "teacher_steps=2"]),
    ("dpo", &["steps=2"]),
    ("gallery", &["formats=svg,pdf"]),
    ("grpo", &["steps=2"]),
    ("label_smoothing", &["steps=2"]),
    ("learning_rates", &["steps=2", "ranks=2,4", "rates=1e-3,1e-2"]),
    ("nested_ranks", &["steps=2", "seeds=2", "ranks=1,2"]),
    ("overfitting", &["steps=4", "rows=8"]),
    ("own_trial", &["steps=2", "seeds=1"]),
    ("pretrain_tiny", &["steps=2", "batch=2"]),
    ("rank_spectrum", &["steps=2", "rank=4"]),
    ("rank_sweep", &["steps=2", "ranks=2,4", "seeds=2"]),
    ("token_weights", &["steps=2"]),
    ("variants", &["steps=1"]),
    ("which_modules", &["steps=2", "seeds=2"]),
    ("which_rank", &["steps=2", "ranks=2,4", "rates=1e-3,1e-2", "margin=1.0"]),
];

/// The settings that make the script of this name quick.
fn quick(name: &str) -> Vec<&'static str> {
    QUICK.iter().find(|(known, _)| *known == name).map_or(Vec::new(), |(_, settings)| settings.to_vec())
}

fn scripts() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("scripts")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rhai"));
    found.sort();
    found
}

fn name(script: &Path) -> String {
    script.file_stem().unwrap().to_string_lossy().into_owned()
}

/// The program in `folder`, where `scripts` leads to the real ones.
fn program(folder: &Path) -> Command {
    link_scripts(folder);
    let mut command = lorhai(folder);
    command.arg("run");
    command
}

fn run(folder: &Path, script: &Path, more: &[String]) -> Output {
    program(folder).arg(Path::new("scripts").join(script.file_name().unwrap())).args(more).output().unwrap()
}

/// The program with a script of these lines.
fn of_lines(folder: &Path, lines: &str) -> Command {
    std::fs::write(folder.join("own.rhai"), lines).unwrap();
    let mut command = program(folder);
    command.arg("own.rhai");
    command
}

/// The weights of a loaded model lie in a mapped file, and a graph that waits for its backward pass reads them.
#[test]
fn a_loss_goes_backward_after_its_model_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let lines = r#"
        fn loss_of(batch) {
            let model = load_model("scripts/tiny", #{ dtype: "f32", device: "cpu" });
            model.add_lora(#{ r: 4 });
            model.forward(batch).loss
        }
        let rows = dataset([#{ prompt: "a", completion: " b" }]).tokenize(load_model("scripts/tiny"), #{});
        for batch in rows.batches(#{}) {
            let loss = loss_of(batch);
            loss.backward();
            print(`went backward from ${loss.item() > 0.0}`);
        }
    "#;
    let output = of_lines(folder.path(), lines).output().unwrap();
    assert!(output.status.success() && text(&output).contains("went backward from true"), "{}", text(&output));
}

/// Neither a terminal that is gone nor a full disk under its logs ends a training.
#[test]
fn a_run_outlives_those_who_listen() {
    let folder = tempfile::tempdir().unwrap();
    let lines = r#"
        let model = load_model("scripts/tiny");
        model.add_lora(#{});
        let rows = dataset([#{ prompt: "a", completion: " b" }]).tokenize(model, #{});
        for i in 0..3 { print(`line ${i}`); }
        print(train(model, rows, #{ steps: 3, log_every: 1, out: "run" }).steps);
    "#;
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(of_lines(folder.path(), lines).stdout(full()).stderr(full()).status().unwrap().success());
    assert!(folder.path().join("run/adapter/adapter_model.safetensors").is_file());
}

#[test]
fn the_old_flag_of_chat_templates_still_works_and_is_noted_once() {
    let folder = tempfile::tempdir().unwrap();
    let lines = r#"
        let model = load_model("scripts/tiny");
        for round in 0..2 { print(`same: ${model.has_chat_template && model.chat_template != ()}`); }
    "#;
    let output = text(&of_lines(folder.path(), lines).output().unwrap());
    assert_eq!(output.matches("same: true").count(), 2, "{output}");
    assert_eq!(output.matches("write `model.chat_template != ()`").count(), 1, "{output}");
}

#[test]
fn the_old_name_of_seq_len_still_works_and_is_noted_once() {
    let folder = tempfile::tempdir().unwrap();
    let lines = r#"
        let rows = dataset([#{ prompt: "a", completion: " b" }, #{ prompt: "a", completion: " b b" }]);
        for batch in rows.tokenize(load_model("scripts/tiny"), #{}).batches(#{ size: 1 }) {
            print(`same: ${batch.time == batch.seq_len && batch.seq_len == batch.tokens}`);
        }
    "#;
    let output = text(&of_lines(folder.path(), lines).output().unwrap());
    assert_eq!(output.matches("same: true").count(), 2, "{output}");
    assert_eq!(output.matches("`batch.time` is called `batch.seq_len` now").count(), 1, "{output}");
}

#[test]
fn every_script_runs() {
    let mut failed = Vec::new();
    for script in scripts() {
        // Needs files that are not shipped; `second.rs` and `a_sweep_over_real_data_runs` have it.
        if name(&script) == "e2e" {
            continue;
        }
        let settings: Vec<String> =
            quick(&name(&script)).iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &script, &settings);
        if !output.status.success() {
            failed.push(format!("{}\n{}", name(&script), text(&output)));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn a_sweep_over_real_data_runs() {
    let at = |key: &str, path: &str| format!("{key}={}", assets(path).display());
    let settings = [
        at("model", "models/stories260K"),
        at("train", "data/e2e/devset.csv"),
        at("test", "data/e2e/testset_w_refs.csv"),
        "ranks=1,2".to_owned(),
        "seeds=1".to_owned(),
        "steps=2".to_owned(),
    ];
    let settings: Vec<String> = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), Path::new("e2e.rhai"), &settings);
    assert!(output.status.success(), "{}", text(&output));
    assert!(folder.path().join("runs/e2e/report.html").is_file());
}

/// `scripts/article.rhai`, on a model with a chat template.
#[test]
fn the_article_leaves_what_it_promises() {
    article_leaves_what_it_promises(vec!["four_bit=true".to_owned()]);
    let lines = std::fs::read_to_string(root().join("scripts/article.rhai")).unwrap().lines().count();
    assert!(lines <= 60, "the article is to fit into 60 lines, found {lines}");
}

/// On a real model without a chat template.
#[test]
#[ignore = "needs tokenizers, models and data: set LORHAI_ASSETS"]
fn the_article_leaves_what_it_promises_on_a_pretrained_model() {
    let model = assets("models/stories260K").display().to_string();
    let data = assets("data/tinystories_sample/tinystories_sample.txt").display().to_string();
    article_leaves_what_it_promises(vec![format!("model={model}"), format!("data={data}"), "batch=2".to_owned()]);
}

fn article_leaves_what_it_promises(more: Vec<String>) {
    let settings = [vec!["steps=2".to_owned(), "questions=2".to_owned()], more].concat();
    let settings: Vec<String> = settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), Path::new("article.rhai"), &settings);
    assert!(output.status.success(), "{}", text(&output));
    for file in [
        "adapter/adapter_model.safetensors",
        "merged/model.safetensors",
        "merged/merge_certificate.json",
        "gguf/adapter.gguf",
        "gguf/model.gguf",
        "gguf/Modelfile",
        "before_after.html",
        "perplexity.json",
        "kobest.json",
        "memory.json",
        "charts/loss.png",
        "charts/memory.png",
        "charts/ranks.png",
    ] {
        assert!(folder.path().join("runs/article").join(file).is_file(), "{file} is missing: {settings:?}");
    }
}

#[test]
fn every_script_says_what_it_shows_and_lists_its_settings() {
    for script in scripts() {
        let opening = std::fs::read_to_string(&script).unwrap();
        assert!(opening.starts_with("// "), "{}: no opening comment", name(&script));
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &script, &["--help".to_owned()]);
        let help = text(&output);
        assert!(output.status.success() && help.contains("settings and their defaults"), "{help}");
        assert!(help.contains(opening.lines().next().unwrap().trim_start_matches("// ")), "{help}");
    }
}

/// `scripts/variants.rhai`: each variant is its own trial, saved as what it is.
#[test]
fn variants_stand_on_the_axes_of_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["steps=4", "lr=1e-2", "ratio=8.0"];
    let settings: Vec<String> =
        settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    let output = run(folder.path(), Path::new("variants.rhai"), &settings);
    assert!(output.status.success(), "{}", text(&output));
    let out = folder.path().join("runs/variants");
    let json =
        |path: PathBuf| -> serde_json::Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let rows = json(out.join("results.json"));
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 12);
    let mut losses: Vec<String> = rows.iter().map(|row| row["eval_loss"].to_string()).collect();
    losses.sort();
    losses.dedup();
    assert_eq!(losses.len(), 12, "no two variants train alike");
    for row in rows {
        let config = json(out.join(row["dir"].as_str().unwrap()).join("adapter/adapter_config.json"));
        for key in ["use_dora", "init_lora_weights"] {
            assert_eq!(config[key], row[key], "{row}");
        }
        let plain = rows.iter().find(|other| other["use_dora"] == false).unwrap();
        let more = row["trainable_params"].as_u64() > plain["trainable_params"].as_u64();
        assert_eq!(more, row["use_dora"] == true, "{row}");
    }
}

/// What `scripts/rank_sweep.rhai` promises to leave in `out`.
#[test]
fn the_rank_sweep_leaves_what_its_contract_says() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["ranks=2,4", "seeds=2", "steps=4", "batch=4", "lr=1e-3", "dropout=0", "max_length=64", "dtype=f32"];
    let settings: Vec<String> =
        settings.iter().flat_map(|setting| ["--set".to_owned(), (*setting).to_owned()]).collect();
    let script = Path::new("rank_sweep.rhai");
    let first = run(folder.path(), script, &settings);
    assert!(first.status.success(), "{}", text(&first));
    let out = folder.path().join("runs/rank-sweep");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let rows: serde_json::Value = serde_json::from_str(&read("results.json")).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    for row in rows.as_array().unwrap() {
        for column in ["rank", "seed", "trainable_params", "tokens_per_s", "seconds"] {
            assert!(row[column].is_number(), "{column}: {row}");
        }
        for column in ["train_loss", "eval_loss", "eval_perplexity"] {
            assert!(row[column].as_f64().unwrap().is_finite(), "{column}: {row}");
        }
        let trial = out.join(row["dir"].as_str().unwrap());
        for file in ["config.json", "metrics.jsonl", "adapter/adapter_model.safetensors", "adapter/tokenizer.json"] {
            assert!(trial.join(file).is_file(), "{file}");
        }
        let config: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(trial.join("adapter/adapter_config.json")).unwrap()).unwrap();
        assert_eq!((&config["r"], &config["peft_type"]), (&row["rank"], &"LORA".into()));
        assert!(std::fs::read_dir(&trial).unwrap().any(|e| e
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("tfevents")));
    }
    assert_eq!(read("results.csv").lines().count(), 5);
    assert!(read("report.html").contains("<svg ") && read("report.html").contains("rank_sweep.rhai"));
    for chart in ["eval_loss_by_rank", "eval_loss_by_size"] {
        assert!(read(&format!("charts/{chart}.svg")).starts_with("<svg"), "{chart}");
        assert!(out.join(format!("charts/{chart}.png")).is_file(), "{chart}");
    }
    let second = run(folder.path(), script, &settings);
    assert!(text(&second).contains("all 4 trials are finished already"), "{}", text(&second));
    assert_eq!(read("results.json"), serde_json::to_string_pretty(&rows).unwrap() + "\n", "a re-run changes nothing");
}
