//! A process of the program that runs `case.rhai`, and what it reports.

use super::common::program::lorhai;
use serde_json::Value;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than any sweep here takes.
const PATIENCE: Duration = Duration::from_secs(240);

pub struct Worker {
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

/// What a process wrote, and its exit code; `None` after a signal.
pub struct Ended {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Worker {
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    pub fn start_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(folder, arguments, variables, None)
    }

    /// As [`Worker::start`], where no file may grow beyond so many bytes, as on a full disk.
    pub fn start_limited(folder: &Path, arguments: &[&str], bytes: u64) -> Self {
        Self::spawn(folder, arguments, &[], Some(bytes))
    }

    fn spawn(folder: &Path, arguments: &[&str], variables: &[(&str, &str)], limit: Option<u64>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [output, errors] = ["out", "err"].map(|name| folder.join(format!("{name}.{number}")));
        let mut command = lorhai(folder);
        command.args(["run", "--json", "case.rhai"]).args(arguments).envs(variables.iter().copied());
        let write = |path: &PathBuf| Stdio::from(File::create(path).unwrap());
        command.stdin(Stdio::null()).stdout(write(&output)).stderr(write(&errors));
        if let Some(bytes) = limit {
            // What it reports goes through pipes that are not limited: files would lose it.
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            // SAFETY: between fork and exec one call that is allowed there.
            unsafe {
                command.pre_exec(move || {
                    libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
                    Ok(())
                })
            };
        }
        Worker { child: command.spawn().unwrap(), output, errors }
    }

    /// Waits until it reported an object of this kind; false if it ended before.
    pub fn wait_for(&mut self, kind: &str) -> bool {
        let (started, wanted) = (Instant::now(), format!("\"kind\":\"{kind}\""));
        loop {
            if std::fs::read_to_string(&self.errors).unwrap().contains(&wanted) {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(started.elapsed() < PATIENCE, "it reports no {kind}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a child that was not waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    pub fn kill(&mut self) -> Ended {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ended(None)
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Ended {
        if self.child.stderr.is_some() {
            let output = self.child.wait_with_output().unwrap();
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            return Ended { code: output.status.code(), output: text(output.stdout), errors: text(output.stderr) };
        }
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if started.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it does not end: {}", std::fs::read_to_string(&self.errors).unwrap());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let code = self.child.wait().unwrap().code();
        self.ended(code)
    }

    fn ended(&self, code: Option<i32>) -> Ended {
        let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        Ended { code, output: read(&self.output), errors: read(&self.errors) }
    }
}

impl Ended {
    /// The objects that it reported. The last line of a process that was killed may be cut off.
    pub fn objects(&self) -> Vec<Value> {
        self.errors.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// The workers of a sweep, by their files.
pub struct Heartbeats(PathBuf);

impl Heartbeats {
    pub fn of(out: &Path) -> Self {
        Heartbeats(out.to_owned())
    }

    fn beats(&self) -> Vec<Value> {
        let entries = std::fs::read_dir(self.0.join("workers")).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "json"));
        paths.filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
    }

    pub fn pids(&self) -> Vec<i32> {
        self.beats().iter().map(|beat| beat["process"]["pid"].as_i64().unwrap() as i32).collect()
    }

    /// The processes that live and train this trial.
    pub fn pids_that_train(&self, trial: &str) -> Vec<i32> {
        let beats = self.beats();
        let training = beats.iter().filter(|beat| beat["trials"].as_array().unwrap().iter().any(|one| one == trial));
        let pids = training.map(|beat| beat["process"]["pid"].as_i64().unwrap() as i32);
        pids.filter(|pid| Self::lives(*pid)).collect()
    }

    /// Does a process live that was not killed yet?
    pub fn lives(pid: i32) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }
}
