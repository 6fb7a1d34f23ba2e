//! Does anything end the program, rather than an error? Script bombs, hostile arguments for every registered function,
//! and malformed files, each in a process of the real program under a limit on addresses, in the sandbox.
//!
//! `make test` runs a sample of a few seconds, `make soak` all of it for some minutes (`LORHAI_SOAK`, in seconds). Each
//! part prints a line with its counts. A process may end with an error, well, or by Ctrl-C, which it gets where it
//! runs for long; an abort, a signal or a panic fails the test.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod bombs;
mod calls;
mod damage;

use common::files::root;
use common::program::lorhai;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Addresses that a process may use: with this an allocation that is too large fails rather than swaps.
const ADDRESSES: u64 = 4 << 30;
/// After its Ctrl-C a process that goes on as long as this is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 2;

fn seconds() -> Option<f64> {
    std::env::var("LORHAI_SOAK").ok().and_then(|text| text.parse().ok())
}

/// How long a part may run: its share of `LORHAI_SOAK`, or a few seconds.
fn time(share: f64) -> Duration {
    Duration::from_secs_f64(share * seconds().unwrap_or(10.0))
}

/// When a process that does not end gets Ctrl-C.
fn long() -> Duration {
    Duration::from_secs(if seconds().is_some() { 20 } else { 5 })
}

/// A script to run, and what it is called.
pub struct Job {
    pub name: String,
    pub script: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Well,
    Error,
    Stopped,
    Died,
}

struct Outcome {
    end: End,
    output: String,
    errors: String,
}

#[derive(Default)]
struct Counts {
    run: usize,
    of: usize,
    calls: usize,
    well: usize,
    errors: usize,
    stopped: usize,
    died: Vec<String>,
    /// Errors that say that lorhai made a mistake.
    bugs: BTreeSet<String>,
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { run, of, calls, well, errors, stopped, died, bugs } = self;
        write!(out, "{run} of {of} scripts, {calls} calls: {well} ended well, {errors} with an error, {stopped} by ")?;
        write!(out, "Ctrl-C, {} died, {} mistakes of ours", died.len(), bugs.len())
    }
}

/// A folder of its own with the shipped model.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_model(&folder.path().join("tiny"));
    folder
}

/// The files are those of the shipped model, so a test that changes one removes it first.
fn copy_model(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "train.jsonl"] {
        let (from, to) = (root().join("scripts/tiny").join(name), to.join(name));
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).unwrap();
    }
}

/// Puts a file in the place of another.
fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A call whose errors end nothing, and that says where lorhai made a mistake.
fn guarded(number: usize, call: &str) -> String {
    format!("print(\"call {number}\"); try {{ {call}; }} catch (e) {{ if e.kind == \"bug\" {{ print(`bug ${{e.message}}`); }} }}\n")
}

/// Runs the jobs in `folder`, as many as there is time for, spread over all of them.
fn run_all(name: &str, folder: &Path, jobs: &[Job], time: Duration) -> Counts {
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Counts { of: jobs.len(), ..Counts::default() });
    // A step that has no divisor in common with the number of jobs reaches each of them once.
    let step = (jobs.len() * 5 / 8..).find(|step| common_divisor(*step, jobs.len()) == 1).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    // A few even on a busy machine.
                    if at >= jobs.len() || (at > AT_ONCE && started.elapsed() > time) {
                        break;
                    }
                    let job = &jobs[(at * step) % jobs.len()];
                    let outcome = run(folder, at, &job.script);
                    counts.lock().unwrap().add(job, &outcome);
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!("{name}: {counts}, {:.0} s", started.elapsed().as_secs_f64());
    counts.bugs.iter().for_each(|bug| println!("  {bug}"));
    counts
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        common_divisor(b, a % b)
    }
}

impl Counts {
    fn add(&mut self, job: &Job, outcome: &Outcome) {
        self.run += 1;
        self.calls += outcome.output.lines().filter(|line| line.starts_with("call ")).count();
        let bugs = outcome.output.lines().filter_map(|line| line.strip_prefix("bug "));
        self.bugs.extend(bugs.map(|bug| format!("{}: {bug}", job.name)));
        match outcome.end {
            End::Well => self.well += 1,
            End::Error => self.errors += 1,
            End::Stopped => self.stopped += 1,
            End::Died => {
                let last = outcome.output.lines().last().unwrap_or_default();
                let errors: String = outcome.errors.chars().take(2000).collect();
                self.died.push(format!(
                    "{}: after `{last}`\n{errors}\n{}",
                    job.name,
                    job.script.lines().take(400).collect::<Vec<_>>().join("\n")
                ));
            }
        }
    }

    fn assert_none_died(&self) {
        let shown: Vec<String> = self.died.iter().map(|text| text.chars().take(6000).collect()).collect();
        assert!(shown.is_empty(), "{} died:\n{}", shown.len(), shown.join("\n\n"));
    }
}

fn run(folder: &Path, number: usize, script: &str) -> Outcome {
    let file = format!("job{number}.rhai");
    fs::write(folder.join(&file), script).unwrap();
    let mut command = lorhai(folder);
    command.args(["run", "--quiet", "--sandbox", &file]).env("OMP_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1");
    let (output, errors) = (folder.join(format!("{file}.out")), folder.join(format!("{file}.err")));
    command.stdin(Stdio::null()).stdout(fs::File::create(&output).unwrap()).stderr(fs::File::create(&errors).unwrap());
    // SAFETY: only sets limits of the new process.
    unsafe {
        command.pre_exec(|| {
            let addresses = libc::rlimit { rlim_cur: ADDRESSES, rlim_max: ADDRESSES };
            let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_AS, &addresses);
            libc::setrlimit(libc::RLIMIT_CORE, &no_core);
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let (started, mut asked) = (Instant::now(), false);
    let long = long();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if !asked && started.elapsed() > long {
            // SAFETY: a child of ours that was not waited for: its number is still its own.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
            asked = true;
        }
        if started.elapsed() > long + PATIENCE {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let text = |path: &PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let (output, errors) = (text(&output), text(&errors));
    let broken = ["panicked", "failed inside", "stack overflow", "memory allocation of"]
        .iter()
        .any(|word| errors.contains(word));
    let end = match (status.signal(), status.code()) {
        _ if broken => End::Died,
        (None, Some(0)) => End::Well,
        (None, Some(1 | 3)) => End::Error,
        (None, Some(130)) => End::Stopped,
        // On a busy machine Ctrl-C may come before the program expects it.
        (Some(libc::SIGINT), _) if asked => End::Stopped,
        _ => End::Died,
    };
    let errors = format!("{errors}\n({status})");
    Outcome { end, output, errors }
}

#[test]
fn script_bombs_end_in_errors() {
    let folder = folder();
    let jobs = bombs::all();
    assert!(jobs.len() >= 120, "{} bombs", jobs.len());
    let counts = run_all("script bombs", folder.path(), &jobs, time(0.4));
    assert!(counts.run > 1);
    counts.assert_none_died();
}

#[test]
fn hostile_arguments_end_in_errors() {
    let folder = folder();
    let jobs = calls::all();
    let counts = run_all("hostile arguments", folder.path(), &jobs, time(0.4));
    assert!(counts.run > 1, "{counts}");
    counts.assert_none_died();
}

#[test]
fn malformed_files_end_in_errors() {
    let folder = folder();
    let jobs = damage::all(folder.path());
    let counts = run_all("malformed files", folder.path(), &jobs, time(0.2));
    assert!(counts.run > 1, "{counts}");
    counts.assert_none_died();
}
