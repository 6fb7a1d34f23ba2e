//! The command line: `lorhai run`, `check`, `runs` and the others. Parses, dispatches, chooses the exit code. The only
//! place that uses `clap`.
//!
//! | file | defines |
//! |---|---|
//! | `arguments.rs` | the commands, their arguments and help |
//! | `run.rs`, `prompt.rs`, `check.rs`, `docs.rs`, `submit.rs` | the commands `run`, `repl`, `check`, `docs`, `submit` |
//! | `workers/` | `run --workers`: several processes that share the sweeps of a script |
//! | `processes/` | `run --processes` and `--data-parallel`: several processes that train each run together |
//! | `compute.rs`, `sandboxed.rs` | options that several commands share: threads and device; the sandbox |
//! | `suggestion.rs` | what a wrong command line may have meant |
//! | `outcome.rs`, `signals.rs` | exit codes; what signals do |
//!
//! Exit codes: 0 success, 1 failure, 2 usage error, 3 some trials of a sweep failed, 128 and the number of the signal
//! that stopped it.

mod arguments;
mod check;
mod compute;
mod docs;
mod outcome;
mod processes;
mod prompt;
mod run;
mod sandboxed;
mod signals;
mod submit;
mod suggestion;
mod workers;

use crate::cluster::cancel::cancel;
use crate::cluster::status::status;
use crate::error::Result;
use crate::replay::{self, ReplayOptions};
use crate::script::catalogue::pages;
use crate::script::{Failure, Session};
use crate::train::memory::process::leave_no_large_holes;
use crate::{runs, stdout};
use arguments::{Arguments, Command};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};
use compute::Compute;
use outcome::{exit_code, print_or_fail, FAILED};
use std::ffi::OsString;
use std::path::Path;

/// Runs the program with the process's arguments and gives its exit code.
pub fn main() -> i32 {
    main_with(std::env::args_os())
}

/// As [`main`], with these arguments, of which the first is the program's name.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    leave_no_large_holes();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(mut error) => {
            if let Some(tip) = suggestion::suggestion(&error) {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
                error.remove(ContextKind::SuggestedSubcommand);
            }
            let _ = error.print();
            return error.exit_code();
        }
    };
    match arguments.command {
        Command::Run(run) => run.dispatch(),
        Command::Repl(repl) => repl.dispatch(),
        Command::Check { file } => check::check(&file),
        Command::Doc { words } => print_or_fail(doc(&words.join(" "))),
        Command::Replay { run, out, quiet, threads, device } => {
            replay(&run, out.as_deref(), quiet, &Compute { threads, device })
        }
        Command::Runs { folder } => print_or_fail(runs::list(&folder)),
        Command::Show { run } => print_or_fail(runs::show(&run)),
        Command::Compare { first, second, chart } => print_or_fail(runs::compare(&first, &second, chart.as_deref())),
        Command::Submit(submit) => submit.dispatch(),
        Command::Status { out } => {
            signals::handle_signals();
            print_or_fail(status(&out))
        }
        Command::Cancel { out } => print_or_fail(cancel(&out)),
        Command::Report { out } => print_or_fail(runs::report(&out)),
        Command::Completions { shell } => completions(shell),
        Command::Doctor => doctor(),
        Command::Docs(docs) => exit_code(docs.write().map_err(Failure::from)),
    }
}

fn completions(shell: clap_complete::Shell) -> i32 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "lorhai", &mut script);
    stdout::write(&String::from_utf8_lossy(&script));
    0
}

/// Fails if there is a problem.
fn doctor() -> i32 {
    let report = crate::doctor::report();
    stdout::write(&report.text);
    if report.problems.is_empty() {
        0
    } else {
        FAILED
    }
}

/// The documentation of a function, or the list of all.
fn doc(name: &str) -> Result<String> {
    if name.is_empty() {
        return Ok(pages::overview());
    }
    pages::about(&Session::new().catalog(), name)
}

/// Fails if a loss is not the same.
fn replay(run: &Path, out: Option<&Path>, quiet: bool, compute: &Compute) -> i32 {
    if let Err(error) = compute.start() {
        return exit_code(Err(error.into()));
    }
    signals::handle_signals();
    let Compute { threads, device } = compute;
    let options = ReplayOptions { keep: out, quiet, threads: *threads, device: device.as_deref() };
    match replay::replay(run, &options, &mut |text| stdout::write(text)) {
        Ok(true) => 0,
        Ok(false) => FAILED,
        Err(failure) => exit_code(Err(failure)),
    }
}
