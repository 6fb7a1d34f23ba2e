//! What the command line may say: the commands and their help. Options of `run`, `repl` and `docs` are declared beside
//! what they do.

use super::compute::{device_name, thread_count};
use super::docs::Docs;
use super::prompt::Repl;
use super::run::RunArgs;
use super::submit::Submit;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::sync::LazyLock;

/// LoRA fine-tuning experiments as short Rhai scripts, on libtorch.
#[derive(Parser)]
#[command(name = "lorhai", version = VERSION.as_str(), after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
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
  lorhai run my.rhai --workers 4                     share its sweeps among four processes
  lorhai run my.rhai --processes 2                   train its runs by two processes together
  lorhai runs                                        list past runs and their results
  lorhai show runs/rank-sweep                        print the table of a sweep
  lorhai compare runs/a runs/b --chart both.svg      compare two runs
  lorhai submit slurm my.rhai --tasks 8 --gpus 1     train a sweep on a Slurm cluster
  lorhai replay runs/a                               repeat a run and compare its losses
  lorhai doc train                                   explain a function, with an example

Exit codes: 0 success, 1 failure, 2 usage error, 3 some trials of a sweep failed;
            stopped by a signal: 128 + its number (130 Ctrl-C, 143 SIGTERM, 129 closed terminal, 138 SIGUSR1).
Variables:  HF_TOKEN, HF_HOME and HF_HUB_OFFLINE as in Python; LORHAI_CACHE, the folder of lorhai's own cache;
            LORHAI_THREADS, the number of threads, as with --threads.
All functions: `lorhai doc`, docs/reference.md. Versions and devices of this machine: `lorhai doctor`.";

#[derive(Subcommand)]
pub enum Command {
    /// Run a script; with FILE and --help, list the settings of that script.
    #[command(
        disable_help_flag = true,
        after_help = "\
Examples:
  lorhai run scripts/rank_sweep.rhai --help
  lorhai run scripts/rank_sweep.rhai --set ranks=2,4,8 --set steps=50
  lorhai run scripts/rank_sweep.rhai --workers       one worker for each GPU, which share the sweep

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
    /// Compare two runs, trials or sweeps: settings that differ and results, side by side.
    ///
    /// Two sweeps are compared at the settings that both have, in pairs of the same seed.
    #[command(after_help = "Example:\n  lorhai compare runs/a runs/b --chart both.svg")]
    Compare {
        /// The folder of a run, trial or sweep.
        first: PathBuf,
        /// The folder of another one of the same kind.
        second: PathBuf,
        /// Also draw the losses of both into FILE (.svg, .png or .pdf).
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
        /// Compute on DEVICE where the script leaves the choice: "cpu", "cuda" or "cuda:1".
        #[arg(long, value_name = "DEVICE", value_parser = device_name)]
        device: Option<String>,
    },
    /// Redraw the charts and the report of a sweep from its results.
    #[command(after_help = "Example:\n  lorhai report runs/rank-sweep")]
    Report {
        /// The folder of the sweep (its option `out`).
        out: PathBuf,
    },
    /// Train a sweep on a cluster: submit a script as an array of jobs.
    #[command(subcommand, after_help = "Example:\n  lorhai submit slurm my.rhai --tasks 4 --gpus 1 --time 4:00:00")]
    Submit(Submit),
    /// Show a sweep while it runs: its trials, its workers, its jobs.
    ///
    /// Reads files alone, from any machine that sees the folder. Watches the heartbeats of the workers for some seconds, to say
    /// which of them live.
    #[command(after_help = "Example:\n  lorhai status runs/rank-sweep")]
    Status {
        /// The folder of the sweep (its option `out`), or one with sweeps in it.
        out: PathBuf,
    },
    /// Cancel the jobs that were submitted for a sweep.
    ///
    /// What is finished stays, and unfinished trials keep their checkpoints: submit again to go on.
    #[command(after_help = "Example:\n  lorhai cancel runs/rank-sweep")]
    Cancel {
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
