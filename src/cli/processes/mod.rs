//! `lorhai run --processes` and `--data-parallel`: several processes that run one script and train its runs together.
//!
//! | file | defines |
//! |---|---|
//! | `mod.rs` | one of these processes: it joins the others, runs the script, and ends with them |
//! | `rendezvous.rs` | where the processes meet, from the variables of torchrun or Slurm |
//! | `launch.rs` | starts several on this machine |
//!
//! Leaves to others: how they train (`train/processes/`).

mod launch;
mod rendezvous;

pub use launch::{launch, ProcessesCall};

use super::outcome::{exit_code, FAILED};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::model::processor;
use crate::native::process_group::{Group, Store};
use crate::script::Failure;
use crate::train::processes::Processes;
use crate::{files, stderr, stdout, threads};
use rendezvous::Rendezvous;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// Seconds that a process waits for another.
const TIMEOUT: &str = "LORHAI_PROCESS_TIMEOUT";
const USUAL_TIMEOUT: Duration = Duration::from_secs(600);

/// Runs a script as one of several processes, and returns the exit code. All end with the same one, unless one died.
pub fn run(
    file: &Path,
    settings: &[(String, String)],
    script: impl FnOnce(Rc<Processes>) -> Result<i32, Failure>,
) -> i32 {
    // A scheduler may signal the processes of a job more than once.
    interrupt::expect_repetitions();
    let processes = match join() {
        Ok(processes) => Rc::new(processes),
        Err(error) => return exit_code(Err(error.into())),
    };
    if !processes.is_first() {
        stdout::discard();
    }
    let outcome = match agree(&processes, file, settings) {
        Ok(()) => script(processes.clone()),
        Err(error) => Err(error.into()),
    };
    // Where all fail alike, the failure of this process has its place in the script.
    let errors = outcome.as_ref().map(|code| *code).map_err(|failure| failure.error.clone());
    let outcome = match (processes.conclude("the end of the script", errors), outcome) {
        (_, Err(failure)) => Err(failure),
        (Err(error), Ok(_)) => Err(error.into()),
        (Ok(code), Ok(_)) => Ok(code),
    };
    match outcome {
        Ok(code) => {
            if processes.is_first() && !processes.has_trained() {
                let size = processes.size();
                stderr::note(&format!(
                    "warning: the script trained no run, so each of the {size} processes did the same work"
                ));
            }
            code
        }
        Err(failure) if processes.has_failed_together() && !processes.is_first() => silent_code(&failure),
        Err(failure) if processes.is_first() => exit_code(Err(failure)),
        Err(mut failure) => {
            failure.error = failure.error.context(format!("process {} of {}", processes.rank(), processes.size()));
            exit_code(Err(failure))
        }
    }
}

/// The exit code of a failure that the first process reports.
fn silent_code(failure: &Failure) -> i32 {
    if failure.stopped() {
        interrupt::exit_code()
    } else {
        FAILED
    }
}

fn join() -> Result<Processes> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let timeout = timeout(variable(TIMEOUT))?;
    let rendezvous = Rendezvous::from_variables(&variable)?;
    let Rendezvous { host, port, is_server, .. } = &rendezvous;
    let store = if *is_server { Store::serve(host, *port, timeout) } else { Store::connect(host, *port, timeout) };
    Ok(Processes::new(Group::join(store?, &rendezvous.membership(timeout))?))
}

fn timeout(text: Option<String>) -> Result<Duration> {
    let Some(text) = text else { return Ok(USUAL_TIMEOUT) };
    match text.trim().parse::<f64>() {
        Ok(seconds) if (1.0..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(Error::input(format!("{TIMEOUT}: expected seconds from 1 to 1000000, found \"{text}\""))),
    }
}

/// Fails unless all processes run the same script by the same program, and round alike.
fn agree(processes: &Processes, file: &Path, settings: &[(String, String)]) -> Result<()> {
    let text = files::read_text(file);
    let text = processes.meet("the script", text)?;
    let settings: serde_json::Map<String, Value> =
        settings.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    let own = json!({
        "text": format!("{:x}", Sha256::digest(text)),
        "set": settings,
        "lorhai": env!("CARGO_PKG_VERSION"),
        "libtorch": env!("LORHAI_LIBTORCH_VERSION"),
        "threads": threads::count(),
        "processor": processor::features(),
    });
    processes.ensure_same("the script", &own)
}

/// For the options of `run`.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1024).contains(&count) => Ok(count),
        _ => Err(format!("expected a number of processes from 1 to 1024, found \"{text}\"")),
    }
}
