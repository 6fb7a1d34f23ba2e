//! The command line: `lorhai run | repl | doctor | docs`. Parses, dispatches, and decides the exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C.

use crate::error::{Error, Result};
use crate::script::{docs, on_large_stack, Failure, Session};
use crate::{files, interrupt, repl};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};

const FAILED: i32 = 1;
const WRONG_USE: i32 = 2;

/// LoRA fine-tuning experiments as short Rhai scripts, on libtorch.
#[derive(Parser)]
#[command(name = "lorhai", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a script; with FILE and --help, list the settings of that script.
    #[command(disable_help_flag = true)]
    Run(Run),
    /// Talk line by line: functions, values and training at a prompt, or through a pipe.
    Repl(Repl),
    /// Show versions, devices, the dtype chosen for this CPU and why, folders, and what is wrong.
    Doctor,
    /// Write the function reference from the functions themselves.
    Docs {
        /// Fail if the file is not up to date, and write nothing.
        #[arg(long)]
        check: bool,
        /// Where the reference is.
        #[arg(long, value_name = "FILE", default_value = "docs/reference.md")]
        out: PathBuf,
    },
}

#[derive(clap::Args)]
struct Run {
    /// The script.
    file: Option<PathBuf>,
    /// Give a setting of the script a value; FILE --help lists the settings.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Show no progress, only what the script prints.
    #[arg(long, short)]
    quiet: bool,
    /// List the settings of the script, or these options.
    #[arg(long, short)]
    help: bool,
}

#[derive(clap::Args)]
struct Repl {
    /// A script to run first; its variables and functions stay.
    file: Option<PathBuf>,
    /// Give a setting of the script a value.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.to_string())),
        _ => Err(format!("expected KEY=VALUE, found `{text}`")),
    }
}

/// Runs the program with the process's arguments and gives its exit code.
pub fn main() -> i32 {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return error.exit_code();
        }
    };
    match arguments.command {
        Command::Run(run) => run.dispatch(),
        Command::Repl(repl) => repl.dispatch(),
        Command::Doctor => doctor(),
        Command::Docs { check, out } => reported(write_docs(check, &out).map_err(Failure::from)),
    }
}

/// The exit code for an outcome, whose failure goes to the standard error.
fn reported(outcome: Result<(), Failure>) -> i32 {
    let Err(failure) = outcome else { return 0 };
    // Where even that cannot be written, the exit code still tells.
    let _ = writeln!(std::io::stderr(), "{failure}");
    match failure.stopped() {
        true => interrupt::EXIT_CODE,
        false => FAILED,
    }
}

fn listen_for_stop() {
    if let Err(error) = interrupt::install() {
        eprintln!("warning: Ctrl-C will end the program at once: {error}");
    }
}

impl Repl {
    fn dispatch(self) -> i32 {
        listen_for_stop();
        let code = on_large_stack(|| {
            let mut session = Session::new();
            session.set_quiet(self.quiet);
            self.set.iter().for_each(|(key, value)| session.set(key, value));
            repl::run(session, self.file.as_deref())
        });
        code.unwrap_or_else(|error| reported(Err(error.into())))
    }
}

impl Run {
    fn dispatch(self) -> i32 {
        let Some(file) = &self.file else {
            return self.without_file();
        };
        listen_for_stop();
        let outcome = on_large_stack(|| match self.help {
            true => Session::new().help_of_file(file).map(|text| print!("{text}")),
            false => self.run(file),
        });
        reported(outcome.unwrap_or_else(|error| Err(error.into())))
    }

    fn run(&self, file: &Path) -> Result<(), Failure> {
        let mut session = Session::new();
        session.set_quiet(self.quiet);
        self.set.iter().for_each(|(key, value)| session.set(key, value));
        session.run_file(file).map(drop)
    }

    fn without_file(&self) -> i32 {
        let mut command = Arguments::command();
        command.build();
        let run = command.find_subcommand_mut("run");
        let usage = run.map(|run| run.render_long_help().to_string()).unwrap_or_default();
        if self.help {
            print!("{usage}");
            return 0;
        }
        eprintln!("error: expected a script FILE, found none\n\n{usage}");
        WRONG_USE
    }
}

/// Fails if something needs the user's attention.
fn doctor() -> i32 {
    let report = crate::doctor::report();
    print!("{}", report.text);
    if report.problems.is_empty() {
        0
    } else {
        FAILED
    }
}

fn write_docs(check: bool, out: &Path) -> Result<()> {
    let reference = docs::reference();
    if !check {
        return files::write_whole(out, reference.as_bytes());
    }
    if files::read_text(out)? == reference {
        return Ok(());
    }
    let message = format!("`{}` is not up to date", out.display());
    Err(Error::new(crate::Kind::File, message).with_hint("run `lorhai docs` and commit the file"))
}
