//! `lorhai submit`: a sweep as an array of jobs.

use super::check::errors;
use super::outcome::{exit_code, print_or_fail, FAILED};
use super::run::key_value;
use crate::cluster::array_script::{ArrayScript, Resources};
use crate::cluster::{jobs, submit};
use crate::error::{Error, Result};
use crate::script::{on_large_stack, Failure, Session};
use crate::stderr;
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand)]
pub enum Submit {
    /// Submit a script as a Slurm job array, whose tasks share its sweep.
    ///
    /// Each task is a worker that takes trials until none is left. A task that comes near its time limit saves a checkpoint
    /// and goes back to the queue; one that dies leaves its trials to the others. Submit again to add workers, to go on after
    /// `lorhai cancel`, or to try failed trials again.
    ///
    /// Writes OUT/slurm/NAME.sh, which says all that is done, and submits it by sbatch. The tasks' logs and the job's number
    /// go into the same folder. OUT is what the script has as `out`: its setting of that name, or the only text in it.
    #[command(after_help = "\
Examples:
  lorhai submit slurm scripts/rank_sweep.rhai --tasks 4 --gpus 1 --time 4:00:00
  lorhai submit slurm my.rhai --set steps=500 --tasks 16 --throttle 4 --partition gpu --sbatch --account=lab
  lorhai submit slurm my.rhai --print            see the script without submitting it")]
    Slurm(Slurm),
}

#[derive(clap::Args)]
pub struct Slurm {
    /// The script.
    file: PathBuf,
    /// Set a setting of the script, in every task.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// The folder that the script writes to, where it computes its `out`. To change it, set the script's own setting.
    #[arg(long, value_name = "FOLDER")]
    out: Option<String>,
    /// Start N workers.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tasks: u32,
    /// Run at most K tasks at once.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    throttle: Option<u32>,
    /// Time limit of a task, as in 4:00:00. It goes on in a new one.
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// GPUs of each task, as in 1 or a100:4. Each computes for a worker.
    #[arg(long, value_name = "GPUS")]
    gpus: Option<String>,
    /// Processors, and threads, of each task.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// Memory of each task, as in 32G.
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// The partition to run in.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// Further options of sbatch, as in "--account=lab --qos=low". May be repeated.
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Print the script, and write and submit nothing.
    #[arg(long)]
    print: bool,
}

impl Submit {
    pub fn dispatch(self) -> i32 {
        let Submit::Slurm(slurm) = self;
        // A mistake would show only after the wait in the queue.
        match errors(&slurm.file) {
            Ok(None) => {}
            Ok(Some(text)) => {
                stderr::line(&text);
                return FAILED;
            }
            Err(failure) => return exit_code(Err(failure)),
        }
        let out = match slurm.folder() {
            Ok(out) => out,
            Err(failure) => return exit_code(Err(failure)),
        };
        print_or_fail(slurm.run(&out))
    }
}

impl Slurm {
    /// The folder that the script writes to.
    fn folder(&self) -> Result<String, Failure> {
        let known = on_large_stack(|| {
            let mut session = Session::new();
            self.set.iter().for_each(|(key, value)| session.set(key, value));
            session.out_of_file(&self.file)
        })??;
        let file = self.file.display();
        match (known, &self.out) {
            (Some(known), Some(out)) if known != *out => {
                let error = Error::input(format!("--out {out}: the script writes to `{known}`"));
                Err(error
                    .with_hint(format!("to write elsewhere, change the script, or its setting: --set out={out}"))
                    .into())
            }
            (Some(out), _) => Ok(out),
            (None, Some(out)) => Ok(out.clone()),
            (None, None) => {
                let error = Error::input(format!("submit: cannot tell the `out` of `{file}` without running it"));
                let hint = "name the folder that its sweep goes to by --out FOLDER, or make it a setting: \
                    args(#{ out: \"runs/a\" })";
                Err(error.with_hint(hint).into())
            }
        }
    }

    fn run(self, out: &str) -> Result<String> {
        let folder = std::env::current_dir().map_err(|error| Error::file("find", Path::new("."), &error))?;
        let program = std::env::current_exe().map_err(|error| Error::file("find", Path::new("lorhai"), &error))?;
        let print = self.print;
        let array = ArrayScript {
            program,
            logs: jobs::folder(&folder.join(out)),
            folder,
            script: self.file,
            settings: self.set,
            out: out.to_owned(),
            resources: Resources {
                tasks: self.tasks,
                throttle: self.throttle,
                time: self.time,
                gpus: self.gpus,
                cpus: self.cpus,
                mem: self.mem,
                partition: self.partition,
                sbatch: self.sbatch,
            },
        };
        if print {
            return array.text();
        }
        let submitted = submit::submit(&array, Path::new(out))?;
        let (job, script) = (&submitted.job.job, submitted.script.display());
        Ok(format!("submitted {script} as job {job}\nprogress: lorhai status {out}\n"))
    }
}
