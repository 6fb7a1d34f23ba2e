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
//! `LORHAI_UPDATE=1 cargo test --release --locked --test mistakes` writes the expectations
//! anew: read what it wrote. `LORHAI_CASE=word` runs the cases with that word in their names.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "mistakes/fixtures.rs"]
mod fixtures;
#[path = "mistakes/hub.rs"]
mod hub;

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
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

#[test]
fn every_mistake_ends_in_a_clear_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes");
    let cases = read_cases(&folder);
    let newcomers = cases.iter().filter(|case| case.file.ends_with("newcomer.txt")).count();
    assert!(newcomers >= 100, "expected at least 100 mistakes of newcomers, found {newcomers}");
    let chosen = std::env::var("LORHAI_CASE").unwrap_or_default();
    let update = std::env::var_os("LORHAI_UPDATE").is_some();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let found = Mutex::new(vec![None; cases.len()]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((at, case)) = take(&next, &cases) {
                    if !case.name.contains(&chosen) || (case.without_gpu && has_gpu()) {
                        continue;
                    }
                    let ran = run(case);
                    failures.lock().unwrap().extend(judge(case, &ran, update));
                    found.lock().unwrap()[at] = Some(ran.errors);
                }
            });
        }
    });
    if update {
        write_cases(&cases, &found.into_inner().unwrap());
    }
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} mistakes failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

fn take<'a>(next: &AtomicUsize, cases: &'a [Case]) -> Option<(usize, &'a Case)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case))
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

fn run(case: &Case) -> Ran {
    let temporary = tempfile::tempdir().unwrap();
    // The system's own name for it, which errors show too.
    let root = temporary.path().canonicalize().unwrap();
    let work = root.join("work");
    fs::create_dir(&work).unwrap();
    case.files.iter().for_each(|name| fixtures::put(name, &work));
    fs::write(work.join(&case.written_as), &case.script).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    let usual = ["run", "--quiet", &case.written_as].map(String::from).into_iter().chain(case.arguments.clone());
    command.args(case.command.clone().unwrap_or_else(|| usual.collect())).current_dir(&work);
    for name in ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN_PATH", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    let hub = case.hub.as_deref().map(hub::Hub::named);
    match &hub {
        Some(hub) => drop(command.envs(hub.variables())),
        None => drop(command.env("HF_HUB_OFFLINE", "1")),
    }
    command.env("HF_HOME", root.join("hub")).env("HOME", &root);
    command.env("LORHAI_CACHE", root.join("cache")).env("OMP_NUM_THREADS", "1").env("CUDA_VISIBLE_DEVICES", "");
    let (out, err) = (root.join("out"), root.join("err"));
    command.stdin(Stdio::null()).stdout(fs::File::create(&out).unwrap()).stderr(fs::File::create(&err).unwrap());
    for (what, most) in [(libc::RLIMIT_FSIZE, case.file_size_limit), (libc::RLIMIT_AS, case.memory_limit)] {
        if let Some(most) = most {
            // SAFETY: one system call, which allocates nothing.
            unsafe { command.pre_exec(move || limit(what, most)) };
        }
    }
    let exit_code = wait(command);
    let errors = String::from_utf8_lossy(&fs::read(&err).unwrap()).into_owned();
    let errors = errors.replace(&format!("{}/", work.display()), "").replace(&*work.display().to_string(), ".");
    let errors = errors.replace(&*root.display().to_string(), "~");
    let errors = hub.map_or(errors.clone(), |hub| hub.unnamed(&errors));
    Ran { exit_code, errors: errors.trim_end().to_string() }
}

fn limit(what: libc::__rlimit_resource_t, most: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the structure lives until the call returns.
    match unsafe { libc::setrlimit(what, &limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The exit code; `None` where a signal or the time limit ended it.
fn wait(mut command: Command) -> Option<i32> {
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > TIME_LIMIT {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
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
