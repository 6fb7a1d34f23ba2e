//! Runs that several processes train together end where one process does: the real program, started by itself and as torchrun
//! and Slurm do, stopped, killed and hung.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_script, read_json, root, tiny_folder};
use common::needs::python;
use common::program::{finished, lorhai, Finished};
use safetensors::SafeTensors;
use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// One at a time: they are about processes that compute at the same time.
static ALONE: Mutex<()> = Mutex::new(());

/// How far losses may differ, relative to the loss, and weights: sums in another order round otherwise.
const TOLERANCE: f64 = 1e-6;

/// Twenty steps of ten rows of different lengths; answers alone are trained on.
const SCRIPT: &str = r#"
let cfg = args(#{ out: "runs/a", steps: 20, save_every: 5, dropout: 0.1 });
let model = load_model("scripts/tiny", #{ dtype: "f32" });
model.add_lora(#{ r: 4, dropout: cfg.dropout, target_modules: "all-linear" });
let data = load_dataset("scripts/tiny/train.jsonl").take(64).tokenize(model, #{}).split(#{ test: 0.2 });
let result = train(model, data, #{
    steps: cfg.steps, batch: 5, accumulation: 2, eval_every: 4, log_every: 1, save_every: cfg.save_every, out: cfg.out });
print(`${result.steps} steps`);
"#;

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    let mut command = lorhai(folder);
    finished(command.args(["run", "case.rhai", "--threads", "1", "--quiet"]).args(arguments))
}

/// A run that succeeds, and what it prints.
fn prints(folder: &Path, arguments: &[&str]) -> String {
    let end = run(folder, arguments);
    assert_eq!(end.code, Some(0), "{arguments:?}: {}", end.errors);
    end.output
}

/// All values of an adapter or a model, by name.
fn weights(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let path = ["adapter/adapter_model.safetensors", "model/model.safetensors"].map(|name| folder.join(name));
    let bytes = std::fs::read(path.iter().find(|path| path.is_file()).expect("weights")).unwrap();
    let values =
        |bytes: &[u8]| bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<(String, Vec<f32>)> =
        tensors.iter().map(|(name, tensor)| (name.to_owned(), values(tensor.data()))).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// The numbers of a log that do not depend on the time, and by how much more than others they may differ.
fn log(folder: &Path) -> Vec<Vec<(f64, f64)>> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let numbers = |row: Value| -> Vec<(f64, f64)> {
        // In a gradient of f32 rounding shows more than in a mean of losses.
        let names =
            [("step", 1.0), ("loss", 1.0), ("eval_loss", 1.0), ("num_input_tokens_seen", 1.0), ("grad_norm", 5.0)];
        names.iter().filter_map(|(name, slack)| Some((row[*name].as_f64()?, *slack))).collect()
    };
    rows.map(numbers).collect()
}

fn assert_close(one: &Path, other: &Path) {
    assert_within(TOLERANCE, one, other);
}

fn assert_within(tolerance: f64, one: &Path, other: &Path) {
    let (first, second) = (log(one), log(other));
    assert_eq!(first.len(), second.len());
    for (first, second) in first.iter().zip(&second) {
        assert_eq!(first.len(), second.len());
        let is_close = |((a, slack), (b, _)): (&(f64, f64), &(f64, f64))| (a - b).abs() <= tolerance * slack * a.abs();
        assert!(first.iter().zip(second).all(is_close), "{first:?} and {second:?} in {}", other.display());
    }
    let (first, second) = (weights(one), weights(other));
    assert!(!first.is_empty() && first.len() == second.len());
    for ((name, first), (_, second)) in first.iter().zip(&second) {
        let furthest = first.iter().zip(second).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        assert!(furthest <= tolerance, "{name} differs by {furthest:e} in {}", other.display());
    }
}

#[test]
fn processes_end_where_one_does() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(SCRIPT);
    let out = |name: &str| folder.path().join("runs").join(name);
    assert_eq!(prints(folder.path(), &[]), "20 steps\n");
    for count in ["1", "2", "3"] {
        let end = run(folder.path(), &["--processes", count, "--set", &format!("out=runs/{count}")]);
        assert_eq!((end.code, end.output.as_str(), end.errors.as_str()), (Some(0), "20 steps\n", ""));
        assert_close(&out("a"), &out(count));
    }
    let bytes = |name: &str| std::fs::read(out(name).join("adapter/adapter_model.safetensors")).unwrap();
    assert!(bytes("a") == bytes("1"), "one process of one has the same bytes");
    let origin: Value = serde_json::from_slice(&std::fs::read(out("3").join("origin.json")).unwrap()).unwrap();
    assert_eq!(origin["machine"]["processes"], 3);
    let events = std::fs::read_dir(out("3")).unwrap().flatten();
    let events = events.filter(|file| file.file_name().to_string_lossy().starts_with("events."));
    assert_eq!(events.count(), 1, "one process writes");
}

/// Runs that differ in what a step computes.
const VARIANTS: &str = r#"
let cfg = args(#{ out: "runs" });
let rows = load_dataset("scripts/tiny/train.jsonl").take(40);
let weighted = rows.map(|row| { row.weight = if row.output.len() > 30 { 0.5 } else { 2.0 }; row });
let variants = #{
    packed:   [#{}, #{ packing: true, max_length: 96 }, #{}],
    dora:     [#{ use_dora: true }, #{}, #{}],
    grouped:  [#{}, #{}, #{ group_by_length: true, weight_decay: 0.1, loraplus_lr_ratio: 4.0 }],
    recomputed: [#{}, #{}, #{ gradient_checkpointing: true, max_grad_norm: 0.0 }],
    best:     [#{}, #{}, #{ keep_best: true, early_stopping: 1, eval_every: 1, lr: 0.3 }],
    dynamic:  [#{}, #{}, #{}],
    small:    [#{}, #{}, #{ batch: 1, accumulation: 3 }],
    whole:    [(), #{}, #{ lr: 1e-5 }],
};
for name in variants.keys() {
    let parts = variants[name];
    let model = load_model(if name == "dynamic" { "dynamic" } else { "scripts/tiny" }, #{ dtype: "f32" });
    if parts[0] == () { model.train_all(); } else { model.add_lora(#{ r: 2, dropout: 0.2 } + parts[0]); }
    let data = rows.tokenize(model, parts[1]).split(#{ test: 0.2 });
    let options = #{ steps: 6, batch: 4, accumulation: 2, eval_every: 3, log_every: 1, out: `${cfg.out}/${name}` };
    let seen = [];
    options.on_step = |report| { seen.push(report.step); };
    let result = train(model, data, options + parts[2]);
    print(`${name}: ${result.steps} steps, ${seen.len()} reported`);
}
"#;

/// The shipped model in `folder`, with rotary frequencies that depend on the longest row of a batch.
fn lengths_matter(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    for name in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny_folder().join(name), folder.join(name)).unwrap();
    }
    let mut config = read_json(tiny_folder().join("config.json"));
    config["max_position_embeddings"] = 16.into();
    config["rope_scaling"] = serde_json::json!({ "rope_type": "dynamic", "factor": 2.0 });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn every_kind_of_step_is_that_of_one_process() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(VARIANTS);
    lengths_matter(&folder.path().join("dynamic"));
    let one = prints(folder.path(), &["--set", "out=one"]);
    let two = prints(folder.path(), &["--processes", "2", "--set", "out=two"]);
    assert_eq!(one, two);
    assert!(one.contains("best: 2 steps") || one.contains("best: 3 steps"), "stops early: {one}");
    let folders = |name: &str| ["one", "two"].map(|out| folder.path().join(out).join(name));
    for name in ["packed", "dora", "grouped", "recomputed", "dynamic", "small", "whole"] {
        let [one, two] = folders(name);
        assert_close(&one, &two);
    }
    // Its learning rate, by which it stops early, makes steps of 0.3.
    let [one, two] = folders("best");
    assert_within(1e-4, &one, &two);
}

/// One of several processes, started as torchrun does, that is killed at the end of the test.
struct Process(Child);

impl Process {
    fn start(folder: &Path, rank: usize, size: usize, port: u16, arguments: &[&str]) -> Self {
        let mut command = lorhai(folder);
        command.args(["run", "case.rhai", "--data-parallel", "--threads", "1", "--quiet"]).args(arguments);
        let variables =
            [("RANK", rank), ("WORLD_SIZE", size), ("LOCAL_WORLD_SIZE", size), ("MASTER_PORT", port.into())];
        command.envs(variables.map(|(name, value)| (name, value.to_string()))).env("MASTER_ADDR", "127.0.0.1");
        Self::spawn(command.env("LORHAI_PROCESS_TIMEOUT", "5"))
    }

    fn spawn(command: &mut Command) -> Self {
        Process(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: i32) {
        // SAFETY: a child that was not waited for.
        unsafe { libc::kill(self.0.id() as i32, signal) };
    }

    fn end(mut self) -> Finished {
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut text = String::new();
            pipe.unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let output = read(self.0.stdout.as_mut().map(|pipe| pipe as _));
        let errors = read(self.0.stderr.as_mut().map(|pipe| pipe as _));
        Finished { code: self.0.wait().unwrap().code(), output, errors }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start_all(folder: &Path, size: usize, arguments: &[&str]) -> Vec<Process> {
    let port = free_port();
    (0..size).map(|rank| Process::start(folder, rank, size, port, arguments)).collect()
}

/// The step of the newest checkpoint of the run, 0 before the first.
fn newest_checkpoint(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder.join("runs/a")).into_iter().flatten().flatten();
    let step = |name: &str| name.strip_prefix("checkpoint-")?.parse().ok();
    entries.filter_map(|entry| step(&entry.file_name().to_string_lossy())).max().unwrap_or(0)
}

/// Waits until the run has saved a checkpoint after step `step`.
fn wait_for_checkpoint(folder: &Path, step: u64) {
    let begun = Instant::now();
    while newest_checkpoint(folder) <= step {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const LONG: [&str; 4] = ["--set", "steps=30", "--set", "save_every=2"];

#[test]
fn a_killed_process_ends_the_others_and_the_run_goes_on_from_its_checkpoint() {
    let _alone = ALONE.lock();
    for killed in [0, 1] {
        let folder = folder_with_script(SCRIPT);
        let mut processes = start_all(folder.path(), 3, &LONG);
        wait_for_checkpoint(folder.path(), 0);
        let victim = processes.remove(killed);
        victim.signal(libc::SIGKILL);
        let begun = Instant::now();
        assert_eq!(victim.end().code, None);
        for process in processes {
            let end = process.end();
            assert_eq!((end.code, end.output.as_str()), (Some(1), ""), "{}", end.errors);
            let expected = "another of the 3 processes ended before its work was done";
            assert!(end.errors.contains(expected) && end.errors.contains("last checkpoint"), "{}", end.errors);
        }
        assert!(begun.elapsed() < Duration::from_secs(20));
        // By another number of processes, too.
        let arguments = [&["--processes", "2"][..], &LONG].concat();
        let mut command = lorhai(folder.path());
        let end = finished(command.args(["run", "case.rhai", "--threads", "1"]).args(arguments));
        assert!(end.code == Some(0) && end.errors.contains("going on from step "), "{}", end.errors);
        let log = std::fs::read_to_string(folder.path().join("runs/a/metrics.jsonl")).unwrap();
        assert_eq!(log.matches("\"loss\"").count(), 30, "every step is logged once: {log}");
    }
}

#[test]
fn a_hung_process_is_not_waited_for_without_end() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(SCRIPT);
    let mut processes = start_all(folder.path(), 2, &LONG);
    wait_for_checkpoint(folder.path(), 0);
    let hung = processes.remove(1);
    hung.signal(libc::SIGSTOP);
    let end = processes.remove(0).end();
    assert_eq!(end.code, Some(1));
    assert!(end.errors.contains("another of the 2 processes did not answer for 5 s"), "{}", end.errors);
}

#[test]
fn a_stop_saves_the_step_that_all_have_taken() {
    let _alone = ALONE.lock();
    let whole = folder_with_script(SCRIPT);
    prints(whole.path(), &["--set", "steps=30"]);
    let folder = folder_with_script(SCRIPT);
    let arguments = ["--set", "steps=30", "--set", "save_every=1"];
    let mut command = lorhai(folder.path());
    command.args(["run", "case.rhai", "--threads", "1", "--processes", "2"]).args(arguments);
    let launcher = Process::spawn(&mut command);
    wait_for_checkpoint(folder.path(), 0);
    launcher.signal(libc::SIGINT);
    let end = launcher.end();
    assert_eq!((end.code, end.output.as_str()), (Some(130), ""), "{}", end.errors);
    assert_eq!(end.errors.matches("stopped by the user").count(), 1, "{}", end.errors);
    assert!(end.errors.contains("run the script again to go on"), "{}", end.errors);
    let saved = newest_checkpoint(folder.path());
    // A signal to one of them stops all.
    let mut processes = start_all(folder.path(), 2, &arguments);
    wait_for_checkpoint(folder.path(), saved);
    processes[1].signal(libc::SIGTERM);
    let second = processes.remove(1).end();
    let first = processes.remove(0).end();
    assert_eq!((second.code, second.errors.as_str()), (Some(143), ""));
    assert_eq!(first.code, Some(130), "{}", first.errors);
    assert!(first.errors.contains("process 1 of 2: stopped by SIGTERM"), "{}", first.errors);
    // One process goes on where two were stopped.
    assert_eq!(prints(folder.path(), &["--set", "steps=30"]), "30 steps\n");
    assert_close(&whole.path().join("runs/a"), &folder.path().join("runs/a"));
}

#[test]
fn processes_that_do_not_do_the_same_are_refused() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(SCRIPT);
    let port = free_port();
    let ends = [("4", 0), ("6", 1)]
        .map(|(steps, rank)| Process::start(folder.path(), rank, 2, port, &["--set", &format!("steps={steps}")]));
    let [first, second] = ends.map(Process::end);
    assert_eq!((first.code, second.code, second.errors.as_str()), (Some(1), Some(1), ""));
    let expected = "process 1 of 2: the script: expected the same as in process 0, found set.steps: \"4\" → \"6\"";
    assert!(first.errors.contains(expected), "{}", first.errors);
    assert!(!folder.path().join("runs").exists());
    // Data that one of them sees otherwise.
    let script = SCRIPT.replace(".take(64)", ".take(if env_rank() { 64 } else { 60 })");
    let script = format!("fn env_rank() {{ load_dataset(\"rank.jsonl\").len == 1 }}\n{script}");
    let folders = [1, 2].map(|rows| {
        let folder = folder_with_script(&script);
        std::fs::write(folder.path().join("rank.jsonl"), "{\"text\": \"a\"}\n".repeat(rows)).unwrap();
        folder
    });
    let port = free_port();
    let [first, _] = [0, 1].map(|rank| Process::start(folders[rank].path(), rank, 2, port, &[])).map(Process::end);
    assert_eq!(first.code, Some(1));
    assert!(first.errors.contains("process 1 of 2: train: expected the same as in process 0"), "{}", first.errors);
    assert!(first.errors.contains("data.train"), "{}", first.errors);
}

#[test]
fn what_processes_cannot_train_is_refused_once() {
    let _alone = ALONE.lock();
    let refused = |script: &str, expected: &str| {
        let folder = folder_with_script(script);
        let end = run(folder.path(), &["--processes", "2"]);
        assert_eq!((end.code, end.output.as_str()), (Some(1), ""), "{}", end.errors);
        assert_eq!(end.errors.matches("error: ").count(), 1, "{}", end.errors);
        assert!(end.errors.contains(expected), "{expected}: {}", end.errors);
    };
    refused("// A mistake.\nprint(nonsense);", "unknown variable `nonsense`");
    refused(
        "sweep(#{ grid: #{ x: [1, 2] }, out: \"runs/s\", trial: |point, run| #{ score: point.x } });",
        "sweep: 2 processes share the work of `train` only",
    );
    refused("start_run(\"runs/loop\", #{});", "start_run: 2 processes share the work of `train` only");
    let begin =
        "let model = load_model(\"scripts/tiny\"); let rows = load_dataset(\"scripts/tiny/train.jsonl\").take(8);";
    let tokens = "let data = rows.tokenize(model, #{});";
    let trained = |lora: &str, options: &str| {
        format!("{begin} {tokens} model.add_lora(#{{ {lora} }}); train(model, data, #{{ steps: 2, {options} }});")
    };
    refused(&trained("r: 2", "loss: |model, batch| model.forward(batch).loss"), "found a `loss` of the script");
    refused(&trained("r: 4, nested_ranks: [2, 4]", ""), "nested ranks");
    let preferences = "let model = load_model(\"scripts/tiny\"); model.add_lora(#{ r: 2 }); let data = \
                       load_dataset(\"scripts/tiny/preferences.jsonl\").take(8).tokenize(model, #{}); \
                       train(model, data, #{ steps: 2, objective: \"dpo\" });";
    refused(preferences, "found preferences");
    let folder = folder_with_script("print(1);");
    let end = run(folder.path(), &["--data-parallel"]);
    assert!(end.code == Some(1) && end.errors.contains("torchrun or srun"), "{}", end.errors);
    let end = run(folder.path(), &["--processes", "2"]);
    assert_eq!((end.code, end.output.as_str()), (Some(0), "1\n"));
    assert!(end.errors.contains("warning: the script trained no run"), "{}", end.errors);
    for wrong in [&["--processes", "0"][..], &["--processes", "2", "--shared"], &["--data-parallel", "--dry-run"]] {
        assert_eq!(run(folder.path(), wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn tasks_of_slurm_are_processes() {
    let _alone = ALONE.lock();
    let folder = folder_with_script(SCRIPT);
    prints(folder.path(), &["--set", "steps=6"]);
    let job = (std::process::id() + 7).to_string();
    let tasks = ["0", "1"].map(|task| {
        let mut command = lorhai(folder.path());
        command.args(["run", "case.rhai", "--data-parallel", "--threads", "1", "--quiet"]);
        command.args(["--set", "steps=6", "--set", "out=runs/b"]);
        let variables = [("SLURM_PROCID", task), ("SLURM_NTASKS", "2"), ("SLURM_NODELIST", "localhost")];
        command.envs(variables).envs([("SLURM_NNODES", "1"), ("SLURM_JOB_ID", &job), ("SLURM_STEP_ID", "0")]);
        Process::spawn(&mut command)
    });
    let [first, second] = tasks.map(Process::end);
    assert_eq!((first.code, first.output.as_str()), (Some(0), "6 steps\n"), "{}", first.errors);
    assert_eq!((second.code, second.output.as_str(), second.errors.as_str()), (Some(0), "", ""));
    assert_close(&folder.path().join("runs/a"), &folder.path().join("runs/b"));
}

#[test]
#[ignore = "needs PEER_PYTHON"]
fn torchrun_starts_processes() {
    let _alone = ALONE.lock();
    let text = std::fs::read_to_string(root().join("docs/cluster.md")).unwrap();
    let begin = text.find("\n    torchrun --standalone --nproc-per-node 2").expect("a recipe");
    let recipe = text[begin + 1..].lines().take_while(|line| line.starts_with("    ")).map(str::trim);
    let recipe = recipe.collect::<Vec<_>>().join("\n").replace("CUDA_VISIBLE_DEVICES=$LOCAL_RANK ", "");
    let recipe = recipe.replace("train.rhai", "case.rhai --threads 1 --quiet --set out=runs/b");
    let folder = folder_with_script(SCRIPT);
    prints(folder.path(), &[]);
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lorhai"), bin.join("lorhai")).unwrap();
    let torchrun = format!("#!/bin/sh\nexec {:?} -m torch.distributed.run \"$@\"\n", python("PEER_PYTHON"));
    std::fs::write(bin.join("torchrun"), torchrun).unwrap();
    std::fs::set_permissions(bin.join("torchrun"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg("-c").arg(&recipe).current_dir(folder.path()).env("PATH", path);
    let end = finished(command.env("LORHAI_CACHE", folder.path().join("cache")));
    assert_eq!((end.code, end.output.as_str()), (Some(0), "20 steps\n"), "{recipe}\n{}", end.errors);
    assert_close(&folder.path().join("runs/a"), &folder.path().join("runs/b"));
}
