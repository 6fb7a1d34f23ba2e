//! Does anything end the program, rather than an error? Script bombs, hostile arguments for every registered function,
//! and malformed files, each in a process of the real program under a limit on addresses, in the sandbox.
//!
//! `make test` runs a sample of a few seconds, `make soak` as much as there is time for (`LORHAI_SOAK`, in seconds; 0
//! for all of it). Each part prints a line with its counts and what was left out. A process may end with an error, well,
//! or by Ctrl-C, which it gets where it runs for long, or by the second Ctrl-C, which is to end it at once. An abort, a
//! signal or a panic fails the test, and so does a process that the second Ctrl-C does not end. What died is named with
//! its signal, who sent it, its processor time and its peak of memory.

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
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Addresses that a process may use: with this an allocation that is too large fails rather than swaps.
const ADDRESSES: u64 = 4 << 30;
/// Processor time that a process may use after its first Ctrl-C until it gets the second. Time of the clock would say
/// more of other work on the machine than of the process.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the second one a process that is still there hangs.
const AT_ONCE_PATIENCE: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 2;

fn seconds() -> Option<f64> {
    std::env::var("LORHAI_SOAK").ok().and_then(|text| text.parse().ok())
}

/// How long a part may run: its share of `LORHAI_SOAK`, or a few seconds.
fn time(share: f64) -> Duration {
    match seconds() {
        Some(0.0) => Duration::MAX,
        Some(seconds) => Duration::from_secs_f64(share * seconds),
        None => Duration::from_secs_f64(share * 10.0),
    }
}

/// When a process that does not end gets Ctrl-C.
fn long() -> Duration {
    Duration::from_secs(if seconds() == Some(0.0) { 20 } else { 5 })
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
    StoppedTwice,
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
    /// By the second Ctrl-C.
    stopped_twice: Vec<String>,
    died: Vec<String>,
    /// Errors that say that lorhai made a mistake.
    bugs: BTreeSet<String>,
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { run, of, calls, well, errors, stopped, stopped_twice, died, bugs } = self;
        write!(out, "{run} of {of} scripts, {calls} calls: {well} ended well, {errors} with an error, {stopped} by ")?;
        write!(out, "Ctrl-C, {} by the second, {} died, ", stopped_twice.len(), died.len())?;
        write!(out, "{} mistakes of ours", bugs.len())
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
    counts.stopped_twice.iter().for_each(|name| println!("  second Ctrl-C: {name}"));
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
            End::StoppedTwice => self.stopped_twice.push(job.name.clone()),
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
    let mut process = Process(command.spawn().unwrap().id() as libc::pid_t);
    let killed_before = killed_for_memory();
    let (started, long) = (Instant::now(), long());
    let mut signals = Vec::new();
    let (status, used) = loop {
        if let Some(ended) = process.ended() {
            break ended;
        }
        let next = match signals.as_slice() {
            [] if started.elapsed() > long => Some(libc::SIGINT),
            [(_, _, cpu)] if process.cpu() > *cpu + PATIENCE => Some(libc::SIGINT),
            [_, (_, at, _)] if Instant::elapsed(at) > AT_ONCE_PATIENCE => Some(libc::SIGKILL),
            _ => None,
        };
        if let Some(signal) = next {
            process.send(signal);
            signals.push((signal, Instant::now(), process.cpu()));
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
        (None, Some(130)) if signals.len() > 1 => End::StoppedTwice,
        (None, Some(130)) => End::Stopped,
        // On a busy machine Ctrl-C may come before the program expects it.
        (Some(libc::SIGINT), _) if !signals.is_empty() => End::Stopped,
        _ => End::Died,
    };
    let sender = match status.signal() {
        Some(_) if signals.len() > 2 => "this test, after two times Ctrl-C".to_owned(),
        Some(_) if killed_for_memory() > killed_before => "the system, which had no memory left".to_owned(),
        Some(_) => "not this test, and not the system for lack of memory".to_owned(),
        None => String::new(),
    };
    let errors = format!("{errors}\n({status}; by {sender}; {used}; {:.0} s)", started.elapsed().as_secs_f64());
    Outcome { end, output, errors }
}

/// A child that was not waited for, so its number is still its own.
struct Process(libc::pid_t);

impl Process {
    /// Its status once it has ended, and what it used.
    fn ended(&mut self) -> Option<(ExitStatus, String)> {
        let mut status = 0;
        // SAFETY: writes to `status` and `usage`, which may be all zeros.
        let (ended, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(self.0, &mut status, libc::WNOHANG, &mut usage), usage)
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        let cpu = seconds(usage.ru_utime) + seconds(usage.ru_stime);
        let used = format!("{cpu:.0} s of processor, at most {} MB", usage.ru_maxrss / 1024);
        (ended == self.0).then(|| (ExitStatus::from_raw(status), used))
    }

    fn send(&self, signal: libc::c_int) {
        // SAFETY: sends a signal to a child.
        unsafe { libc::kill(self.0, signal) };
    }

    /// The processor time so far.
    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // The name, in brackets, may hold blanks; user and system time are fields 14 and 15.
        let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// How many processes the system has killed because no memory was left.
fn killed_for_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

#[test]
fn script_bombs_end_in_errors() {
    let folder = folder();
    let jobs = bombs::all();
    assert!(jobs.len() >= 346, "{} bombs", jobs.len());
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
