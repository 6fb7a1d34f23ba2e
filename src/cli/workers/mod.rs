//! `lorhai run FILE --workers N`: starts N processes that share the sweeps of a script, shows their progress as one, and
//! starts one that died again.
//!
//! | file | defines |
//! |---|---|
//! | `child.rs` | a worker's process: how it is started, what it writes, how it ends |
//! | `display.rs` | one display of what all workers report |
//! | `printed.rs` | the stdout of one worker |

pub(super) mod child;
mod display;
mod printed;

use super::compute::Compute;
use super::outcome::{exit_code, FAILED, SOME_FAILED, WRONG_USE};
use super::signals::handle_signals;
use crate::error::{Error, Result};
use crate::native::driver::usable_gpus;
use crate::script::Failure;
use crate::sweep::shared::fail::fail_trials;
use crate::sweep::shared::{settings, WorkerId};
use crate::{interrupt, stderr, threads};
use child::{Child, End, Launch, Message};
use display::Display;
use printed::Printed;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often a worker is started again before the trials that it held are recorded as failed.
const RESTARTS: u32 = 2;
/// Between two looks at signals and at processes that ended.
const PAUSE: Duration = Duration::from_millis(100);

/// What all workers have in common.
pub struct WorkersCall {
    /// `None`: one for each visible GPU, on a CPU one.
    pub count: Option<usize>,
    /// Of `lorhai run --shared --json`, without `--threads`.
    pub arguments: Vec<OsString>,
    pub threads: Option<usize>,
    pub device: Option<String>,
    pub quiet: bool,
}

/// Runs the workers and returns the exit code.
pub fn run(call: WorkersCall) -> i32 {
    handle_signals();
    interrupt::expect_repetitions();
    match Workers::start(call).and_then(|workers| workers.run()) {
        Ok(code) => code,
        Err(error) => exit_code(Err(Failure::from(error))),
    }
}

/// The processes, and what came of them.
struct Workers {
    launches: Vec<Launch>,
    running: BTreeMap<usize, Child>,
    /// How often each died since trials that it held were recorded as failed.
    deaths: Vec<u32>,
    /// The exit codes of those that ended in order.
    codes: BTreeMap<usize, i32>,
    given_up: bool,
    run_id: String,
    display: Display,
    printed: Printed,
    messages: Receiver<(usize, Message)>,
    sender: Sender<(usize, Message)>,
}

impl Workers {
    fn start(call: WorkersCall) -> Result<Self> {
        let launches = launches(&call)?;
        let (sender, messages) = mpsc::channel();
        let count = launches.len();
        let mut workers = Workers {
            launches,
            running: BTreeMap::new(),
            deaths: vec![0; count],
            codes: BTreeMap::new(),
            given_up: false,
            run_id: settings::run().unwrap_or_else(|| WorkerId::new().to_string()),
            display: Display::new(call.quiet, count),
            printed: Printed::new(count),
            messages,
            sender,
        };
        for number in 0..count {
            workers.launch(number)?;
        }
        Ok(workers)
    }

    fn launch(&mut self, number: usize) -> Result<()> {
        let Some(launch) = self.launches.get(number) else { return Ok(()) };
        let variables = [
            (settings::EXPECTED, self.launches.len().to_string()),
            (settings::BESIDE, self.launches.len().to_string()),
            (settings::RUN, self.run_id.clone()),
        ];
        let child = Child::start(number, launch, &variables, &self.sender)?;
        self.printed.restart(number);
        self.running.insert(number, child);
        Ok(())
    }

    fn run(mut self) -> Result<i32> {
        let mut is_stopping = false;
        while !self.running.is_empty() {
            if interrupt::requested() && !is_stopping {
                is_stopping = true;
                // A reader that went away stops this process alone: workers write to pipes of their own.
                let signal = match interrupt::exit_code() - 128 {
                    libc::SIGPIPE => libc::SIGTERM,
                    signal => signal,
                };
                self.display.note(&format!("stopping {} workers, which save what they trained", self.running.len()));
                self.running.values().for_each(|child| child.signal(signal));
            }
            match self.messages.recv_timeout(PAUSE) {
                Ok((number, message)) => self.take(number, message),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            for number in self.running.keys().copied().collect::<Vec<_>>() {
                let ended = match self.running.get_mut(&number) {
                    Some(child) => child.ended()?,
                    None => None,
                };
                if let Some(end) = ended {
                    // What it wrote last may still be on its way.
                    while let Ok((number, message)) = self.messages.try_recv() {
                        self.take(number, message);
                    }
                    self.end(number, end, is_stopping)?;
                }
            }
        }
        self.conclude(is_stopping)
    }

    fn take(&mut self, number: usize, message: Message) {
        match message {
            Message::Printed(bytes) => self.printed.take(number, &bytes),
            Message::Line(text) => self.display.line(number, &text),
            Message::Object(object) => {
                if let Some(child) = self.running.get_mut(&number) {
                    child.observe(&object);
                }
                self.display.object(number, &object);
            }
        }
    }

    /// A worker has ended: in order, or it is started again.
    fn end(&mut self, number: usize, end: End, is_stopping: bool) -> Result<()> {
        let Some(child) = self.running.remove(&number) else { return Ok(()) };
        let cause = match end {
            End::Code(code) if is_stopping || child.ended_in_order(code) => {
                self.codes.insert(number, code);
                self.display.leave(number);
                if code != 0 && code != SOME_FAILED {
                    self.printed.give_up(number);
                }
                return Ok(());
            }
            End::Signal(_) if is_stopping => return Ok(()),
            End::Code(code) => format!("ended with exit code {code}"),
            End::Signal(signal) => format!("was ended by signal {signal}{}", meaning(signal)),
        };
        self.display.leave(number);
        let deaths = self.deaths.get_mut(number).map_or(0, |deaths| {
            *deaths += 1;
            *deaths
        });
        if deaths <= RESTARTS {
            self.display.note(&format!("worker {} {cause}: starting it again", number + 1));
            return self.launch(number);
        }
        let message = format!("its worker {cause}, for the {deaths}rd time");
        let mut failed = Vec::new();
        for (out, id) in &child.joined {
            failed.extend(fail_trials(&PathBuf::from(out), id, &self.run_id, &message)?);
        }
        if failed.is_empty() {
            self.display
                .note(&format!("worker {} {cause}, for the {deaths}rd time: it is not started again", number + 1));
            self.given_up = true;
            self.printed.give_up(number);
            return Ok(());
        }
        let trials = failed.join(", ");
        self.display
            .note(&format!("worker {} {cause}, for the {deaths}rd time: recorded as failed: {trials}", number + 1));
        // Without these trials it may get on.
        if let Some(deaths) = self.deaths.get_mut(number) {
            *deaths = 0;
        }
        self.launch(number)
    }

    fn conclude(mut self, is_stopping: bool) -> Result<i32> {
        self.display.clear();
        self.printed.flush();
        if is_stopping {
            return Ok(exit_code(Err(interrupt::stopped().into())));
        }
        // All workers that came to the end have the same results.
        let codes: Vec<i32> = self.codes.values().copied().collect();
        let best = [SOME_FAILED, 0, FAILED, WRONG_USE].into_iter().find(|code| codes.contains(code));
        let has_failed = self.codes.values().any(|code| [FAILED, WRONG_USE].contains(code));
        if has_failed && matches!(best, Some(0 | SOME_FAILED)) {
            self.display.note_failure();
        }
        match best {
            Some(0) => {
                if stderr::is_json() {
                    stderr::object("done", []);
                }
                Ok(0)
            }
            Some(code) => {
                self.display.failure();
                Ok(code)
            }
            None if self.given_up => {
                let error = Error::input("every worker died and was started again in vain");
                Err(error.with_hint("run the script with `--workers 1`, or without it, to see what ends it"))
            }
            None => Ok(codes.first().copied().unwrap_or(FAILED)),
        }
    }
}

/// How each worker is started: with its GPU, and its part of the threads.
fn launches(call: &WorkersCall) -> Result<Vec<Launch>> {
    let gpus = match call.device.as_deref() {
        Some("cpu") => Vec::new(),
        _ => visible_gpus(),
    };
    let count = call.count.unwrap_or(gpus.len()).max(1);
    let threads = match call.threads {
        Some(threads) => threads,
        None => (threads::choose(None)?.count / count).max(1),
    };
    let launch = |number: usize| {
        let mut arguments = call.arguments.clone();
        arguments.extend(["--threads".into(), threads.to_string().into()]);
        let gpu = gpus.get(number % gpus.len().max(1)).cloned();
        Launch { arguments, gpu }
    };
    Ok((0..count).map(launch).collect())
}

/// The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them.
pub(super) fn visible_gpus() -> Vec<String> {
    let count = usable_gpus().len();
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(names) if count > 0 => names.split(',').map(|name| name.trim().to_owned()).take(count).collect(),
        _ => (0..count).map(|number| number.to_string()).collect(),
    }
}

pub(super) fn meaning(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (SIGKILL, as the system does where memory runs out)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGBUS => " (SIGBUS)",
        _ => "",
    }
}

/// For the options of `run`.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1024).contains(&count) => Ok(count),
        _ => Err(format!("expected a number of workers from 1 to 1024, found \"{text}\"")),
    }
}

impl Compute {
    /// The arguments of a worker, but for threads.
    pub(super) fn device_arguments(&self) -> Vec<OsString> {
        self.device.iter().flat_map(|device| ["--device".into(), device.into()]).collect()
    }
}
