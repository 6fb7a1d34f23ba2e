//! The command line: `lorhai run`, `check`, `runs` and the others. Parses, dispatches, chooses the exit code.
//!
//! Exit codes: 0 success, 1 failure, 2 usage error, 3 some trials of a sweep failed, 128 and the number of the signal
//! that stopped it.

use crate::error::{Error, Result};
use crate::hub::mapped;
use crate::script::catalogue::{definitions, docs, pages};
use crate::script::{on_large_stack, parse_size, Failure, Session};
use crate::train::memory::process::leave_no_large_holes;
use crate::{files, interrupt, repl, runs, sandbox, stderr, stdout, suggest, threads};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const FAILED: i32 = 1;
const WRONG_USE: i32 = 2;
/// Some trials of a sweep failed, and others did not.
const SOME_FAILED: i32 = 3;

/// LoRA fine-tuning experiments as short Rhai scripts, on libtorch.
#[derive(Parser)]
#[command(name = "lorhai", version = VERSION.as_str(), after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Version, target, libtorch, and the commit where `make install` or `make dist` gave it.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let libtorch = env!("LORHAI_LIBTORCH_VERSION");
    let build = match option_env!("LORHAI_COMMIT") {
        Some(commit) if !commit.is_empty() => format!("commit {commit}, {}", env!("LORHAI_TARGET")),
        _ => env!("LORHAI_TARGET").to_string(),
    };
    format!("{} (libtorch {libtorch}; {build})", env!("CARGO_PKG_VERSION"))
});

const EXAMPLES: &str = "\
Examples:
  lorhai run scripts/rank_sweep.rhai --help          list the settings of a script
  lorhai run scripts/rank_sweep.rhai --set steps=50  run it with one setting changed
  lorhai check my.rhai                               find errors without running it
  lorhai run --dry-run my.rhai                       estimate time and memory, and find what would fail
  lorhai run --sandbox stranger.rhai                 run a script that you did not write
  lorhai runs                                        list past runs and their results
  lorhai show runs/rank-sweep                        print the table of a sweep
  lorhai compare runs/a runs/b --chart both.svg      compare two runs
  lorhai replay runs/a                               repeat a run and compare its losses
  lorhai doc train                                   explain a function, with an example

Exit codes: 0 success, 1 failure, 2 usage error, 3 some trials of a sweep failed;
            stopped by a signal: 128 + its number (130 Ctrl-C, 143 SIGTERM, 129 closed terminal, 138 SIGUSR1).
Variables:  HF_TOKEN, HF_HOME and HF_HUB_OFFLINE as in Python; LORHAI_CACHE, the folder of lorhai's own cache;
            LORHAI_THREADS, the number of threads, as with --threads.
All functions: `lorhai doc`, docs/reference.md. Versions and devices of this machine: `lorhai doctor`.";

#[derive(Subcommand)]
enum Command {
    /// Run a script; with FILE and --help, list the settings of that script.
    #[command(
        disable_help_flag = true,
        after_help = "\
Examples:
  lorhai run scripts/rank_sweep.rhai --help
  lorhai run scripts/rank_sweep.rhai --set ranks=2,4,8 --set steps=50

A script that was stopped goes on when it is run again: a sweep with the trials that are not finished, and
a `train` with `out` from its last checkpoint (docs/checkpoints.md).

Exit codes:
  0    all went well
  1    the script failed, or every trial of its sweeps did
  2    usage error
  3    some trials of a sweep failed; run it again to try those once more
  128+ stopped by a signal: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP (the terminal was closed), 138 SIGUSR1.
       The first signal stops in order, a second Ctrl-C or SIGTERM at once."
    )]
    Run(RunArgs),
    /// Run lines interactively: at a prompt, or from a pipe.
    #[command(after_help = "\
Examples:
  lorhai repl
  lorhai repl my.rhai --set steps=50      start with the variables and functions of a script
  echo 'load_model(\"scripts/tiny\")' | lorhai repl

`:help` at the prompt lists its commands; see docs/repl.md.")]
    Repl(Repl),
    /// Check a script for errors without running it.
    ///
    /// Finds syntax errors, unknown variables and functions, wrong numbers of arguments, options that
    /// a function does not have, and settings of args(#{ … }) that are never used. Errors that depend
    /// on values (files, columns, types) show only in a run. Fails if it finds an error.
    #[command(after_help = "Example:\n  lorhai check scripts/rank_sweep.rhai")]
    Check {
        /// The script.
        file: PathBuf,
    },
    /// Explain a function: what it does, its options with their defaults, an example.
    ///
    /// Without NAME, lists all functions, one a line.
    #[command(after_help = "\
Examples:
  lorhai doc train
  lorhai doc model.forward          the method `forward` of a model, where several types have one
  lorhai doc Tensor                 the methods and properties of tensors
  lorhai doc early_stopping         the functions that take this option
  lorhai doc held-out loss          the functions whose documentation has these words")]
    Doc {
        /// A function, method, property, type or option; or words to search for.
        #[arg(value_name = "NAME")]
        words: Vec<String>,
    },
    /// List past runs and sweeps: status, best metric, date.
    #[command(after_help = "Example:\n  lorhai runs runs/july")]
    Runs {
        /// The folder to search, including its subfolders.
        #[arg(default_value = "runs")]
        folder: PathBuf,
    },
    /// Show one run: its settings, results and files; for a sweep, its table.
    #[command(after_help = "Examples:\n  lorhai show runs/rank-sweep\n  lorhai show runs/rank-sweep/rank-4_seed-0")]
    Show {
        /// The folder of a run or sweep (its option `out`), or of one trial.
        run: PathBuf,
    },
    /// Compare two runs or trials: settings that differ and results, side by side.
    #[command(after_help = "Example:\n  lorhai compare runs/a runs/b --chart both.svg")]
    Compare {
        /// The folder of a run or trial.
        first: PathBuf,
        /// The folder of another run or trial.
        second: PathBuf,
        /// Also draw the losses of both into FILE (.svg or .png).
        #[arg(long, value_name = "FILE")]
        chart: Option<PathBuf>,
    },
    /// Repeat a run from its record, and check that its losses are the same.
    ///
    /// First lists what has changed since: program, script, model, tokenizer, data. Then runs the
    /// recorded script with the same settings in a separate folder, and compares the losses step by
    /// step. The first run is not touched. Fails if a loss differs by more than rounding (1e-6
    /// relative).
    ///
    /// The script runs without a sandbox: a record from somebody else is a script from somebody else
    /// (docs/trust.md).
    #[command(after_help = "\
Examples:
  lorhai replay runs/rank-sweep                   compare all trials of a sweep
  lorhai replay runs/rank-sweep/rank-4_seed-0     run the whole script, but compare only this trial
  lorhai replay runs/a --out again                keep the replay's files, in again/runs/a")]
    Replay {
        /// The folder of a run or sweep (its option `out`), or of one trial.
        run: PathBuf,
        /// Keep the files of the replay in DIR, which must be new or empty.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Show neither progress nor the script's own output.
        #[arg(long, short)]
        quiet: bool,
        /// Compute in N threads instead of as many as the run recorded.
        #[arg(long, value_name = "N", value_parser = thread_count)]
        threads: Option<usize>,
    },
    /// Redraw the charts and the report of a sweep from its results.
    #[command(after_help = "Example:\n  lorhai report runs/rank-sweep")]
    Report {
        /// The folder of the sweep (its option `out`).
        out: PathBuf,
    },
    /// Print a shell script that completes lorhai's commands and options.
    #[command(after_help = "\
Examples:
  lorhai completions bash > ~/.local/share/bash-completion/completions/lorhai
  lorhai completions fish > ~/.config/fish/completions/lorhai.fish
  lorhai completions zsh > ~/.zfunc/_lorhai        and fpath+=~/.zfunc before compinit")]
    Completions { shell: clap_complete::Shell },
    /// Show versions, devices, the dtype chosen for this CPU and why, folders, and problems.
    ///
    /// Fails if there is a problem, such as a GPU that cannot be used.
    #[command(after_help = "Example:\n  lorhai doctor")]
    Doctor,
    /// Generate the function reference, and definitions for editors.
    ///
    /// Without options, writes both files of this repository: docs/reference.md and docs/lorhai.d.rhai.
    #[command(after_help = "\
Examples:
  lorhai docs                               after editing comments in src/script/api/
  lorhai docs --check                       check that both files are up to date
  lorhai docs --definitions lorhai.d.rhai   for the Rhai language server, beside your scripts
  lorhai docs --json functions.json         for other editors and tools")]
    Docs(Docs),
}

#[derive(clap::Args)]
struct Docs {
    /// Write nothing, and fail if a file is not up to date.
    #[arg(long)]
    check: bool,
    /// Write the reference to FILE, as Markdown.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write all functions to FILE as documented declarations, for the Rhai language server.
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// Write all functions to FILE as JSON: signatures, descriptions, options and examples.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
struct RunArgs {
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
    /// Compute in N threads; by default as many as there are processors that lorhai may use.
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    #[command(flatten)]
    sandbox: Sandboxed,
    /// List the settings of the script, or these options.
    #[arg(long, short)]
    help: bool,
}

#[derive(clap::Args)]
struct Sandboxed {
    /// Keep the script from everything that it does not need: for scripts that you did not write (docs/trust.md).
    ///
    /// The script reads its own folder and what --allow-read names, and writes below `runs`, or below what
    /// --allow-write names instead. It sees no environment and no hub token, and reaches no network.
    #[arg(long)]
    sandbox: bool,
    /// In the sandbox, also let the script read PATH, a file or a folder.
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    allow_read: Vec<PathBuf>,
    /// In the sandbox, let the script write below FOLDER instead of `runs`.
    #[arg(long, value_name = "FOLDER", requires = "sandbox")]
    allow_write: Vec<PathBuf>,
    /// In the sandbox, let the script fetch public models and data from the hub, without your token.
    #[arg(long, requires = "sandbox")]
    allow_hub: bool,
}

impl Sandboxed {
    /// Enters the sandbox if there is to be one. `script` is run in it.
    fn enter(&self, script: Option<&Path>) -> Result<()> {
        if !self.sandbox {
            return Ok(());
        }
        let folder = script.and_then(Path::parent).unwrap_or(Path::new("."));
        let (read, write, hub) = (self.allow_read.clone(), self.allow_write.clone(), self.allow_hub);
        sandbox::enter(folder, &sandbox::Grants { read, write, hub })
    }
}

#[derive(clap::Args)]
struct Repl {
    /// A script to run first; its variables and functions stay.
    file: Option<PathBuf>,
    /// Set a setting, for scripts and inputs that call args(#{ … }).
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
    /// Compute in N threads; by default as many as there are processors that lorhai may use.
    #[arg(long, value_name = "N", value_parser = thread_count)]
    threads: Option<usize>,
    #[command(flatten)]
    sandbox: Sandboxed,
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|error| error.message)
}

fn thread_count(text: &str) -> Result<usize, String> {
    threads::parse("--threads", text).map_err(|error| error.message)
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.to_string())),
        _ => Err(format!("expected KEY=VALUE, found `{text}`")),
    }
}

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
            if let Some(tip) = suggestion(&error) {
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
        Command::Check { file } => check(&file),
        Command::Doc { words } => print_or_fail(doc(&words.join(" "))),
        Command::Replay { run, out, quiet, threads } => replay(&run, out.as_deref(), quiet, threads),
        Command::Runs { folder } => print_or_fail(runs::list(&folder)),
        Command::Show { run } => print_or_fail(runs::show(&run)),
        Command::Compare { first, second, chart } => print_or_fail(runs::compare(&first, &second, chart.as_deref())),
        Command::Report { out } => print_or_fail(runs::report(&out)),
        Command::Completions { shell } => completions(shell),
        Command::Doctor => doctor(),
        Command::Docs(docs) => exit_code(docs.write().map_err(Failure::from)),
    }
}

/// A suggestion for an unknown command or option.
fn suggestion(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand)?;
            let known: Vec<String> = Arguments::command().get_subcommands().map(|one| one.get_name().into()).collect();
            match suggest::nearest(word, known.iter().map(String::as_str)) {
                Some(near) => Some(format!("did you mean 'lorhai {near}'?")),
                None if Path::new(word).is_file() => Some(format!("to run a script, write 'lorhai run {word}'")),
                None => Some("to run a script, write 'lorhai run FILE'".to_string()),
            }
        }
        ErrorKind::UnknownArgument if error.get(ContextKind::SuggestedArg).is_none() => {
            let word = text(ContextKind::InvalidArg)?;
            let setting = word.trim_start_matches('-');
            match setting.split_once('=') {
                Some(_) => Some(format!("to change a setting of the script, write '--set {setting}'")),
                None if word.starts_with("--") => {
                    Some(format!("to change a setting of the script, write '--set {setting}=VALUE'"))
                }
                None => Some("to change a setting, write '--set KEY=VALUE', in quotes if it has spaces".to_string()),
            }
        }
        ErrorKind::ValueValidation if text(ContextKind::InvalidArg)?.starts_with("--set") => {
            Some("write name and value in one word, as in '--set lr=1e-3'".to_string())
        }
        _ => None,
    }
}

/// The exit code of an outcome; its failure goes to stderr.
fn exit_code(outcome: Result<(), Failure>) -> i32 {
    let Err(failure) = outcome else { return 0 };
    if failure.stopped() && interrupt::is_silent() {
        return interrupt::exit_code();
    }
    if stderr::is_json() {
        stderr::object("failed", [("error", failure.to_json())]);
    } else {
        stderr::line(&failure.to_string());
    }
    if failure.stopped() {
        interrupt::exit_code()
    } else {
        FAILED
    }
}

fn handle_signals() {
    mapped::explain_truncation();
    interrupt::survive_closed_pipes();
    if let Err(error) = interrupt::install() {
        stderr::note(&format!("warning: Ctrl-C will end the program at once: {error}"));
    }
}

impl Repl {
    fn dispatch(self) -> i32 {
        if let Err(error) = self.sandbox.enter(self.file.as_deref()).and_then(|()| threads::start(self.threads)) {
            return exit_code(Err(error.into()));
        }
        handle_signals();
        let code = on_large_stack(|| {
            let mut session = Session::new();
            session.set_quiet(self.quiet);
            self.set.iter().for_each(|(key, value)| session.set(key, value));
            repl::run(session, self.file.as_deref())
        });
        code.unwrap_or_else(|error| exit_code(Err(error.into())))
    }
}

impl RunArgs {
    fn dispatch(self) -> i32 {
        let Some(file) = &self.file else {
            return self.without_file();
        };
        if self.json {
            stderr::use_json();
        }
        // The sandbox is entered before there are threads.
        if let Err(error) = self.sandbox.enter(Some(file)).and_then(|()| threads::start(self.threads)) {
            return exit_code(Err(error.into()));
        }
        handle_signals();
        let outcome = on_large_stack(|| {
            if self.help {
                Session::new().help_of_file(file).map(|text| stdout::write(&text)).map(|()| 0)
            } else {
                self.run(file)
            }
        });
        outcome.unwrap_or_else(|error| Err(error.into())).unwrap_or_else(|failure| exit_code(Err(failure)))
    }

    /// The exit code of a script that ran to its end.
    fn run(&self, file: &Path) -> Result<i32, Failure> {
        let mut session = Session::new();
        session.set_quiet(self.quiet);
        if let Some(bytes) = self.max_memory {
            session.set_max_memory(bytes);
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

/// Prints the text, or the error; returns the exit code.
fn print_or_fail(text: Result<String>) -> i32 {
    exit_code(text.map(|text| stdout::write(&text)).map_err(Failure::from))
}

/// Fails if the script has an error; warnings alone are no failure.
fn check(file: &Path) -> i32 {
    let outcome = on_large_stack(|| Session::new().check_file(file)).unwrap_or_else(|error| Err(error.into()));
    let problems = match outcome {
        Ok(problems) => problems,
        Err(failure) => return exit_code(Err(failure)),
    };
    if problems.is_empty() {
        stdout::line(&format!("{}: no problems found", file.display()));
        return 0;
    }
    let warnings = problems.iter().filter(|problem| problem.is_warning()).count();
    let errors = problems.len() - warnings;
    let counts = [counted(errors, "problem"), counted(warnings, "warning")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let text: Vec<String> = problems.iter().map(Failure::to_string).collect();
    stderr::line(&format!("{}\n\n{}: {}", text.join("\n\n"), file.display(), counts.join(", ")));
    if errors == 0 {
        0
    } else {
        FAILED
    }
}

/// "1 problem", "2 warnings"; `None` for 0.
fn counted(count: usize, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
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
fn replay(run: &Path, out: Option<&Path>, quiet: bool, threads: Option<usize>) -> i32 {
    if let Err(error) = threads::start(threads) {
        return exit_code(Err(error.into()));
    }
    handle_signals();
    match crate::replay::replay(run, out, quiet, threads, &mut |text| stdout::write(text)) {
        Ok(true) => 0,
        Ok(false) => FAILED,
        Err(failure) => exit_code(Err(failure)),
    }
}

impl Docs {
    fn write(&self) -> Result<()> {
        let no_options = self.out.is_none() && self.definitions.is_none() && self.json.is_none();
        let or_default =
            |path: &Option<PathBuf>, default: &str| path.clone().or_else(|| no_options.then(|| default.into()));
        if let Some(path) = or_default(&self.out, "docs/reference.md") {
            self.write_or_check(&path, &docs::reference())?;
        }
        if let Some(path) = or_default(&self.definitions, "docs/lorhai.d.rhai") {
            self.write_or_check(&path, &definitions::definitions())?;
        }
        match &self.json {
            Some(path) => self.write_or_check(path, &format!("{:#}\n", definitions::json())),
            None => Ok(()),
        }
    }

    /// Writes the file, or with `--check` compares it with what would be written.
    fn write_or_check(&self, path: &Path, text: &str) -> Result<()> {
        if !self.check {
            return files::write_atomic(path, text.as_bytes());
        }
        if files::read_text(path)? == text {
            return Ok(());
        }
        let message = format!("`{}` is not up to date", path.display());
        Err(Error::new(crate::Kind::File, message).with_hint("run `lorhai docs` and commit the file"))
    }
}
