//! The command line: `lorhai run`, `check`, `runs` and so on. Parses, dispatches, and decides the exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C.

use crate::error::{Error, Result};
use crate::script::catalogue::{definitions, docs, pages};
use crate::script::{on_large_stack, Failure, Session};
use crate::train::memory::process::leave_no_large_holes;
use crate::{files, interrupt, repl, runs, stderr, suggest};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const FAILED: i32 = 1;
const WRONG_USE: i32 = 2;

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
  lorhai run scripts/rank_sweep.rhai --help          the settings of a script
  lorhai run scripts/rank_sweep.rhai --set steps=50  run it with one of them changed
  lorhai check my.rhai                               what is wrong with it, in a moment
  lorhai run --dry-run my.rhai                       what a run would take, and what would fail
  lorhai runs                                        what was run, and how it went
  lorhai show runs/rank-sweep                        the table of a sweep
  lorhai compare runs/a runs/b --chart both.svg      two runs side by side
  lorhai replay runs/a                               does it come out the same again?
  lorhai doc train                                   what a function does, with an example

Exit codes: 0 done, 1 failed, 2 wrong use, 130 stopped by Ctrl-C.
Variables:  HF_TOKEN, HF_HOME and HF_HUB_OFFLINE as for Python; LORHAI_CACHE, a folder for what can be made again.
Every function: `lorhai doc`, docs/reference.md. What this machine offers: `lorhai doctor`.";

#[derive(Subcommand)]
enum Command {
    /// Run a script; with FILE and --help, list the settings of that script.
    #[command(
        disable_help_flag = true,
        after_help = "\
Examples:
  lorhai run scripts/rank_sweep.rhai --help
  lorhai run scripts/rank_sweep.rhai --set ranks=2,4,8 --set steps=50

A sweep goes on where it was stopped: its finished trials are not trained again. `train` begins anew and
replaces what its `out` holds."
    )]
    Run(Run),
    /// Talk line by line: functions, values and training at a prompt, or through a pipe.
    #[command(after_help = "\
Examples:
  lorhai repl
  lorhai repl my.rhai --set steps=50      its variables and functions stay
  echo 'load_model(\"scripts/tiny\")' | lorhai repl

`:help` at the prompt lists the commands; docs/repl.md tells the rest.")]
    Repl(Repl),
    /// Tell what is wrong with a script, without running it.
    ///
    /// Finds errors of the grammar, unknown variables and functions, wrong numbers of arguments,
    /// options that a function does not have, and settings of args(#{ … }) that nothing uses. What
    /// depends on values (files, columns, types) only a run can tell. Fails if anything is wrong.
    #[command(after_help = "Example:\n  lorhai check scripts/rank_sweep.rhai")]
    Check {
        /// The script.
        file: PathBuf,
    },
    /// Print what a function does, its options with their defaults, and an example.
    ///
    /// Without NAME, a line for every function.
    #[command(after_help = "\
Examples:
  lorhai doc train
  lorhai doc model.forward          of several that are called so, that of a model
  lorhai doc Tensor                 what can stand behind the dot of a tensor
  lorhai doc | grep -i perplexity")]
    Doc {
        /// A function, method, property or type.
        name: Option<String>,
    },
    /// List past runs and sweeps: status, best metric, when.
    #[command(after_help = "Example:\n  lorhai runs runs/july")]
    Runs {
        /// Where to look, with the folders in it.
        #[arg(default_value = "runs")]
        folder: PathBuf,
    },
    /// Show one run: its settings, results and files; of a sweep its table.
    #[command(after_help = "Examples:\n  lorhai show runs/rank-sweep\n  lorhai show runs/rank-sweep/rank-4_seed-0")]
    Show {
        /// The `out` of a run or sweep, or the folder of a trial.
        run: PathBuf,
    },
    /// Show in what two runs or trials differ: settings and results, side by side.
    #[command(after_help = "Example:\n  lorhai compare runs/a runs/b --chart both.svg")]
    Compare {
        /// The folder of a run or trial.
        first: PathBuf,
        /// The folder of another.
        second: PathBuf,
        /// Draw the losses of both into a file (.svg or .png).
        #[arg(long, value_name = "FILE")]
        chart: Option<PathBuf>,
    },
    /// Repeat a run from its record, and tell whether its losses come out the same.
    ///
    /// Tells first what has changed since: program, script, model, tokenizer, data. Then runs the
    /// script as it was, with the same settings, in a folder of its own, and compares the losses
    /// step by step. Nothing of the first run is touched. Fails if a loss differs by more than
    /// rounding (1e-6 relative).
    #[command(after_help = "\
Examples:
  lorhai replay runs/rank-sweep                   all trials of a sweep
  lorhai replay runs/rank-sweep/rank-4_seed-0     the whole script again, but this trial compared
  lorhai replay runs/a --out again                keeps what the replay wrote, as again/runs/a")]
    Replay {
        /// The `out` of a run or sweep, or the folder of a trial.
        run: PathBuf,
        /// Keep what the script writes in this folder, which must be new or empty.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Show neither progress nor what the script prints.
        #[arg(long, short)]
        quiet: bool,
    },
    /// Make charts and report of a sweep again from its folder, without training.
    #[command(after_help = "Example:\n  lorhai report runs/rank-sweep")]
    Report {
        /// The `out` of the sweep.
        out: PathBuf,
    },
    /// Print what a shell needs to complete `lorhai`'s commands and options.
    #[command(after_help = "\
Examples:
  lorhai completions bash > ~/.local/share/bash-completion/completions/lorhai
  lorhai completions fish > ~/.config/fish/completions/lorhai.fish
  lorhai completions zsh > ~/.zfunc/_lorhai        with fpath+=~/.zfunc before compinit")]
    Completions { shell: clap_complete::Shell },
    /// Show versions, devices, the dtype chosen for this CPU and why, folders, and what is wrong.
    ///
    /// Fails if something needs your attention, such as a GPU that cannot be used.
    #[command(after_help = "Example:\n  lorhai doctor")]
    Doctor,
    /// Write the function reference, and definitions for editors, from the functions themselves.
    ///
    /// Without a FILE, both files of this repository: docs/reference.md and docs/lorhai.d.rhai.
    #[command(after_help = "\
Examples:
  lorhai docs                               after a change of the comments in src/script/api/
  lorhai docs --check                       are both files up to date?
  lorhai docs --definitions lorhai.d.rhai   beside your scripts, for the Rhai language server
  lorhai docs --json functions.json         for any other editor")]
    Docs(Docs),
}

#[derive(clap::Args)]
struct Docs {
    /// Fail if a file is not up to date, and write nothing.
    #[arg(long)]
    check: bool,
    /// The reference, as Markdown.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// All functions as declarations with their documentation, as the Rhai language server reads them.
    #[arg(long, value_name = "FILE")]
    definitions: Option<PathBuf>,
    /// All functions with signatures, descriptions, options and examples, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Run {
    /// The script.
    file: Option<PathBuf>,
    /// Give a setting of the script a value; FILE --help lists the settings.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Rehearse: do a tiny piece of everything, write nothing, and tell what a run would take.
    ///
    /// The whole script runs, with two steps of one row for each training, few rows for each
    /// evaluation, few tokens for each text, and all files in a folder that is then removed. Shows
    /// trials, steps, tokens, trainable parameters, memory and time, and what would fail. Fails if
    /// anything would. See docs/rehearsal.md.
    #[arg(long)]
    dry_run: bool,
    /// Show no progress, only what the script prints.
    #[arg(long, short)]
    quiet: bool,
    /// Tell progress and errors on the standard error in JSON, one object a line (docs/progress.md).
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// List the settings of the script, or these options.
    #[arg(long, short)]
    help: bool,
}

#[derive(clap::Args)]
struct Repl {
    /// A script to run first; its variables and functions stay.
    file: Option<PathBuf>,
    /// Give a setting a value, for scripts and inputs that call args(#{ … }).
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
    leave_no_large_holes();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(mut error) => {
            if let Some(tip) = tip(&error) {
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
        Command::Doc { name } => told(doc(name.as_deref())),
        Command::Replay { run, out, quiet } => replay(&run, out.as_deref(), quiet),
        Command::Runs { folder } => told(runs::list(&folder)),
        Command::Show { run } => told(runs::show(&run)),
        Command::Compare { first, second, chart } => told(runs::compare(&first, &second, chart.as_deref())),
        Command::Report { out } => told(runs::report(&out)),
        Command::Completions { shell } => completions(shell),
        Command::Doctor => doctor(),
        Command::Docs(docs) => reported(docs.write().map_err(Failure::from)),
    }
}

/// What was meant by words that are no command or option, where that can be told.
fn tip(error: &clap::Error) -> Option<String> {
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
                None if Path::new(word).is_file() => Some(format!("a script is run by 'lorhai run {word}'")),
                None => Some("a script is run by 'lorhai run FILE'".to_string()),
            }
        }
        ErrorKind::UnknownArgument if error.get(ContextKind::SuggestedArg).is_none() => {
            let word = text(ContextKind::InvalidArg)?;
            let setting = word.trim_start_matches('-');
            match setting.split_once('=') {
                Some(_) => Some(format!("a setting of the script is given by '--set {setting}'")),
                None if word.starts_with("--") => {
                    Some(format!("a setting of the script is given by '--set {setting}=VALUE'"))
                }
                None => Some("settings are given by '--set KEY=VALUE', one with spaces in quotes".to_string()),
            }
        }
        ErrorKind::ValueValidation if text(ContextKind::InvalidArg)?.starts_with("--set") => {
            Some("write name and value in one word, as in '--set lr=1e-3'".to_string())
        }
        _ => None,
    }
}

/// The exit code for an outcome, whose failure goes to the standard error.
fn reported(outcome: Result<(), Failure>) -> i32 {
    let Err(failure) = outcome else { return 0 };
    match stderr::is_json() {
        true => stderr::object("failed", [("error", failure.to_json())]),
        // Where even that cannot be written, the exit code still tells.
        false => drop(writeln!(std::io::stderr(), "{failure}")),
    }
    match failure.stopped() {
        true => interrupt::EXIT_CODE,
        false => FAILED,
    }
}

fn listen_for_stop() {
    if let Err(error) = interrupt::install() {
        stderr::note(&format!("warning: Ctrl-C will end the program at once: {error}"));
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
        if self.json {
            stderr::use_json();
        }
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
        match self.dry_run {
            true => rehearse(session, file),
            false => session.run_file(file).map(drop),
        }?;
        if self.json {
            stderr::object("done", []);
        }
        Ok(())
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

/// Fails if the script does, or if a trial of its sweeps would.
fn rehearse(mut session: Session, file: &Path) -> Result<(), Failure> {
    session.begin_rehearsal().map_err(Failure::from)?;
    let outcome = session.run_file(file).map(drop);
    let (summary, failed) = session.rehearsed().unwrap_or_default();
    print!("{summary}");
    match failed {
        0 => outcome,
        1 => outcome.and(Err(Error::input("1 trial would fail").into())),
        failed => outcome.and(Err(Error::input(format!("{failed} trials would fail")).into())),
    }
}

/// Prints the text, or why there is none.
fn told(text: Result<String>) -> i32 {
    reported(text.map(|text| print!("{text}")).map_err(Failure::from))
}

/// Fails if anything is wrong with the script; warnings alone are no failure.
fn check(file: &Path) -> i32 {
    let found = on_large_stack(|| Session::new().check_file(file)).unwrap_or_else(|error| Err(error.into()));
    let problems = match found {
        Ok(problems) => problems,
        Err(failure) => return reported(Err(failure)),
    };
    if problems.is_empty() {
        println!("{}: nothing wrong was found", file.display());
        return 0;
    }
    let warnings = problems.iter().filter(|problem| problem.is_warning()).count();
    let errors = problems.len() - warnings;
    let counts = [counted(errors, "problem"), counted(warnings, "warning")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let text: Vec<String> = problems.iter().map(Failure::to_string).collect();
    let _ = writeln!(std::io::stderr(), "{}\n\n{}: {}", text.join("\n\n"), file.display(), counts.join(", "));
    if errors == 0 {
        0
    } else {
        FAILED
    }
}

/// "1 problem", "2 warnings"; nothing of none.
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
    print!("{}", String::from_utf8_lossy(&script));
    0
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

/// The page of a function, or the list of all.
fn doc(name: Option<&str>) -> Result<String> {
    match name {
        Some(name) => pages::about(&Session::new().catalog(), name),
        None => Ok(pages::overview()),
    }
}

/// Fails if a loss did not come out the same.
fn replay(run: &Path, out: Option<&Path>, quiet: bool) -> i32 {
    listen_for_stop();
    match crate::replay::replay(run, out, quiet, &mut |text| print!("{text}")) {
        Ok(true) => 0,
        Ok(false) => FAILED,
        Err(failure) => reported(Err(failure)),
    }
}

impl Docs {
    fn write(&self) -> Result<()> {
        let is_plain = self.out.is_none() && self.definitions.is_none() && self.json.is_none();
        let or_ours = |given: &Option<PathBuf>, ours: &str| given.clone().or_else(|| is_plain.then(|| ours.into()));
        if let Some(path) = or_ours(&self.out, "docs/reference.md") {
            self.settle(&path, &docs::reference())?;
        }
        if let Some(path) = or_ours(&self.definitions, "docs/lorhai.d.rhai") {
            self.settle(&path, &definitions::definitions())?;
        }
        match &self.json {
            Some(path) => self.settle(path, &format!("{:#}\n", definitions::json())),
            None => Ok(()),
        }
    }

    /// Writes the file, or compares it with what would be written.
    fn settle(&self, path: &Path, text: &str) -> Result<()> {
        if !self.check {
            return files::write_whole(path, text.as_bytes());
        }
        if files::read_text(path)? == text {
            return Ok(());
        }
        let message = format!("`{}` is not up to date", path.display());
        Err(Error::new(crate::Kind::File, message).with_hint("run `lorhai docs` and commit the file"))
    }
}
