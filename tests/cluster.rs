//! `lorhai submit`, `status` and `cancel`, with programs that stand for Slurm's. `tests/slurm.rs` runs a real one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::files::root;
use common::needs::python;
use common::program::{finished, lorhai, Finished};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A sweep that needs no model. A trial takes as long as the setting `pause` says.
const SCRIPT: &str = r#"
let cfg = args(#{ out: "runs/a", pause: 0.0, bad: 0 });
sweep(#{ grid: #{ x: [1, 2, 3] }, out: cfg.out, trial: |point, run| {
    sleep(cfg.pause);
    if point.x == cfg.bad { throw "no luck"; }
    #{ score: point.x }
} });
"#;

/// A working folder with the script, where Slurm's commands are those of `bin`.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        fs::write(desk.path().join("my sweep.rhai"), SCRIPT).unwrap();
        fs::create_dir(desk.path().join("bin")).unwrap();
        desk
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a program into `bin`, which also records its arguments.
    fn stand_in(&self, name: &str, text: &str) {
        let path = self.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >> '{}/calls'\n{text}\n", self.path().display()))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path().join("calls")).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = lorhai(self.path());
        command.args(arguments).env("PATH", format!("{}:/usr/bin:/bin", self.path().join("bin").display()));
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finished(&mut self.command(arguments))
    }

    /// A command that succeeds, and what it prints.
    fn prints(&self, arguments: &[&str]) -> String {
        let end = self.run(arguments);
        assert_eq!(end.code, Some(0), "{arguments:?}: {}", end.errors);
        end.output
    }

    /// A command that fails, and its errors.
    fn fails(&self, arguments: &[&str]) -> String {
        let end = self.run(arguments);
        assert_eq!(end.code, Some(1), "{arguments:?}: {}", end.output);
        end.errors
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

#[test]
fn print_shows_the_script_and_does_nothing_else() {
    let desk = Desk::new();
    let text = desk.prints(&["submit", "slurm", "my sweep.rhai", "--tasks", "8", "--throttle", "2", "--print"]);
    assert!(text.starts_with("#!/bin/bash\n") && text.contains("#SBATCH --array=0-7%2\n"), "{text}");
    let logs = fs::canonicalize(desk.path()).unwrap().join("runs/a/slurm/%A_%a.log");
    assert!(text.contains(&format!("#SBATCH --output={}\n", logs.display())), "{text}");
    assert!(text.contains(" run 'my sweep.rhai' --shared &\n"), "{text}");
    assert!(!desk.path().join("runs").exists() && desk.calls().is_empty());
}

#[test]
fn submit_leaves_script_and_job_in_out() {
    let desk = Desk::new();
    desk.stand_in("sbatch", "echo '42;east'");
    let text =
        desk.prints(&["submit", "slurm", "my sweep.rhai", "--set", "out=runs/b", "--sbatch", "--account=lab -q low"]);
    assert_eq!(text, "submitted runs/b/slurm/my_sweep.sh as job 42\nprogress: lorhai status runs/b\n");
    assert_eq!(desk.calls(), "sbatch --parsable runs/b/slurm/my_sweep.sh\n");
    let script = desk.read("runs/b/slurm/my_sweep.sh");
    assert!(
        script.contains("#SBATCH --account=lab -q low\n") && script.contains(" --set 'out=runs/b' &\n"),
        "{script}"
    );
    let job: Value = serde_json::from_str(&desk.read("runs/b/slurm/jobs.jsonl")).unwrap();
    assert_eq!((&job["job"], &job["tasks"]), (&"42".into(), &4.into()));
    // The folder is there before the sweep, which takes it all the same.
    desk.prints(&["run", "my sweep.rhai", "--set", "out=runs/b", "--quiet"]);
    assert!(desk.path().join("runs/b/results.json").is_file());
}

#[test]
fn what_cannot_be_submitted_is_refused_before_anything_is_recorded() {
    let desk = Desk::new();
    let submit = ["submit", "slurm", "my sweep.rhai"];
    let errors = desk.fails(&submit);
    assert!(
        errors.contains("expected Slurm's command `sbatch`, found none in PATH") && errors.contains("login node"),
        "{errors}"
    );
    desk.stand_in("sbatch", "echo 'sbatch: error: invalid partition' >&2\nexit 1");
    let errors = desk.fails(&submit);
    assert!(errors.contains("sbatch refused `runs/a/slurm/my_sweep.sh`: sbatch: error: invalid partition"), "{errors}");
    assert!(!desk.path().join("runs/a/slurm/jobs.jsonl").exists());
    desk.stand_in("sbatch", "echo 7");
    let errors = desk.fails(&["submit", "slurm", "my sweep.rhai", "--set", "pausee=1"]);
    assert!(errors.contains("--set pausee") && errors.contains("did you mean `pause`?"), "{errors}");
    fs::write(desk.path().join("wrong.rhai"), "train(#{ stepps: 3 });").unwrap();
    assert!(desk.fails(&["submit", "slurm", "wrong.rhai"]).contains("wrong.rhai: 1 problem"));
    assert_eq!(desk.run(&["submit", "slurm", "my sweep.rhai", "--tasks", "0"]).code, Some(2));
    assert_eq!(desk.run(&["submit", "my sweep.rhai"]).code, Some(2));
    assert!(!desk.path().join("runs/a/slurm/jobs.jsonl").exists());
}

#[test]
fn a_computed_out_has_to_be_named() {
    let desk = Desk::new();
    desk.stand_in("sbatch", "echo 7");
    let script =
        SCRIPT.replace("out: \"runs/a\", ", "name: \"a\", ").replace("out: cfg.out", "out: \"runs/\" + cfg.name");
    fs::write(desk.path().join("named.rhai"), script).unwrap();
    let errors = desk.fails(&["submit", "slurm", "named.rhai"]);
    assert!(errors.contains("cannot tell the `out` of `named.rhai`") && errors.contains("--out FOLDER"), "{errors}");
    desk.prints(&["submit", "slurm", "named.rhai", "--out", "runs/a"]);
    assert!(desk.path().join("runs/a/slurm/jobs.jsonl").is_file());
    // The script's own setting says where it writes.
    let errors = desk.fails(&["submit", "slurm", "my sweep.rhai", "--out", "runs/c"]);
    assert!(errors.contains("the script writes to `runs/a`") && errors.contains("--set out=runs/c"), "{errors}");
}

#[test]
fn cancel_ends_the_jobs_that_wait_or_run() {
    let desk = Desk::new();
    assert!(desk.fails(&["cancel", "runs/a"]).contains("`runs/a` names no job"));
    for job in [41, 42, 43] {
        desk.stand_in("sbatch", &format!("echo {job}"));
        desk.prints(&["submit", "slurm", "my sweep.rhai"]);
    }
    desk.stand_in("scancel", "");
    desk.stand_in("squeue", "printf '42_0|RUNNING|node7|1:02\\n42_[1-3]|PENDING|(Resources)|0:00\\n'");
    fs::remove_file(desk.path().join("calls")).unwrap();
    assert_eq!(desk.prints(&["cancel", "runs/a"]), "cancelled job 42: what is finished stays; submit again to go on\n");
    let calls = desk.calls();
    assert!(calls.contains("--jobs=41,42,43\n") && calls.ends_with("scancel 42\n"), "{calls}");
    desk.stand_in("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
    assert_eq!(desk.prints(&["cancel", "runs/a"]), "none of the jobs waits or runs: 41, 42, 43\n");
    desk.stand_in("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
    assert!(desk.fails(&["cancel", "runs/a"]).contains("Unable to contact slurm controller"));
}

#[test]
fn status_shows_what_is_over_and_what_waits() {
    let desk = Desk::new();
    assert!(desk.fails(&["status", "runs/a"]).contains("there is no folder `runs/a`"));
    desk.stand_in("sbatch", "echo 42");
    desk.stand_in("squeue", "printf '42_0|RUNNING|node7|1:02\\n42_[1-3]|PENDING|(Resources)|0:00\\n'");
    desk.prints(&["submit", "slurm", "my sweep.rhai"]);
    let text = desk.prints(&["status", "runs/a"]);
    assert_eq!(text, "runs/a\nnothing has begun\n\nSlurm\n  42_0      running  node7        1:02\n  42_[1-3]  pending  (Resources)  0:00\n");
    assert_eq!(desk.run(&["run", "my sweep.rhai", "--set", "bad=2", "--quiet"]).code, Some(3));
    let text = desk.prints(&["status", "runs/a"]);
    assert!(
        text.contains("3 trials: 2 finished, 1 failed\n") && text.contains("x-2") && text.contains("no luck"),
        "{text}"
    );
    fs::remove_dir_all(desk.path().join("runs/a/x-3")).unwrap();
    fs::remove_file(desk.path().join("bin/squeue")).unwrap();
    let text = desk.prints(&["status", "runs/a"]);
    assert!(text.contains("3 trials: 1 finished, 1 failed, 1 to come\n") && text.contains("\n  x-3\n"), "{text}");
    assert!(text.ends_with("Slurm jobs 42: squeue does not answer here\n"), "{text}");
    // A folder with sweeps in it.
    assert!(desk.prints(&["status", "runs"]).starts_with("runs/a\n"));
}

/// A worker that is killed at the end of the test.
struct WorkerProcess(Child);

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn status_watches_whether_workers_live() {
    let desk = Desk::new();
    let mut command = desk.command(&["run", "my sweep.rhai", "--shared", "--set", "pause=600", "--quiet"]);
    command
        .env("LORHAI_STALE_AFTER", "6")
        .env("LORHAI_SWEEP_RUN", "slurm-77")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut worker = WorkerProcess(command.spawn().unwrap());
    let begun = Instant::now();
    let text = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "no worker trains");
        let end = desk.run(&["status", "runs/a"]);
        if end.output.contains("x-1") && end.output.contains("1 running") {
            break end.output;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(text.contains("3 trials: 1 running, 2 to come\n") && text.contains("  moves  "), "{text}");
    // Its run names the job, although nothing was submitted here.
    assert!(text.contains("Slurm jobs 77: squeue does not answer here"), "{text}");
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    let text = desk.prints(&["status", "runs/a"]);
    assert!(text.contains("  has ended  "), "{text}");
    assert!(!text.contains(" left with "), "{text}");
}

/// The recipe of docs/cluster.md for a program, as it stands there, for two workers without a GPU.
fn recipe(program: &str) -> String {
    let text = fs::read_to_string(root().join("docs/cluster.md")).unwrap();
    let begin = text.find(&format!("\n    {program} ")).unwrap_or_else(|| panic!("no recipe for {program}"));
    let lines = text[begin + 1..].lines().take_while(|line| line.starts_with("    ")).map(str::trim);
    let recipe = lines.collect::<Vec<_>>().join("\n");
    let of_one_machine = [("CUDA_VISIBLE_DEVICES=$LOCAL_RANK ", ""), ("CUDA_VISIBLE_DEVICES=$(({%} - 1)) ", "")];
    let of_two = [("--nproc-per-node 4", "--nproc-per-node 2"), ("--jobs 4", "--jobs 2"), ("::: 1 2 3 4", "::: 1 2")];
    of_one_machine.into_iter().chain(of_two).fold(recipe, |recipe, (from, to)| recipe.replace(from, to))
}

/// Runs a recipe, and checks that two workers shared the sweep.
fn ensure_shared(desk: &Desk, recipe: &str) {
    fs::write(desk.path().join("sweep.rhai"), SCRIPT.replace("pause: 0.0", "pause: 1.0")).unwrap();
    let program = env!("CARGO_BIN_EXE_lorhai");
    std::os::unix::fs::symlink(program, desk.path().join("bin/lorhai")).unwrap();
    let path = format!("{}:{}", desk.path().join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg("-c").arg(recipe).current_dir(desk.path()).env("PATH", path);
    let end = finished(command.env("LORHAI_CACHE", desk.path().join("cache")));
    assert_eq!(end.code, Some(0), "{recipe}\n{}{}", end.output, end.errors);
    let rows: Value = serde_json::from_str(&desk.read("runs/a/results.json")).unwrap();
    let scores: Vec<f64> = rows.as_array().unwrap().iter().map(|row| row["score"].as_f64().unwrap()).collect();
    assert_eq!(scores, [1.0, 2.0, 3.0]);
    let worker = |x: u32| -> String {
        let record: Value = serde_json::from_str(&desk.read(&format!("runs/a/x-{x}/result.json"))).unwrap();
        record["place"]["worker"].as_str().unwrap().to_owned()
    };
    assert_eq!(BTreeSet::from([worker(1), worker(2), worker(3)]).len(), 2);
}

#[test]
#[ignore = "needs PEER_PYTHON"]
fn torchrun_starts_workers() {
    let desk = Desk::new();
    desk.stand_in("torchrun", &format!("exec {:?} -m torch.distributed.run \"$@\"", python("PEER_PYTHON")));
    ensure_shared(&desk, &recipe("torchrun"));
}

#[test]
#[ignore = "needs parallel"]
fn gnu_parallel_starts_workers() {
    ensure_shared(&Desk::new(), &recipe("parallel"));
}
