//! `lorhai run`: a script as it is, or rehearsed.

use super::arguments::Arguments;
use super::compute::Compute;
use super::outcome::{exit_code, FAILED, SOME_FAILED, WRONG_USE};
use super::processes::{self, ProcessesCall};
use super::sandboxed::Sandboxed;
use super::signals::handle_signals;
use super::workers::{self, WorkersCall};
use crate::error::{Error, Result};
use crate::script::{on_large_stack, parse_size, Failure, Session};
use crate::{interrupt, stderr, stdout};
use clap::CommandFactory;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct RunArgs {
    /// The script.
    file: Option<PathBuf>,
    /// Set a setting of the script; `lorhai run FILE --help` lists them.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Rehearse: do a small part of everything, write nothing, and estimate the whole run.
    ///
    /// Runs the whole script, but each training takes two steps of one row, each evaluation a few rows,
    /// each generated text a few tokens, and all files go to a temporary folder. Shows trials, steps,
    /// tokens, trainable parameters, memory and time, and what would fail. Fails if anything would.
    /// See docs/rehearsal.md.
    #[arg(long)]
    dry_run: bool,
    /// Show no progress, only the script's own output.
    #[arg(long, short)]
    quiet: bool,
    /// Report progress and errors on stderr as JSON, one object a line (docs/progress.md).
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Let the values of the script take SIZE of memory, as in 16GB; by default a third of what is free. Data sets do not
    /// count.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    /// Share the sweeps of the script with other processes that run it with the same settings (docs/cluster.md).
    #[arg(long, conflicts_with = "dry_run")]
    shared: bool,
    /// Run N processes that share the sweeps of the script, and show their progress as one; without N, one for each GPU.
    ///
    /// Write it after FILE. Each worker gets a GPU of CUDA_VISIBLE_DEVICES, and its part of the threads. One that dies is
    /// started again from its checkpoint, twice at most; then the trials that it held are recorded as failed. See
    /// docs/cluster.md.
    #[arg(long, value_name = "N", num_args = 0..=1, value_parser = workers::count, conflicts_with_all = ["dry_run", "shared"])]
    workers: Option<Option<usize>>,
    /// Train each run of the script by N processes of this machine, each with its part of the rows of every step.
    ///
    /// The result is that of one process, but for rounding. On GPUs, each process gets one of CUDA_VISIBLE_DEVICES; on a CPU,
    /// its part of the threads. See docs/cluster.md.
    #[arg(long, value_name = "N", value_parser = processes::count, conflicts_with_all = ["dry_run", "shared", "workers", "sandbox"])]
    processes: Option<usize>,
    /// Run as one of several processes that torchrun or srun started (docs/cluster.md).
    #[arg(long, conflicts_with_all = ["dry_run", "shared", "workers", "sandbox", "processes"])]
    data_parallel: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sandbox: Sandboxed,
    /// List the settings of the script, or these options.
    #[arg(long, short)]
    help: bool,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.message)
}

pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.to_string())),
        _ => Err(format!("expected KEY=VALUE, found `{text}`")),
    }
}

impl RunArgs {
    pub fn dispatch(self) -> i32 {
        let Some(file) = &self.file else {
            return self.without_file();
        };
        if self.json {
            stderr::use_json();
        }
        if let Some(count) = self.workers.filter(|_| !self.help) {
            return workers::run(self.workers_call(file, count));
        }
        if let Some(count) = self.processes.filter(|_| !self.help) {
            return processes::launch(self.processes_call(file, count));
        }
        // The sandbox is entered before there are threads.
        if let Err(error) = self.sandbox.enter(Some(file)).and_then(|()| self.compute.start()) {
            return exit_code(Err(error.into()));
        }
        handle_signals();
        let outcome = on_large_stack(|| {
            if self.help {
                Session::new().help_of_file(file).map(|text| stdout::write(&text)).map(|()| 0)
            } else {
                self.run_alone_or_together(file)
            }
        });
        outcome.unwrap_or_else(|error| Err(error.into())).unwrap_or_else(|failure| exit_code(Err(failure)))
    }

    fn run_alone_or_together(&self, file: &Path) -> Result<i32, Failure> {
        let mut session = Session::new();
        if self.data_parallel {
            return Ok(processes::run(file, &self.set, |processes| {
                session.set_quiet(self.quiet);
                session.train_together(processes)?;
                self.run(file, session)
            }));
        }
        session.set_quiet(self.quiet);
        self.run(file, session)
    }

    /// The exit code of a script that ran to its end.
    fn run(&self, file: &Path, mut session: Session) -> Result<i32, Failure> {
        if let Some(bytes) = self.max_memory {
            session.set_max_memory(bytes);
        }
        if self.shared {
            interrupt::expect_repetitions();
            session.share_sweeps();
        }
        self.set.iter().for_each(|(key, value)| session.set(key, value));
        if self.dry_run {
            rehearse(session, file)?;
        } else {
            session.run_file(file).map(drop)?;
            if let Some(code) = failed_trials(&session) {
                return Ok(code);
            }
        }
        if self.json {
            stderr::object("done", []);
        }
        Ok(0)
    }

    /// This call as one of each process.
    fn processes_call(&self, file: &Path, count: usize) -> ProcessesCall {
        let mut arguments: Vec<OsString> = ["run", "--data-parallel"].map(OsString::from).into();
        arguments.extend(self.json.then(|| "--json".into()));
        arguments.extend(self.quiet.then(|| "--quiet".into()));
        arguments.extend(self.arguments_of_all());
        arguments.push(file.into());
        ProcessesCall { count, arguments, threads: self.compute.threads, device: self.compute.device.clone() }
    }

    /// What each worker and each process is called with, too.
    fn arguments_of_all(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        self.set.iter().for_each(|(key, value)| arguments.extend(["--set".into(), format!("{key}={value}").into()]));
        self.max_memory.iter().for_each(|bytes| arguments.extend(["--max-memory".into(), bytes.to_string().into()]));
        arguments.extend(self.compute.device_arguments());
        arguments
    }

    /// This call as one of each worker.
    fn workers_call(&self, file: &Path, count: Option<usize>) -> WorkersCall {
        let mut arguments: Vec<OsString> = ["run", "--shared", "--json"].map(OsString::from).into();
        arguments.extend(self.arguments_of_all());
        arguments.extend(self.sandbox.arguments());
        arguments.push(file.into());
        let (threads, device) = (self.compute.threads, self.compute.device.clone());
        WorkersCall { count, arguments, threads, device, quiet: self.quiet }
    }

    fn without_file(&self) -> i32 {
        let mut command = Arguments::command();
        command.build();
        let run = command.find_subcommand_mut("run");
        let usage = run.map(|run| run.render_long_help().to_string()).unwrap_or_default();
        if self.help {
            stdout::write(&usage);
            return 0;
        }
        stderr::line(&format!("error: expected a script FILE, found none\n\n{usage}"));
        WRONG_USE
    }
}

/// The exit code where trials of the script's sweeps failed, with a line on stderr: a table alone is easily overlooked.
fn failed_trials(session: &Session) -> Option<i32> {
    let (failed, all) = session.failed_trials();
    if failed == 0 {
        return None;
    }
    let message = if failed < all {
        format!("{failed} of {all} trials failed")
    } else if all == 1 {
        "the trial failed".to_owned()
    } else {
        format!("all {all} trials failed")
    };
    let error =
        Error::input(message).with_hint("their errors are in result.json of each; run the script again to retry them");
    exit_code(Err(error.into()));
    Some(if failed == all { FAILED } else { SOME_FAILED })
}

/// Fails if the script fails, or if a trial of its sweeps would.
fn rehearse(mut session: Session, file: &Path) -> Result<(), Failure> {
    session.begin_rehearsal().map_err(Failure::from)?;
    let outcome = session.run_file(file).map(drop);
    let (summary, failed) = session.rehearsed().unwrap_or_default();
    stdout::write(&summary);
    match failed {
        0 => outcome,
        1 => outcome.and(Err(Error::input("1 trial would fail").into())),
        failed => outcome.and(Err(Error::input(format!("{failed} trials would fail")).into())),
    }
}
