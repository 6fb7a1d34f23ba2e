//! Wrong inputs, and the whole text that a user sees for each: `mistakes/<area>.txt`.
//!
//! Every one ends in a clear error and exit code 1 (2 for wrong use of the command line).
//! A case is a block:
//!
//! ```text
//! === short name of the mistake
//! files: tiny, weights cut short     (optional: fixtures of `mistakes/fixtures.rs`)
//! arguments: --set ranks=x           (optional: after `run --quiet case.rhai`)
//! command: rnu case.rhai             (optional: all arguments of the program instead)
//! exit code: 2                       (optional: for wrong use of the command line)
//! file size limit: 1000              (optional: bytes that a file may have)
//! memory limit: 4000000000           (optional: bytes that the program may take)
//! hub: gated                         (optional: a hub that is so, see `mistakes/hub.rs`)
//! as: train.py                       (optional: the file that holds the script)
//! machine: without a GPU             (optional: left out elsewhere)
//! the script
//! ---
//! the standard error, to the letter
//! ```
//!
//! `newcomer.txt` holds what people who come from Python's notebooks write, as whole scripts and
//! command lines; the other files go through one area each.
//! The program runs in a fresh folder, which is where relative paths lead.
//! `LORHAI_UPDATE=1 cargo quick-test --test mistakes` writes the expectations
//! anew: read what it wrote. `LORHAI_CASE=word` runs the cases with that word in their names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "mistakes/fixtures.rs"]
mod fixtures;
#[path = "mistakes/hub.rs"]
mod hub;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// libtorch takes a core for each: more would only wait.
const AT_ONCE: usize = 3;
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What no user should have to read: a panic, our own mistakes, raw C++ text.
const NEVER_SHOWN: [&str; 6] =
    ["panicked", "failed inside", "mistake in lorhai", "libtorch: ", "Exception raised from", ".cpp:"];

#[derive(Debug, Default, Clone)]
struct Case {
    file: PathBuf,
    name: String,
    files: Vec<String>,
    arguments: Vec<String>,
    command: Option<Vec<String>>,
    exit_code: i32,
    file_size_limit: Option<u64>,
    memory_limit: Option<u64>,
    hub: Option<String>,
    /// The name of the script's file.
    written_as: String,
    without_gpu: bool,
    /// The lines from `===` to `---`, as they are written.
    head: String,
    script: String,
    expected: String,
}

struct Ran {
    exit_code: Option<i32>,
    errors: String,
}

/// As in the program: what scripts hold is counted.
#[global_allocator]
static ALLOCATOR: lorhai::heap::Counting = lorhai::heap::Counting;

/// The one test of this file, run without Rust's harness, which has threads: most cases run in a fork of this process,
/// which has loaded libtorch already, and so in half the time.
const NAME: &str = "every_mistake_ends_in_a_clear_error";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_chosen = filters.is_empty() || filters.iter().any(|filter| NAME.contains(filter.as_str()));
    if !is_chosen || arguments.iter().any(|argument| argument == "--ignored" || argument == "--list") {
        println!("\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out\n");
        return;
    }
    println!("\nrunning 1 test");
    let started = Instant::now();
    let failures = failures_of_all();
    let (result, passed) = if failures.is_empty() { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {NAME} ... {result}");
    if !failures.is_empty() {
        println!(
            "\nfailures:\n\n---- {NAME} stdout ----\n{} mistakes failed:\n\n{}",
            failures.len(),
            failures.join("\n\n")
        );
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("\ntest result: {result}. {passed} passed; {} failed; 0 ignored; finished in {seconds:.2}s\n", 1 - passed);
    if !failures.is_empty() {
        std::process::exit(101);
    }
}

fn failures_of_all() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let cases = read_cases(&folder);
    let newcomers = cases.iter().filter(|case| case.file.ends_with("newcomer.txt")).count();
    assert!(newcomers >= 100, "expected at least 100 mistakes of newcomers, found {newcomers}");
    let chosen = std::env::var("LORHAI_CASE").unwrap_or_default();
    let update = std::env::var_os("LORHAI_UPDATE").is_some();
    let is_chosen = |case: &&Case| case.name.contains(&chosen) && !(case.without_gpu && has_gpu());
    let mut errors: Vec<Option<String>> = vec![None; cases.len()];
    let mut failures = Vec::new();
    let mut waiting: Vec<usize> = (0..cases.len()).rev().filter(|&at| is_chosen(&&cases[at])).collect();
    let mut running: Vec<(usize, Run)> = Vec::new();
    // Tables that are made once are made here.
    drop(lorhai::script::Session::new());
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < AT_ONCE {
            let Some(at) = waiting.pop() else { break };
            running.push((at, Run::start(&cases[at])));
        }
        let before = running.len();
        let mut still = Vec::new();
        for (at, mut run) in running {
            let Some(exit_code) = run.ended() else {
                still.push((at, run));
                continue;
            };
            let ran = run.result(exit_code);
            failures.extend(judge(&cases[at], &ran, update));
            errors[at] = Some(ran.errors);
        }
        running = still;
        if running.len() == before {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    if update {
        write_cases(&cases, &errors);
    }
    failures
}

fn has_gpu() -> bool {
    Path::new("/proc/driver/nvidia/version").exists() || Path::new("/dev/nvidiactl").exists()
}

fn read_cases(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = format!("\n{}", fs::read_to_string(&file).unwrap());
        let blocks = text.split("\n=== ").skip(1);
        cases.extend(blocks.map(|block| case(&file, block)));
    }
    let mut names = HashSet::new();
    for case in &cases {
        assert!(names.insert(&case.name), "two mistakes are called `{}`", case.name);
    }
    cases
}

fn case(file: &Path, block: &str) -> Case {
    let (name, rest) = block.split_once('\n').unwrap_or((block, ""));
    let (body, expected) = format!("{rest}\n")
        .split_once("---\n")
        .map(|(body, expected)| (body.to_string(), expected.trim_end().to_string()))
        .unwrap_or_else(|| panic!("{}: no --- in `{name}`", file.display()));
    let mut case = Case { file: file.into(), name: name.trim().into(), expected, exit_code: 1, ..Case::default() };
    case.written_as = "case.rhai".into();
    case.head = format!("=== {name}\n{body}");
    let mut lines = body.lines().peekable();
    while let Some((key, value)) = lines.peek().and_then(|line| line.split_once(": ")) {
        let words = || value.split_whitespace().map(String::from).collect();
        match key {
            "files" => case.files = value.split(", ").map(|name| name.trim().to_string()).collect(),
            "arguments" => case.arguments = words(),
            "command" => case.command = Some(words()),
            "exit code" => case.exit_code = value.trim().parse().unwrap(),
            "file size limit" => case.file_size_limit = Some(value.trim().parse().unwrap()),
            "memory limit" => case.memory_limit = Some(value.trim().parse().unwrap()),
            "hub" => case.hub = Some(value.trim().into()),
            "as" => case.written_as = value.trim().into(),
            "machine" => case.without_gpu = true,
            _ => break,
        }
        lines.next();
    }
    case.script = lines.map(|line| format!("{line}\n")).collect();
    case
}

fn write_cases(cases: &[Case], found: &[Option<String>]) {
    let mut files: Vec<&PathBuf> = cases.iter().map(|case| &case.file).collect();
    files.dedup();
    for file in files {
        let own = cases.iter().zip(found).filter(|(case, _)| case.file == *file);
        let blocks =
            own.map(|(case, found)| format!("{}---\n{}\n", case.head, found.as_ref().unwrap_or(&case.expected)));
        fs::write(file, blocks.collect::<Vec<_>>().join("\n")).unwrap();
    }
}

/// A case that is being run.
struct Run {
    temporary: tempfile::TempDir,
    /// The system's own name for it, which errors show too.
    root: PathBuf,
    hub: Option<hub::Hub>,
    process: Process,
    started: Instant,
}

enum Process {
    /// The program itself: for limits that loading libtorch has to obey, and beside the threads of a hub.
    Program(Child),
    Fork(libc::pid_t),
}

impl Run {
    fn start(case: &Case) -> Run {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let work = root.join("work");
        fs::create_dir(&work).unwrap();
        case.files.iter().for_each(|name| fixtures::put(name, &work));
        fs::write(work.join(&case.written_as), &case.script).unwrap();
        let hub = case.hub.as_deref().map(hub::Hub::named);
        let is_plain = hub.is_none() && case.file_size_limit.is_none() && case.memory_limit.is_none();
        let process = match is_plain {
            true => Process::Fork(fork(case, &root)),
            false => Process::Program(spawn(case, &root, hub.as_ref())),
        };
        Run { temporary, root, hub, process, started: Instant::now() }
    }

    /// The exit code of a process that has ended; `None` within where a signal or the time limit ended it.
    fn ended(&mut self) -> Option<Option<i32>> {
        let is_late = self.started.elapsed() > TIME_LIMIT;
        match &mut self.process {
            Process::Program(child) => {
                if is_late {
                    child.kill().unwrap();
                }
                child.try_wait().unwrap().map(|status| status.code())
            }
            Process::Fork(pid) => {
                let mut status = 0;
                // SAFETY: a child of ours that was not waited for.
                unsafe {
                    if is_late {
                        libc::kill(*pid, libc::SIGKILL);
                    }
                    if libc::waitpid(*pid, &mut status, libc::WNOHANG) == 0 {
                        return None;
                    }
                }
                Some(if libc::WIFEXITED(status) { Some(libc::WEXITSTATUS(status)) } else { None })
            }
        }
    }

    fn result(self, exit_code: Option<i32>) -> Ran {
        let (root, work) = (&self.root, self.root.join("work"));
        let errors = String::from_utf8_lossy(&fs::read(root.join("err")).unwrap()).into_owned();
        let errors = errors.replace(&format!("{}/", work.display()), "").replace(&*work.display().to_string(), ".");
        let errors = errors.replace(&*root.display().to_string(), "~");
        let errors = self.hub.as_ref().map_or(errors.clone(), |hub| hub.unnamed(&errors));
        drop(self.temporary);
        Ran { exit_code, errors: errors.trim_end().to_string() }
    }
}

/// All arguments of the program.
fn arguments(case: &Case) -> Vec<String> {
    let usual = ["run", "--quiet", &case.written_as].map(String::from).into_iter().chain(case.arguments.clone());
    case.command.clone().unwrap_or_else(|| usual.collect())
}

const REMOVED: [&str; 5] = ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN_PATH", "XDG_CACHE_HOME"];

fn variables(root: &Path) -> Vec<(&'static str, OsString)> {
    vec![
        ("HF_HUB_OFFLINE", "1".into()),
        ("HF_HOME", root.join("hub").into()),
        ("HOME", root.into()),
        ("LORHAI_CACHE", root.join("cache").into()),
        ("OMP_NUM_THREADS", "1".into()),
        ("CUDA_VISIBLE_DEVICES", "".into()),
    ]
}

fn files(root: &Path) -> (fs::File, fs::File) {
    (fs::File::create(root.join("out")).unwrap(), fs::File::create(root.join("err")).unwrap())
}

fn fork(case: &Case, root: &Path) -> libc::pid_t {
    let (out, err) = files(root);
    let nothing = fs::File::open("/dev/null").unwrap();
    std::io::stdout().flush().unwrap();
    // SAFETY: the threads of a hub may run beside this one. They hold no lock that the child takes: they wait for
    // connections.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    let end = std::panic::catch_unwind(|| {
        for (from, to) in [(&nothing, 0), (&out, 1), (&err, 2)] {
            // SAFETY: both are open.
            unsafe { libc::dup2(from.as_raw_fd(), to) };
        }
        std::env::set_current_dir(root.join("work")).unwrap();
        REMOVED.iter().for_each(|name| std::env::remove_var(name));
        variables(root).into_iter().for_each(|(name, value)| std::env::set_var(name, value));
        let arguments = std::iter::once("lorhai".to_owned()).chain(arguments(case));
        lorhai::cli::main_with(arguments.map(OsString::from))
    });
    let _ = std::io::stdout().flush();
    // SAFETY: nothing is to be done at its exit.
    unsafe { libc::_exit(end.unwrap_or(101)) }
}

fn spawn(case: &Case, root: &Path, hub: Option<&hub::Hub>) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    command.args(arguments(case)).current_dir(root.join("work"));
    for name in REMOVED {
        command.env_remove(name);
    }
    command.envs(variables(root));
    if let Some(hub) = hub {
        command.env_remove("HF_HUB_OFFLINE").envs(hub.variables());
    }
    let (out, err) = files(root);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    for (what, most) in [(libc::RLIMIT_FSIZE, case.file_size_limit), (libc::RLIMIT_AS, case.memory_limit)] {
        if let Some(most) = most {
            // SAFETY: one system call, which allocates nothing.
            unsafe { command.pre_exec(move || limit(what, most)) };
        }
    }
    command.spawn().unwrap()
}

fn limit(what: libc::__rlimit_resource_t, most: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the structure lives until the call returns.
    match unsafe { libc::setrlimit(what, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// What is wrong with the outcome, for a person to read.
fn judge(case: &Case, ran: &Ran, update: bool) -> Option<String> {
    let shown = format!("=== {} ({})\n{}", case.name, case.file.display(), case.script);
    let wrong = |what: &str| Some(format!("{shown}--- {what}\n{}", ran.errors));
    if ran.exit_code != Some(case.exit_code) {
        return wrong(&format!("expected exit code {}, found {:?}", case.exit_code, ran.exit_code));
    }
    if let Some(text) = NEVER_SHOWN.iter().find(|text| ran.errors.contains(**text)) {
        return wrong(&format!("no user should read `{text}`"));
    }
    if ran.errors.is_empty() || (case.expected.is_empty() && !update) {
        return wrong("an empty expectation; found");
    }
    match update || ran.errors == case.expected {
        true => None,
        false => Some(format!("{shown}--- expected\n{}\n--- found\n{}", case.expected, ran.errors)),
    }
}
