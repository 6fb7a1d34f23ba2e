//! A training loop that a script writes itself, cut off in the middle of accumulations and epochs.

use super::common::files::link_scripts;
use super::common::program::{finished, lorhai, Finished};
use super::logs::{content, difference};
use std::fs;
use std::path::Path;

/// Micro-batches of 2 of 13 rows, 7 in an epoch, and 3 to an update. It is cut off where a file says, before its
/// checkpoint: the last micro-batch is lost.
const LOOP: &str = r#"
let model = load_model("scripts/tiny", #{ device: "cpu", dtype: "f32" });
model.add_lora(#{ r: 4, alpha: 8, dropout: 0.1, target_modules: "all-linear" });
let data = load_dataset("scripts/tiny/pretrain.jsonl").take(13).tokenize(model, #{ max_length: 48 });
let opt = adamw(model, #{ lr: 1e-2 });
let schedule = lr_schedule("cosine", #{ steps: 5 });
let run = start_run("loop", #{});
let at = run.resume(#{ opt: opt, data: data, epoch: 0, batch: 0, done: 0, losses: [] });
let cut = read_text("cut");
while at.epoch < 2 {
    for batch in data.batches(#{ size: 2, shuffle: 42, epoch: at.epoch, skip: at.batch }) {
        let loss = model.forward(batch).loss;
        loss.backward();
        at.losses.push(loss.item());
        at.batch += 1;
        at.done += 1;
        if cut == `${at.done}` { throw "cut"; }
        if at.done % 3 == 0 {
            clip_grad_norm(model, 1.0);
            opt.lr = 1e-2 * schedule.factor(at.done / 3 - 1);
            opt.step();
            opt.zero_grad();
        }
        run.checkpoint(at);
    }
    at.epoch += 1;
    at.batch = 0;
}
model.save_adapter("loop/adapter");
write_text("loop/losses.txt", `${at.losses}`);
"#;

fn run(folder: &Path, script: &str, cut: &str) -> Finished {
    link_scripts(folder);
    fs::write(folder.join("case.rhai"), script).unwrap();
    fs::write(folder.join("cut"), cut).unwrap();
    finished(lorhai(folder).args(["run", "case.rhai"]).env("OMP_NUM_THREADS", "1"))
}

#[test]
fn a_loop_of_a_script_goes_on_with_the_same_bytes() {
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let end = run(whole.path(), LOOP, "");
    assert_eq!(end.code, Some(0), "{}", end.errors);
    // The gradients of the last two micro-batches, which no update followed, are part of the state.
    let last = lorhai::train::checkpoint::folder::list(&whole.path().join("loop"));
    assert_eq!(last[0].0, 4);
    assert!(lorhai::train::checkpoint::folder::read(&last[0].1).unwrap().1.info("opt/gradients").is_some());
    // After the first micro-batch, in the middle of an accumulation, after an update, at the end of an epoch, and in the
    // next one.
    for (cut, from) in [(1, None), (3, None), (4, Some(0)), (8, Some(1)), (9, Some(2)), (14, Some(2))] {
        let end = run(folder.path(), LOOP, &cut.to_string());
        assert!(end.code == Some(1) && end.errors.contains("cut"), "{}", end.errors);
        let from = from.map(|step| format!("going on from step {step}, saved in `loop/checkpoint-{step}`"));
        assert!(from.is_none_or(|line| end.errors.contains(&line)), "{cut}: {}", end.errors);
    }
    let end = run(folder.path(), LOOP, "");
    assert_eq!(end.code, Some(0), "{}", end.errors);
    // Which names the folder that the script ran in.
    let without_origin = |folder: &Path| {
        let mut files = content(&folder.join("loop"));
        assert!(files.remove("origin.json").is_some());
        files
    };
    let files = without_origin(whole.path());
    assert!(files.contains_key("checkpoint-4/state.safetensors") && files.contains_key("losses.txt"));
    assert_eq!(difference(&without_origin(folder.path()), &files), None);
}

#[test]
fn a_loop_with_other_settings_or_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), LOOP, "5");
    let before = content(&folder.path().join("loop"));
    let other_rate = LOOP.replace("#{ lr: 1e-2 }", "#{ lr: 2e-2 }");
    for (script, expected) in [
        (other_rate.clone(), "optimizers.opt.lr: 0.01 → 0.02"),
        (LOOP.replace("take(13)", "take(12)"), "the rows of `data` differ"),
        (LOOP.replace("r: 4", "r: 5"), "models.opt.lora.r: 4 → 5"),
    ] {
        let end = run(folder.path(), &script, "");
        assert!(end.code == Some(1) && end.errors.contains(expected), "{}", end.errors);
        assert!(end.errors.contains("resume: false begins anew"), "{}", end.errors);
    }
    assert_eq!(difference(&content(&folder.path().join("loop")), &before), None, "a refusal changes nothing");
    let asked = other_rate.replace("start_run(\"loop\", #{})", "start_run(\"loop\", #{ resume: true })");
    let end = run(folder.path(), &asked, "6");
    assert!(
        end.errors.contains("going on under changed settings:\n  optimizers.opt.lr: 0.01 → 0.02"),
        "{}",
        end.errors
    );
    let anew = asked.replace("resume: true", "resume: false");
    let end = run(folder.path(), &anew, "2");
    assert!(end.errors.contains("the earlier loop is kept in `loop/old-1`"), "{}", end.errors);
    assert!(folder.path().join("loop/old-1/checkpoint-1").is_dir());
}
