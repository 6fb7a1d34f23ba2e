//! `lorhai run FILE --processes N`: starts N processes of this machine, passes signals on, and waits for them.
//!
//! The first writes to the terminal; of the others only errors of their own show.

use super::super::outcome::{exit_code, FAILED};
use super::super::signals::handle_signals;
use super::super::workers::child::guard;
use super::super::workers::{meaning, visible_gpus};
use super::rendezvous::{self, LOOPBACK};
use super::{timeout, TIMEOUT};
use crate::error::{Error, Result};
use crate::native::process_group::Store;
use crate::{interrupt, stderr, threads};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at signals and at processes that ended.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the others have to notice that one ended, before they get SIGTERM.
const NOTICE: Duration = Duration::from_secs(30);

/// What all processes have in common.
pub struct ProcessesCall {
    pub count: usize,
    /// Of `lorhai run --data-parallel`, without `--threads`.
    pub arguments: Vec<OsString>,
    pub threads: Option<usize>,
    pub device: Option<String>,
}

/// Runs the processes and returns the exit code.
pub fn launch(call: ProcessesCall) -> i32 {
    handle_signals();
    interrupt::expect_repetitions();
    match Launched::start(&call).and_then(Launched::wait) {
        Ok(code) => code,
        Err(error) => exit_code(Err(error.into())),
    }
}

/// The processes, and what came of them.
struct Launched {
    /// By rank; `None` for those that ended.
    running: Vec<Option<Child>>,
    /// The exit code of the first that failed.
    failure: Option<i32>,
    /// When the first ended otherwise than in order.
    failed_at: Option<Instant>,
    was_signalled: bool,
    timeout: Duration,
    /// Where they meet.
    _store: Store,
}

impl Launched {
    fn start(call: &ProcessesCall) -> Result<Self> {
        let timeout = timeout(std::env::var(TIMEOUT).ok())?;
        let gpus = if call.device.as_deref() == Some("cpu") { Vec::new() } else { visible_gpus() };
        let threads = match call.threads {
            Some(threads) => threads,
            None => (threads::choose(None)?.count / call.count).max(1),
        };
        let store = Store::serve(LOOPBACK, 0, timeout)?;
        let port = store.port.to_string();
        let mut launched = Launched {
            running: Vec::new(),
            failure: None,
            failed_at: None,
            was_signalled: false,
            timeout,
            _store: store,
        };
        for rank in 0..call.count {
            let (own, all) = (rank.to_string(), call.count.to_string());
            let variables = [
                (rendezvous::RANK, own.as_str()),
                (rendezvous::LOCAL_RANK, own.as_str()),
                (rendezvous::SIZE, all.as_str()),
                (rendezvous::LOCAL_SIZE, all.as_str()),
                (rendezvous::HOST, LOOPBACK),
                (rendezvous::PORT, port.as_str()),
                (rendezvous::IS_SERVED, "True"),
                (rendezvous::RUN, "processes"),
                (rendezvous::RESTARTS, "0"),
            ];
            let gpu = gpus.get(rank % gpus.len().max(1)).map(String::as_str);
            match start(call, rank, threads, &variables, gpu) {
                Ok(child) => launched.running.push(Some(child)),
                Err(error) => {
                    launched.signal(libc::SIGTERM);
                    return Err(error);
                }
            }
        }
        Ok(launched)
    }

    fn wait(mut self) -> Result<i32> {
        let mut is_stopping = false;
        while self.running.iter().any(Option::is_some) {
            if interrupt::requested() && !is_stopping {
                is_stopping = true;
                self.signal(match interrupt::exit_code() - 128 {
                    libc::SIGPIPE => libc::SIGTERM,
                    signal => signal,
                });
            }
            for rank in 0..self.running.len() {
                let Some(child) = &mut self.running[rank] else { continue };
                let status =
                    child.try_wait().map_err(|error| Error::input(format!("cannot wait for a process: {error}")))?;
                if let Some(status) = status {
                    self.running[rank] = None;
                    self.end(rank, status, is_stopping);
                }
            }
            self.signal_the_rest();
            std::thread::sleep(PAUSE);
        }
        if is_stopping {
            return Ok(interrupt::exit_code());
        }
        Ok(self.failure.unwrap_or(0))
    }

    fn end(&mut self, rank: usize, status: ExitStatus, is_stopping: bool) {
        if status.success() {
            return;
        }
        self.failed_at.get_or_insert_with(Instant::now);
        if is_stopping {
            return;
        }
        let code = status.code().unwrap_or(FAILED);
        self.failure.get_or_insert(code);
        if let Some(signal) = status.signal().filter(|signal| !(self.was_signalled && *signal == libc::SIGKILL)) {
            let of = self.running.len();
            stderr::note(&format!("process {rank} of {of} was ended by signal {signal}{}", meaning(signal)));
        }
    }

    /// Ends what goes on although one has failed: the others notice it in their next step.
    fn signal_the_rest(&mut self) {
        let Some(failed_at) = self.failed_at else { return };
        if failed_at.elapsed() >= NOTICE && !self.was_signalled {
            self.was_signalled = true;
            self.signal(libc::SIGTERM);
        }
        if failed_at.elapsed() >= NOTICE + self.timeout {
            self.signal(libc::SIGKILL);
        }
    }

    fn signal(&self, signal: i32) {
        for child in self.running.iter().flatten() {
            if let Ok(pid) = i32::try_from(child.id()) {
                // SAFETY: a child that was not waited for: its number is still its own.
                unsafe { libc::kill(pid, signal) };
            }
        }
    }
}

fn start(
    call: &ProcessesCall,
    rank: usize,
    threads: usize,
    variables: &[(&str, &str)],
    gpu: Option<&str>,
) -> Result<Child> {
    let failed = |error: std::io::Error| Error::input(format!("cannot start a process: {error}"));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(&call.arguments).arg("--threads").arg(threads.to_string()).stdin(Stdio::null());
    if rank > 0 {
        command.stdout(Stdio::null());
    }
    command.envs(variables.iter().copied());
    if let Some(gpu) = gpu {
        command.env("CUDA_VISIBLE_DEVICES", gpu);
    }
    guard(&mut command);
    command.spawn().map_err(failed)
}
