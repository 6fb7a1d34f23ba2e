//! The process of a worker.

use crate::error::{Error, Result};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{self, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// How a worker is started.
pub struct Launch {
    pub arguments: Vec<OsString>,
    /// Its GPU, as `CUDA_VISIBLE_DEVICES` names it; `None` leaves that variable as it is.
    pub gpu: Option<String>,
}

/// What a worker writes.
pub enum Message {
    /// An object of docs/progress.md.
    Object(Value),
    /// Any other line on stderr.
    Line(String),
    /// A piece of its stdout.
    Printed(Vec<u8>),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
}

pub struct Child {
    process: process::Child,
    readers: Vec<JoinHandle<()>>,
    /// The sweeps that it joined: the folder and its id there.
    pub joined: Vec<(String, String)>,
    /// Did it report an error of its own, or its end?
    has_concluded: bool,
}

/// Lets this process alone decide when the child ends: by Ctrl-C, and by its own end.
pub fn guard(command: &mut Command) {
    // A group of its own: Ctrl-C comes to this process alone, which passes it on once.
    command.process_group(0);
    // SAFETY: between fork and exec one call that is allowed there.
    unsafe {
        command.pre_exec(|| {
            // If this process is killed, its children save what they have and end.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        })
    };
}

impl Child {
    /// Starts a worker with these variables, and sends what it writes.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(
        number: usize,
        launch: &Launch,
        variables: &[(&str, String)],
        sender: &Sender<(usize, Message)>,
    ) -> Result<Self> {
        let failed = |error: io::Error| Error::input(format!("cannot start a worker: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(&launch.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(variables.iter().map(|(name, value)| (*name, value)));
        if let Some(gpu) = &launch.gpu {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
        }
        guard(&mut command);
        let mut process = command.spawn().map_err(failed)?;
        let mut readers = Vec::new();
        if let Some(mut stdout) = process.stdout.take() {
            let sender = sender.clone();
            readers.push(std::thread::spawn(move || {
                let mut piece = [0; 1 << 14];
                while let Ok(length @ 1..) = stdout.read(&mut piece) {
                    let _ = sender.send((number, Message::Printed(piece[..length].to_vec())));
                }
            }));
        }
        if let Some(stderr) = process.stderr.take() {
            let sender = sender.clone();
            readers.push(std::thread::spawn(move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(io::Result::ok) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    let message = match serde_json::from_str(&text) {
                        Ok(object @ Value::Object(_)) => Message::Object(object),
                        _ => Message::Line(text),
                    };
                    let _ = sender.send((number, message));
                }
            }));
        }
        Ok(Child { process, readers, joined: Vec::new(), has_concluded: false })
    }

    /// Notes what an object says of the worker itself.
    pub fn observe(&mut self, object: &Value) {
        let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        match object["kind"].as_str() {
            Some("worker") => self.joined.push((text("out"), text("worker"))),
            Some("failed" | "done") => self.has_concluded = true,
            _ => {}
        }
    }

    /// How it ended, once it has; all that it wrote was sent then.
    ///
    /// # Errors
    /// A process that cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<End>> {
        let status =
            self.process.try_wait().map_err(|error| Error::input(format!("cannot wait for a worker: {error}")))?;
        let Some(status) = status else { return Ok(None) };
        self.readers.drain(..).for_each(|reader| drop(reader.join()));
        Ok(Some(match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        }))
    }

    /// Did it end as programs do? One that ran out of memory, or lost a mapped file, ends with a code and without a word
    /// of its own.
    pub fn ended_in_order(&self, code: i32) -> bool {
        self.has_concluded || code == 2
    }

    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // SAFETY: a child that was not waited for: its number is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }
}
