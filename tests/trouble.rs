//! The real program in trouble: full disks, files that change or never end, little memory, trials that fail.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::{folder_with_script, folder_with_scripts, tiny_folder};
use common::program::{finished, lorhai, Finished};
use serde_json::Value;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn run(folder: &Path) -> Finished {
    finished(lorhai(folder).args(["run", "case.rhai"]))
}

/// Limits a resource of the program.
fn limited(command: &mut Command, resource: libc::__rlimit_resource_t, limit: u64) -> &mut Command {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: between fork and exec one call that is allowed there.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

const TRAIN: &str = r#"
let model = load_model("scripts/tiny", #{ dtype: "f32" });
let data = dataset([#{ prompt: "a", completion: " b c d" }]).tokenize(model, #{});
model.add_lora(#{ r: 1 });
"#;

#[test]
fn a_log_that_cannot_be_written_ends_no_training() {
    let train = r#"train(model, data, #{ steps: 700, batch: 1, log_every: 1, out: "runs/x" }); print("end");"#;
    let folder = folder_with_script(&format!("{TRAIN}{train}"));
    const LIMIT: u64 = 60_000;
    let finished = finished(limited(lorhai(folder.path()).args(["run", "case.rhai"]), libc::RLIMIT_FSIZE, LIMIT));
    assert_eq!((finished.code, finished.output.as_str()), (Some(0), "end\n"), "{}", finished.errors);
    // Once when it began and once at the end, for each of the two logs at most.
    let notes = finished.errors.lines().filter(|line| line.contains("metrics.jsonl`")).collect::<Vec<_>>();
    assert_eq!(notes.len(), 2, "{notes:#?}");
    assert!(notes[0].contains("cannot be written") && notes[1].contains("records could not be written"), "{notes:#?}");
    let text = std::fs::read_to_string(folder.path().join("runs/x/metrics.jsonl")).unwrap();
    assert!(text.len() as u64 <= LIMIT && text.ends_with('\n'));
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("every line is whole")).collect();
    assert_eq!(rows.last().unwrap()["step"], rows.len());
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        assert!(folder.path().join("runs/x/adapter").join(name).is_file());
    }
    assert!(!folder.path().join("runs/x/.reserved").exists());
}

/// A file system of its own, of so many bytes.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).status();
        assert!(mounted.unwrap().success(), "this test needs the right to mount");
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
#[ignore = "needs the right to mount a file system"]
fn on_a_disk_that_fills_up_the_adapter_is_saved() {
    let disk = SmallDisk::new(400_000);
    let train = format!(
        r#"train(model, data, #{{ steps: 4000, batch: 1, log_every: 1, out: "{}/x" }}); print("end");"#,
        disk.0.path().display()
    );
    let folder = folder_with_script(&format!("{TRAIN}{train}"));
    let finished = run(folder.path());
    assert_eq!((finished.code, finished.output.as_str()), (Some(0), "end\n"), "{}", finished.errors);
    assert!(
        finished.errors.contains("metrics.jsonl`: cannot be written (No space left on device)"),
        "{}",
        finished.errors
    );
    assert!(disk.0.path().join("x/adapter/adapter_model.safetensors").is_file());
    let text = std::fs::read_to_string(disk.0.path().join("x/metrics.jsonl")).unwrap();
    text.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).expect("every line is whole")));
}

#[test]
#[ignore = "needs the right to mount a file system"]
fn too_little_room_for_the_adapter_is_known_before_the_first_step() {
    let disk = SmallDisk::new(60_000);
    let out = disk.0.path().display();
    let train = format!(r#"train(model, data, #{{ steps: 4000, batch: 1, out: "{out}/x" }}); print("end");"#);
    let folder = folder_with_script(&format!("{TRAIN}{train}"));
    let finished = run(folder.path());
    assert_eq!((finished.code, finished.output.as_str()), (Some(1), ""));
    assert!(finished.errors.contains("error: no room in `"), "{}", finished.errors);
    assert!(!finished.errors.contains("step "), "{}", finished.errors);
}

/// Runs a sweep over these learning rates.
fn sweep(folder: &Path, rates: &str) -> Finished {
    let script = r#"
        let cfg = args(#{ lrs: [1e-3] });
        let model = load_model("scripts/tiny", #{ dtype: "f32" });
        let data = dataset([#{ prompt: "a", completion: " b c" }, #{ prompt: "b", completion: " c d" }])
            .tokenize(model, #{}).split(#{ test: 1 });
        let grid = #{ lr: cfg.lrs };
        sweep(model, data, #{ grid: grid, train: #{ steps: 5, batch: 1, max_grad_norm: 0.0 }, out: "runs/x", charts: false });
        print("end");"#;
    std::fs::write(folder.join("case.rhai"), script).unwrap();
    finished(lorhai(folder).args(["run", "--quiet", "case.rhai", "--set", &format!("lrs={rates}")]))
}

#[test]
fn the_exit_code_says_whether_trials_failed() {
    for (rates, code, line) in [
        ("1e-3,2e-3", 0, ""),
        ("1e-3,1e38", 3, "error: 1 of 2 trials failed"),
        ("1e37,1e38", 1, "error: all 2 trials failed"),
        ("1e38", 1, "error: the trial failed"),
    ] {
        let folder = folder_with_scripts();
        let finished = sweep(folder.path(), rates);
        assert_eq!(finished.code, Some(code), "{rates}: {}", finished.errors);
        // The script went on to its end either way.
        assert_eq!(finished.output, "end\n");
        assert!(finished.errors.starts_with(line), "{rates}: {}", finished.errors);
        // Run again, the failed ones are tried again and count again.
        assert_eq!(sweep(folder.path(), rates).code, Some(code));
    }
}

/// The exit code of `lorhai run` after `signal`, which it gets in the middle of its work; without one nobody reads its
/// output any more.
fn code_after(signal: Option<libc::c_int>) -> Option<i32> {
    let folder = folder_with_script(r#"print("ready"); loop { sleep(0.01); print("more"); }"#);
    let mut command = lorhai(folder.path());
    let mut child = command.args(["run", "case.rhai"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 6]).unwrap();
    if let Some(signal) = signal {
        // SAFETY: a child of ours that was not waited for: its number is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    } else {
        drop(output);
    }
    child.wait().unwrap().code()
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let run = |script: &str, option: &str| {
        let folder = folder_with_script(script);
        finished(lorhai(folder.path()).args(["run", option, "case.rhai"])).code
    };
    let sweep = |rates| sweep(folder_with_scripts().path(), rates).code;
    let codes = [
        (0, run("1;", "--quiet")),
        (1, run("nope();", "--quiet")),
        (2, run("1;", "--nope")),
        (3, sweep("1e-3,1e38")),
        (129, code_after(Some(libc::SIGHUP))),
        (130, code_after(Some(libc::SIGINT))),
        (138, code_after(Some(libc::SIGUSR1))),
        (141, code_after(None)),
        (143, code_after(Some(libc::SIGTERM))),
    ];
    for (expected, code) in codes {
        assert_eq!(code, Some(expected));
    }
    let text = std::fs::read_to_string(common::files::root().join("docs/troubleshooting.md")).unwrap();
    let section = text.split("## Exit codes\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let documented = section.lines().filter_map(|line| line.split('|').nth(1)?.trim().parse().ok());
    assert_eq!(documented.collect::<Vec<i32>>(), codes.map(|(code, _)| code));
}

/// A script that stands still after "ready" until the file `go` is there, and then runs `rest`.
fn start_with_copy(rest: &str) -> (TempDir, Child) {
    let script = format!(
        r#"
        let model = load_model("copy", #{{ dtype: "f32" }});
        let data = dataset([#{{ prompt: "a", completion: " b c d" }}]).tokenize(model, #{{}});
        model.add_lora(#{{ r: 1 }});
        print("ready");
        let waits = true;
        while waits {{ try {{ read_text("go"); waits = false; }} catch {{ sleep(0.02); }} }}
        {rest}
        print("end");"#
    );
    let folder = folder_with_script(&script);
    std::fs::create_dir(folder.path().join("copy")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let (from, to) = (tiny_folder().join(name), folder.path().join("copy").join(name));
        // As if it had lain there for long.
        std::fs::write(&to, std::fs::read(from).unwrap()).unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
        std::fs::File::options().write(true).open(&to).unwrap().set_modified(long_ago).unwrap();
    }
    let mut command = lorhai(folder.path());
    command.args(["run", "--quiet", "case.rhai"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"ready\n");
    (folder, child)
}

fn go(folder: &Path, child: Child) -> Finished {
    std::fs::write(folder.join("go"), "go").unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_model_that_is_truncated_while_in_use_ends_in_an_error_that_names_it() {
    for rest in [r#"model.generate("a");"#, r#"train(model, data, #{ steps: 3, out: "runs/x" });"#] {
        let (folder, child) = start_with_copy(rest);
        let weights = std::fs::File::options().write(true).open(folder.path().join("copy/model.safetensors")).unwrap();
        weights.set_len(0).unwrap();
        let finished = go(folder.path(), child);
        assert_eq!((finished.code, finished.output.as_str()), (Some(1), ""), "{}", finished.errors);
        let expected = "error: `copy/model.safetensors` was truncated while in use: results are void\n  = hint: ";
        assert!(finished.errors.starts_with(expected), "{}", finished.errors);
        assert!(!folder.path().join("runs/x/adapter").exists());
    }
}

#[test]
fn nothing_is_saved_from_a_model_that_was_overwritten_while_in_use() {
    for rest in [
        r#"train(model, data, #{ steps: 3, out: "runs/x" });"#,
        r#"model.save_adapter("saved");"#,
        r#"model.save_merged("saved");"#,
        r#"model.save("saved");"#,
        r#"model.export_gguf("saved/x.gguf");"#,
        r#"evaluate(model, data, #{});"#,
    ] {
        let (folder, child) = start_with_copy(rest);
        let path = folder.path().join("copy/model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
        // In place, as `cp` does.
        std::io::Write::write_all(&mut std::fs::File::options().write(true).open(&path).unwrap(), &bytes).unwrap();
        let finished = go(folder.path(), child);
        assert_eq!((finished.code, finished.output.as_str()), (Some(1), ""), "{rest}: {}", finished.errors);
        let expected = "error: `copy/model.safetensors` changed while in use: results are void";
        assert!(finished.errors.contains(expected), "{rest}: {}", finished.errors);
        for saved in ["saved/adapter_model.safetensors", "saved/model.safetensors", "saved/x.gguf", "runs/x/adapter"] {
            assert!(!folder.path().join(saved).exists(), "{rest}: {saved}");
        }
    }
    // Replaced by a rename, it stays what it was.
    let (folder, child) = start_with_copy(r#"model.save_adapter("saved");"#);
    std::fs::copy(tiny_folder().join("model.safetensors"), folder.path().join("other")).unwrap();
    std::fs::rename(folder.path().join("other"), folder.path().join("copy/model.safetensors")).unwrap();
    let finished = go(folder.path(), child);
    assert_eq!((finished.code, finished.output.as_str()), (Some(0), "end\n"), "{}", finished.errors);
}

#[test]
fn no_result_comes_from_a_model_that_was_overwritten_while_in_use() {
    for rest in [
        r#"print(model.generate("a", #{ max_new_tokens: 2 }));"#,
        r#"print(model.chat("a", #{ max_new_tokens: 2 }));"#,
        r#"print(compare(model, ["base", "default"], ["a"], #{ max_new_tokens: 2 }).table());"#,
        r#"print(evaluate(model, data, #{}));"#,
        r#"print(perplexity(model, ["a b c"], #{}));"#,
        r#"for batch in data.batches(#{ size: 1 }) { print(model.forward(batch).loss); }"#,
        r#"model.merge(); print("merged");"#,
    ] {
        // A byte of the last weight, and bytes that make numbers that are not finite.
        for byte in [1, 0xff] {
            let (folder, child) = start_with_copy(rest);
            let path = folder.path().join("copy/model.safetensors");
            let mut bytes = std::fs::read(&path).unwrap();
            let end = bytes.len() - 1;
            match byte {
                1 => bytes[end] ^= 1,
                _ => bytes[end / 2..].fill(byte),
            }
            std::io::Write::write_all(&mut std::fs::File::options().write(true).open(&path).unwrap(), &bytes).unwrap();
            let finished = go(folder.path(), child);
            assert_eq!((finished.code, finished.output.as_str()), (Some(1), ""), "{rest}: {}", finished.errors);
            let expected = "`copy/model.safetensors` changed while in use: results are void";
            assert!(finished.errors.contains(expected), "{rest}: {}", finished.errors);
        }
    }
}

#[test]
fn a_model_that_is_loaded_again_after_the_change_works() {
    let rest = r#"
        let again = load_model("copy", #{ dtype: "f32" });
        again.generate("a", #{ max_new_tokens: 1 });
        print("again");
        model.generate("a", #{ max_new_tokens: 1 });"#;
    let (folder, child) = start_with_copy(rest);
    let path = folder.path().join("copy/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::io::Write::write_all(&mut std::fs::File::options().write(true).open(&path).unwrap(), &bytes).unwrap();
    let finished = go(folder.path(), child);
    assert_eq!((finished.code, finished.output.as_str()), (Some(1), "again\n"), "{}", finished.errors);
    assert!(finished.errors.contains("`copy/model.safetensors` changed while in use"), "{}", finished.errors);
}

#[test]
fn pipes_and_devices_in_the_place_of_files_are_refused_in_time() {
    let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let device = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let cases: [(&str, &str); 6] = [
        (r#"load_model("m");"#, "m/config.json"),
        (r#"load_model("scripts/tiny").load_adapter("a");"#, "a/adapter_config.json"),
        (r#"import "module" as m;"#, "module.rhai"),
        (r#"read_text("text");"#, "text"),
        (r#"read_json("value.json");"#, "value.json"),
        (r#"load_dataset("rows.jsonl");"#, "rows.jsonl"),
    ];
    for (script, name) in cases {
        for (make, found) in [(&fifo as &dyn Fn(&Path), "a pipe"), (&device, "a device")] {
            let folder = folder_with_script(script);
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if name == "a/adapter_config.json" {
                std::fs::write(path.with_file_name("adapter_model.safetensors"), "x").unwrap();
            }
            make(&path);
            let started = Instant::now();
            let mut command = lorhai(folder.path());
            // Should it read a device without an end.
            let finished = finished(limited(command.args(["run", "case.rhai"]), libc::RLIMIT_CPU, 20));
            let time = started.elapsed();
            assert_eq!(finished.code, Some(1), "{script}, {found}: {}", finished.errors);
            let stem = name.split('.').next().unwrap();
            assert!(finished.errors.contains(stem), "{script}, {found}: {}", finished.errors);
            assert!(time < Duration::from_secs(10), "{script}, {found}: {time:?}");
        }
    }
}

#[test]
fn ctrl_c_ends_a_sleep_and_a_large_array() {
    for (work, patience) in [("sleep(1000);", 1), ("let a = []; a.pad(200000000, 1);", 3)] {
        let folder = folder_with_script(&format!(r#"print("ready"); {work}"#));
        let mut command = lorhai(folder.path());
        command.args(["run", "--max-memory", "64GB", "case.rhai"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        // SAFETY: a child of ours that was not waited for: its number is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
        let asked = Instant::now();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(asked.elapsed() < Duration::from_secs(patience), "{work} {:?}", asked.elapsed());
    }
}

#[test]
fn an_allocation_that_fails_is_an_error_with_a_hint() {
    let folder = folder_with_script("let all = []; loop { let x = []; x.pad(20000000, 1); all.push(x); }");
    let mut command = lorhai(folder.path());
    let finished = finished(limited(command.args(["run", "case.rhai"]), libc::RLIMIT_AS, 3 << 30));
    assert_eq!(finished.code, Some(1), "{}", finished.errors);
    assert!(finished.errors.contains("memory") && finished.errors.contains("hint: "), "{}", finished.errors);
}

#[test]
fn memory_that_the_system_refuses_ends_with_the_function_and_the_line() {
    let folder = folder_with_script("let path = \"rows.txt\";\n\nload_dataset(path);");
    // One line of zeros that takes no place on the disk.
    std::fs::File::create(folder.path().join("rows.txt")).unwrap().set_len(8 << 30).unwrap();
    let mut command = lorhai(folder.path());
    let finished = finished(limited(command.args(["run", "case.rhai"]), libc::RLIMIT_AS, 3 << 30));
    assert_eq!(finished.code, Some(1), "{}", finished.errors);
    let expected =
        "error: out of memory in `load_dataset`, called in line 3: this machine, or the limit on this process, \
                    has none left\n  = hint: use a smaller batch";
    assert!(finished.errors.contains(expected), "{}", finished.errors);
}
