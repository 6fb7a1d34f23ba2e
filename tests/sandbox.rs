//! `lorhai run --sandbox` against scripts that try to leave it, and what an honest script can still do there.
//!
//! Each attack is a script in a folder of its own, beside a folder with a secret. It must fail with the message in the
//! table, the secret must be nowhere in what the program printed or wrote, and nothing outside may have changed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::root;
use common::program::{finished, lorhai, Finished};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const SECRET: &str = "hf_canary_4711";
const READ: &str = "outside what the sandbox allows";
const HUB: &str = "the sandbox has no hub";

/// `jail/` holds the script, its model and links that lead out; `outside/` the secret; `home/` the hub token.
struct Place {
    scratch: TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { scratch: tempfile::tempdir().unwrap() };
        for folder in ["jail/runs", "outside/folder", "home/.cache/huggingface/hub"] {
            fs::create_dir_all(place.at(folder)).unwrap();
        }
        copy(&root().join("scripts/tiny"), &place.at("jail/tiny"));
        copy(&root().join("scripts/tiny"), &place.at("outside/model"));
        fs::write(place.at("home/.cache/huggingface/token"), SECRET).unwrap();
        fs::write(place.at("outside/secret.txt"), SECRET).unwrap();
        fs::write(place.at("outside/secret.json"), format!("{{\"a\": \"{SECRET}\"}}")).unwrap();
        fs::write(place.at("outside/secret.jsonl"), format!("{{\"text\": \"{SECRET}\"}}\n")).unwrap();
        fs::write(place.at("outside/secret.csv"), format!("text\n{SECRET}\n")).unwrap();
        fs::write(place.at("outside/secret.rhai"), format!("export const SECRET = \"{SECRET}\";\n")).unwrap();
        fs::write(place.at("outside/template.jinja"), SECRET).unwrap();
        symlink("../outside", place.at("jail/folder_link")).unwrap();
        symlink("../outside/secret.txt", place.at("jail/file_link")).unwrap();
        symlink(place.at("outside/secret.jsonl"), place.at("jail/rows.jsonl")).unwrap();
        symlink("../outside/secret.rhai", place.at("jail/module.rhai")).unwrap();
        symlink("../../outside/new.txt", place.at("jail/runs/to_new")).unwrap();
        symlink("../../outside/folder", place.at("jail/runs/to_folder")).unwrap();
        symlink("/proc/self/environ", place.at("jail/environ")).unwrap();
        symlink("/", place.at("jail/root")).unwrap();
        // Models whose parts lie outside.
        for (name, file) in
            [("weights_out", "model.safetensors"), ("config_out", "config.json"), ("tokens_out", "tokenizer.json")]
        {
            let folder = place.at("jail").join(name);
            copy(&root().join("scripts/tiny"), &folder);
            fs::remove_file(folder.join(file)).unwrap();
            symlink(place.at("outside/model").join(file), folder.join(file)).unwrap();
        }
        let index = "{\"metadata\": {}, \"weight_map\": {\"x\": \"../../outside/model/model.safetensors\"}}";
        let sharded = place.at("jail/index_out");
        copy(&root().join("scripts/tiny"), &sharded);
        fs::remove_file(sharded.join("model.safetensors")).unwrap();
        fs::write(sharded.join("model.safetensors.index.json"), index).unwrap();
        let templated = place.at("jail/template_out");
        copy(&root().join("scripts/tiny"), &templated);
        symlink(place.at("outside/template.jinja"), templated.join("chat_template.jinja")).unwrap();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.path().canonicalize().unwrap().join(path)
    }

    /// The program in the folder of the script, with secrets in its environment.
    fn command(&self, script: &str) -> Command {
        fs::write(
            self.at("jail/attack.rhai"),
            script
                .replace("OUTSIDE", self.at("outside").to_str().unwrap())
                .replace("HOME", self.at("home").to_str().unwrap()),
        )
        .unwrap();
        let mut command = lorhai(&self.at("jail"));
        command.env("HF_TOKEN", SECRET).env("HOME", self.at("home")).env("OMP_NUM_THREADS", "1").env_remove("HF_HOME");
        command.env("XDG_CACHE_HOME", self.at("home/.cache")).env_remove("HF_HUB_CACHE").env_remove("HF_TOKEN_PATH");
        command.args(["run", "--quiet", "--sandbox", "attack.rhai"]);
        command
    }

    fn run(&self, script: &str) -> Finished {
        finished(&mut self.command(script))
    }

    /// Every file outside, with its content.
    fn outside(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for folder in ["outside", "home"] {
            list(&self.at(folder), &mut files);
        }
        files.sort();
        files
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "train.jsonl"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn list(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
}

/// An attack, its script, and a part of the error that ends it.
const ATTACKS: &[(&str, &str, &str)] = &[
    ("a path upwards", r#"print(read_text("../outside/secret.txt"));"#, READ),
    ("an absolute path", r#"print(read_text("OUTSIDE/secret.txt"));"#, READ),
    ("a path down and up again", r#"print(read_text("tiny/../../outside/secret.txt"));"#, READ),
    ("up behind a folder that does not exist", r#"print(read_text("none/../../outside/secret.txt"));"#, READ),
    ("a link to a file", r#"print(read_text("file_link"));"#, READ),
    ("a link to a folder", r#"print(read_json("folder_link/secret.json"));"#, READ),
    ("a link to the root", r#"print(read_text("root/etc/hostname"));"#, READ),
    ("a file of the system", r#"print(read_text("/etc/passwd"));"#, READ),
    ("a library of the program", r#"print(read_text("/proc/self/exe"));"#, READ),
    ("the environment", r#"print(read_text("/proc/self/environ"));"#, READ),
    ("the environment by a link", r#"print(read_text("environ"));"#, READ),
    ("an open file", r#"print(read_text("/proc/self/fd/0"));"#, READ),
    ("the root of the process", r#"print(read_text("/proc/self/root/etc/hostname"));"#, READ),
    ("the working folder of the process", r#"print(read_text("/proc/self/cwd/../outside/secret.txt"));"#, READ),
    ("the environment of another process", r#"print(read_text("/proc/1/environ"));"#, READ),
    ("a table that the program itself reads", r#"print(read_text("/proc/self/status"));"#, READ),
    ("a device", r#"print(read_text("/dev/stdin"));"#, READ),
    ("the hub token", r#"print(read_text("HOME/.cache/huggingface/token"));"#, READ),
    ("a file that is not there", r#"print(read_text("OUTSIDE/no_such_file"));"#, READ),
    ("a module upwards", r#"import "../outside/secret" as s; print(s::SECRET);"#, "outside the script's folder"),
    ("a module by a link", r#"import "module" as s; print(s::SECRET);"#, "outside the script's folder"),
    ("rows by an absolute path", r#"print(load_dataset("OUTSIDE/secret.jsonl").rows);"#, READ),
    ("rows by a link", r#"print(load_dataset("rows.jsonl").rows);"#, READ),
    ("rows of a folder", r#"print(load_dataset("OUTSIDE").rows);"#, READ),
    ("rows by a pattern", r#"print(load_dataset("../outside/*.csv").rows);"#, READ),
    ("rows of a page", r#"print(load_dataset("http://127.0.0.1:9/x.jsonl").rows);"#, "no data set"),
    ("rows of the hub", r#"print(load_dataset("skt/kobest_v1").rows);"#, HUB),
    ("kobest from the hub", r#"kobest(load_model("tiny"), #{ data: "skt/kobest_v1" });"#, HUB),
    ("a model of the hub", r#"load_model("Qwen/Qwen2.5-0.5B");"#, HUB),
    ("a model outside", r#"load_model("../outside/model");"#, READ),
    ("a random model outside", r#"random_model("OUTSIDE/model", #{});"#, READ),
    ("a model with weights outside", r#"load_model("weights_out");"#, READ),
    ("a model with its configuration outside", r#"load_model("config_out");"#, READ),
    ("a model with its tokenizer outside", r#"load_model("tokens_out");"#, READ),
    ("a model with a shard outside", r#"load_model("index_out");"#, "index.json"),
    ("a model with its template outside", r#"print(load_model("template_out").chat_template);"#, READ),
    ("an adapter outside", r#"load_model("tiny").load_adapter("../outside/model");"#, READ),
    ("an adapter of the hub", r#"load_model("tiny").load_adapter("owner/adapter");"#, HUB),
    ("a memory plan of the hub", r#"memory_plan("Qwen/Qwen2.5-0.5B", #{});"#, HUB),
    ("an earlier sweep outside", r#"open_sweep("../outside/folder");"#, READ),
    ("a chart of runs outside", r#"run_chart(["../outside/folder"], #{});"#, READ),
    ("a text upwards", r#"write_text("../outside/new.txt", "x");"#, READ),
    ("a text over another", r#"write_text("OUTSIDE/secret.txt", "x");"#, READ),
    ("a text over the script", r#"write_text("attack.rhai", "x");"#, "it is a script that is running"),
    ("a text through a link", r#"write_text("runs/to_new", "x");"#, READ),
    ("a text into a linked folder", r#"write_text("runs/to_folder/new.txt", "x");"#, READ),
    ("JSON in the home folder", r#"write_json("HOME/.bashrc", 1);"#, READ),
    ("a text to a device", r#"write_text("/dev/shm/lorhai_attack", "x");"#, READ),
    (
        "an adapter saved outside",
        r#"let m = load_model("tiny"); m.add_lora(#{ r: 2 }); m.save_adapter("../outside/adapter");"#,
        READ,
    ),
    ("a model saved outside", r#"load_model("tiny").save("OUTSIDE/saved");"#, READ),
    (
        "a merge outside",
        r#"let m = load_model("tiny"); m.add_lora(#{ r: 2 }); m.save_merged("../outside/merged", #{});"#,
        READ,
    ),
    ("a GGUF file outside", r#"load_model("tiny").export_gguf("../outside/model.gguf", #{});"#, READ),
    (
        "a chart outside",
        r#"line_chart(#{ series: [#{ name: "a", points: [[1, 2]] }], x: "x", y: "y" }).save("OUTSIDE/a.svg");"#,
        READ,
    ),
    ("a chart of any data outside", r#"chart(#{ line: #{ y: [1, 2] }, out: "OUTSIDE/a.pdf" });"#, READ),
    ("a font outside", r#"chart(#{ line: #{ y: [1, 2] }, font: "../outside/secret.txt" });"#, READ),
    (
        "a run outside",
        r#"let m = load_model("tiny"); m.add_lora(#{ r: 2 }); let d = load_dataset("tiny/train.jsonl").take(8).tokenize(m, #{}); train(m, d, #{ steps: 1, out: "../outside/run" });"#,
        READ,
    ),
    (
        "a sweep outside",
        r#"let m = load_model("tiny"); let d = load_dataset("tiny/train.jsonl").take(8).tokenize(m, #{}).split(#{ test: 2 }); sweep(m, d, #{ grid: #{ rank: [2] }, train: #{ steps: 1 }, out: "OUTSIDE/sweep" });"#,
        READ,
    ),
    (
        "a sweep into a linked folder",
        r#"let m = load_model("tiny"); let d = load_dataset("tiny/train.jsonl").take(8).tokenize(m, #{}).split(#{ test: 2 }); sweep(m, d, #{ grid: #{ rank: [2] }, train: #{ steps: 1 }, out: "runs/to_folder/sweep" });"#,
        READ,
    ),
];

#[test]
fn attacks_are_refused() {
    let place = Place::new();
    let before = place.outside();
    let mut failures = Vec::new();
    for (name, script, expected) in ATTACKS {
        let run = place.run(script);
        let text = format!("{}{}", run.output, run.errors);
        if run.code != Some(1) || !run.errors.contains(expected) || text.contains(SECRET) {
            failures.push(format!("{name}: exit code {:?}\n{text}", run.code));
        }
    }
    assert!(failures.is_empty(), "{} of {} attacks:\n{}", failures.len(), ATTACKS.len(), failures.join("\n\n"));
    assert!(place.outside() == before, "an attack has changed a file outside");
    assert!(!Path::new("/dev/shm/lorhai_attack").exists());
    println!("{} attacks refused", ATTACKS.len());
}

/// The kernel's rules alone: what the inner layer does not look at is refused as well. `train` renames and removes
/// below `runs`, where a link is swapped between a folder inside and one outside all the while.
#[test]
fn a_link_that_is_swapped_all_the_while_leads_nowhere() {
    let place = Place::new();
    let before = place.outside();
    fs::create_dir(place.at("jail/runs/inside")).unwrap();
    let (link, spare) = (place.at("jail/runs/swapped"), place.at("jail/runs/spare"));
    let (read_link, read_spare) = (place.at("jail/swapped"), place.at("jail/spare"));
    fs::write(place.at("jail/inside.txt"), "inside").unwrap();
    let stop = AtomicBool::new(false);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                let targets = [("inside", "inside.txt"), ("../../outside/folder", "../outside/secret.txt")];
                let (folder, file) = targets[round % 2];
                symlink(folder, &spare).and_then(|()| fs::rename(&spare, &link)).unwrap();
                symlink(file, &read_spare).and_then(|()| fs::rename(&read_spare, &read_link)).unwrap();
                round += 1;
            }
        });
        let script = r#"let read = 0; let written = 0;
            for i in 0..2000 {
                try { if read_text("swapped") != "inside" { print("ESCAPED"); } read += 1; } catch {}
                try { write_text("runs/swapped/file.txt", "x"); written += 1; } catch {}
            }
            print(`${read} reads and ${written} writes inside`);"#;
        let run = place.run(script);
        stop.store(true, Ordering::Relaxed);
        run
    });
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert!(run.output.contains("inside") && !run.output.contains("ESCAPED"), "{}", run.output);
    assert!(!run.output.contains("0 reads and 0 writes"), "{}", run.output);
    assert!(place.outside() == before, "a write went outside");
    println!("{}", run.output.trim());
}

#[test]
fn folders_that_would_give_too_much_are_refused() {
    let place = Place::new();
    let script = place.at("home/attack.rhai");
    fs::write(&script, "print(1);").unwrap();
    let with = |arguments: &[&str]| {
        let mut command = lorhai(&place.at("jail"));
        command.env("HOME", place.at("home")).env("XDG_CACHE_HOME", place.at("home/.cache")).env_remove("HF_HOME");
        command.env_remove("HF_TOKEN_PATH");
        finished(command.args(["run", "--sandbox"]).args(arguments))
    };
    let home = with(&[script.to_str().unwrap()]);
    assert!(home.errors.contains("holds your home folder") && home.code == Some(1), "{}", home.errors);
    fs::write(place.at("jail/attack.rhai"), "print(1);").unwrap();
    let token = with(&["attack.rhai", "--allow-read", place.at("home/.cache").to_str().unwrap()]);
    assert!(token.errors.contains("read your hub token"), "{}", token.errors);
    // A folder `runs` that came with the script as a link.
    fs::remove_dir_all(place.at("jail/runs")).unwrap();
    symlink("../outside", place.at("jail/runs")).unwrap();
    let link = with(&["attack.rhai"]);
    assert!(link.errors.contains("`runs` is a link to"), "{}", link.errors);
    let no_sandbox = finished(lorhai(&place.at("jail")).args(["run", "attack.rhai", "--allow-hub"]));
    assert_eq!(no_sandbox.code, Some(2), "{}", no_sandbox.errors);
}

#[test]
fn what_the_user_allows_is_allowed() {
    let place = Place::new();
    let mut command = place.command(
        r#"print(read_text("OUTSIDE/secret.txt")); write_text("../outside/folder/new.txt", "written");
           print(read_text("../outside/folder/new.txt")); write_text("runs/x.txt", "x");"#,
    );
    let run = finished(command.args(["--allow-read", "../outside", "--allow-write", "../outside/folder"]));
    assert_eq!(run.output, format!("{SECRET}\nwritten\n"));
    assert!(
        run.errors.contains(READ) && run.errors.contains("runs/x.txt"),
        "--allow-write replaces runs: {}",
        run.errors
    );
    // Allowed or not, a token is never there: the hub is asked without one.
    let mut command = place.command(r#"load_model("owner/model");"#);
    command.env("HF_ENDPOINT", "http://127.0.0.1:9");
    let run = finished(command.arg("--allow-hub"));
    assert!(!run.errors.contains(HUB) && run.code == Some(1), "{}", run.errors);
}

#[test]
fn an_honest_sweep_runs_in_the_sandbox() {
    let place = Place::new();
    fs::create_dir_all(place.at("jail/scripts")).unwrap();
    copy(&root().join("scripts/tiny"), &place.at("jail/scripts/tiny"));
    fs::copy(root().join("scripts/rank_sweep.rhai"), place.at("jail/rank_sweep.rhai")).unwrap();
    let mut command = lorhai(&place.at("jail"));
    command.env("HF_TOKEN", SECRET).env("HOME", place.at("home")).env("OMP_NUM_THREADS", "2");
    command.args(["run", "--quiet", "--sandbox", "rank_sweep.rhai"]);
    for setting in ["ranks=2,4", "seeds=1", "steps=4", "out=runs/x"] {
        command.args(["--set", setting]);
    }
    let run = finished(&mut command);
    assert_eq!(run.code, Some(0), "{}", run.errors);
    for file in ["results.json", "report.html", "rank-2_seed-0/adapter/adapter_model.safetensors"] {
        assert!(place.at("jail/runs/x").join(file).exists(), "{file}: {}", run.errors);
    }
    let left = fs::read_dir(place.at("jail/runs")).unwrap().count();
    assert_eq!(left, 3, "the sweep and the two links of the attacks, no temporary files");
}

#[test]
fn a_rehearsal_and_the_prompt_run_in_the_sandbox() {
    let place = Place::new();
    let mut command = place.command(r#"write_text("runs/a.txt", "x"); print(read_text("runs/a.txt"));"#);
    let run = finished(command.arg("--dry-run"));
    assert_eq!(run.code, Some(0), "{}", run.errors);
    assert!(!place.at("jail/runs/a.txt").exists());
    let mut command = lorhai(&place.at("jail"));
    command.env("HOME", place.at("home")).args(["repl", "--quiet", "--sandbox"]);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(b"read_text(\"../outside/secret.txt\")\n1 + 1\n").unwrap();
    let run = Finished::from(child.wait_with_output().unwrap());
    assert!(run.errors.contains(READ) && !run.output.contains(SECRET), "{}{}", run.output, run.errors);
}
