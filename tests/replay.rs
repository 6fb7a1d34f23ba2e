//! Runs repeated from their records: the same to the last bit, and what is told where something changed.
//!
//! What is said of runs that cannot be repeated is in `mistakes/runs.txt`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::tiny_folder;
use common::program::{finished, lorhai, Finished};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads data and a module, writes a sweep, a run and other files, and reads some of them again.
const SCRIPT: &str = r#"
import "parts/text" as text;
let cfg = args(#{ steps: 6 });
let base = load_model("model", #{ dtype: "f32" });
let data = load_dataset("rows.jsonl").map(|row| text::pair(row)).tokenize(base, #{ max_length: 48 }).split(#{ test: 6 });
let result = sweep(base, data, #{ grid: #{ rank: [2, 4] }, train: #{ steps: cfg.steps, batch: 2, log_every: 1, eval_every: 3 }, out: "runs/ranks" });
result.chart(#{}).save("charts/ranks.svg");
base.add_lora(#{ r: 4, dropout: 0.1 });
train(base, data, #{ steps: cfg.steps, batch: 2, log_every: 2, lr: 1e-3, out: "runs/single" });
base.save_adapter("runs/single/copy");
base.load_adapter("runs/single/copy", #{ name: "copy" });
write_json("runs/note.json", #{ rows: open_sweep("runs/ranks").rows.len() });
print(`${read_json("runs/note.json").rows} trials`);
"#;

/// A folder with the script, its module, a model and some rows, in which it ran once.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().unwrap());
        let tiny = tiny_folder();
        std::fs::create_dir_all(place.path("model")).unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            std::fs::copy(tiny.join(name), place.path("model").join(name)).unwrap();
        }
        let rows = std::fs::read_to_string(tiny.join("train.jsonl")).unwrap();
        place.write("rows.jsonl", &rows.lines().take(30).map(|line| format!("{line}\n")).collect::<String>());
        place.write("parts/text.rhai", "fn pair(row) { #{ prompt: row.instruction, completion: \" \" + row.output } }");
        place.write("case.rhai", SCRIPT);
        let told = place.lorhai(&["run", "--quiet", "case.rhai", "--set", "steps=4"]);
        assert_eq!((told.code, told.output.as_str()), (Some(0), "2 trials\n"), "{}", told.errors);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn lorhai(&self, arguments: &[&str]) -> Finished {
        finished(lorhai(self.0.path()).args(arguments))
    }

    fn replay(&self, run: &str) -> Finished {
        self.lorhai(&["replay", "--quiet", run])
    }

    /// Every file but those of the cache, with its bytes.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn below(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                match entry.is_dir() {
                    true if entry.ends_with("cache") => {}
                    true => below(&entry, found),
                    false => drop(found.insert(entry.clone(), std::fs::read(&entry).unwrap())),
                }
            }
        }
        let mut found = BTreeMap::new();
        below(self.0.path(), &mut found);
        found
    }
}

#[test]
fn a_run_and_a_sweep_come_out_the_same_and_stay_untouched() {
    let place = Place::new();
    let before = place.files();
    let told = place.replay("runs/single");
    let as_before = "case.rhai --set steps=4\nprogram, script, model, tokenizer and data are unchanged\n";
    let expected = format!("{as_before}runs/single: the same to the last bit (3 losses)\n");
    assert_eq!((told.code, told.output, told.errors.as_str()), (Some(0), expected, ""));
    let told = place.replay("runs/ranks");
    let trial = |rank: usize| format!("runs/ranks/rank-{rank}: the same to the last bit (6 losses)\n");
    let expected = format!("{as_before}{}{}2 of 2 trials are the same\n", trial(2), trial(4));
    assert_eq!((told.code, told.output), (Some(0), expected));
    assert!(place.files() == before, "a replay writes nothing here");

    // From another folder, of one trial, and kept.
    std::fs::rename(place.path("case.rhai"), place.path("gone.rhai")).unwrap();
    let kept = place.path("kept");
    let told =
        place.lorhai(&["replay", place.path("runs/ranks/rank-4").to_str().unwrap(), "--out", kept.to_str().unwrap()]);
    assert_eq!(told.code, Some(0), "{}{}", told.output, told.errors);
    assert!(told.output.contains("`case.rhai` cannot be read: the recorded text is run\n"), "{}", told.output);
    assert!(told.output.contains("rank-4: the same to the last bit (6 losses)\nwritten below "), "{}", told.output);
    assert!(told.errors.contains("2 trials\n"), "what the script prints is told beside: {}", told.errors);
    for name in
        ["runs/ranks/report.html", "runs/single/adapter/adapter_config.json", "runs/note.json", "charts/ranks.svg"]
    {
        assert!(kept.join(name).is_file(), "{name}");
    }
    let metrics = |folder: &Path| std::fs::read_to_string(folder.join("runs/ranks/rank-2/metrics.jsonl")).unwrap();
    assert_eq!(metrics(&kept).lines().count(), metrics(place.0.path()).lines().count());
    let told = place.lorhai(&["replay", "runs/single", "--out", "kept"]);
    assert_eq!(told.code, Some(1));
    assert!(told.errors.contains("--out: `"), "{}", told.errors);
}

#[test]
fn what_changed_since_is_told() {
    let place = Place::new();
    // The script and its module as they are now do not matter: the texts of then are run.
    place.write("case.rhai", "train();");
    place.write("parts/text.rhai", "fn pair(row) { 1 }");
    let told = place.replay("runs/single");
    assert_eq!(told.code, Some(0), "{}{}", told.output, told.errors);
    for file in ["case.rhai", "parts/text.rhai"] {
        assert!(told.output.contains(&format!("  `{file}` changed: the recorded text is run\n")), "{}", told.output);
    }
    // Data and model do.
    let rows = std::fs::read_to_string(place.path("rows.jsonl")).unwrap();
    place.write("rows.jsonl", &rows.lines().rev().map(|line| format!("{line}\n")).collect::<String>());
    let told = place.replay("runs/single");
    assert_eq!(told.code, Some(1), "{}{}", told.output, told.errors);
    assert!(told.output.contains("  the file `rows.jsonl` changed: "), "{}", told.output);
    assert!(told.output.contains("runs/single: differs from step 2 on: loss "), "{}", told.output);
    assert!(told.output.contains("  data.train: \""), "{}", told.output);
    place.write("rows.jsonl", &rows);
    let weights = place.path("model/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    // The sign of the last number of the file.
    bytes[last] ^= 0x80;
    std::fs::write(&weights, bytes).unwrap();
    let told = place.replay("runs/ranks/rank-2");
    assert!(told.output.contains("  the files of the model `model` changed: "), "{}", told.output);
    assert!(told.output.contains("  model.fingerprint: \""), "{}", told.output);
    assert!(!told.output.contains("tokenizer `"), "{}", told.output);
}

#[test]
fn a_trace_that_differs_is_found() {
    let place = Place::new();
    let path = place.path("runs/ranks/rank-4/metrics.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let row: serde_json::Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
    let loss = row["loss"].as_f64().unwrap();
    let with = |loss: f64| text.replace(&format!("\"loss\":{}", row["loss"]), &format!("\"loss\":{loss}"));
    assert!(with(1.0) != text);
    // Rounding is no difference, but is told.
    std::fs::write(&path, with(loss * (1.0 + 1e-7))).unwrap();
    let told = place.replay("runs/ranks");
    assert_eq!(told.code, Some(0), "{}{}", told.output, told.errors);
    let near = format!("largest deviation 1.0e-7 at step {})", row["step"]);
    assert!(
        told.output.contains("rank-4: equal within 1e-6 relative") && told.output.contains(&near),
        "{}",
        told.output
    );
    std::fs::write(&path, with(loss + 0.5)).unwrap();
    let told = place.replay("runs/ranks");
    let expected = format!("rank-4: differs from step {} on: loss {} against {loss}\n", row["step"], loss + 0.5);
    assert_eq!(told.code, Some(1));
    assert!(told.output.contains(&expected), "{}\nexpected {expected}", told.output);
    assert!(told.output.contains("rank-2: the same to the last bit") && told.output.contains("1 of 2 trials"));
    // The first run was cut off: what it has is compared.
    let lines: Vec<&str> = text.lines().take(2).collect();
    std::fs::write(&path, format!("{}\n", lines.join("\n"))).unwrap();
    std::fs::remove_file(place.path("runs/ranks/rank-4/result.json")).unwrap();
    let told = place.replay("runs/ranks/rank-4");
    assert_eq!(told.code, Some(0), "{}{}", told.output, told.errors);
    assert!(told.output.contains("as far as the first run got\n"), "{}", told.output);
}
