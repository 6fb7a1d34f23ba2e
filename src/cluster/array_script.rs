//! The script of a Slurm job array whose tasks share a sweep, as a person would write it.

use crate::bail;
use crate::error::{Kind, Result};
use std::path::{Path, PathBuf};

/// So many seconds before its time limit a task is asked to stop: enough to finish a step and save the trials of a pack.
const NOTICE: u32 = 120;
/// A task that never gets as far as a checkpoint must not be requeued for ever.
const MOST_RESTARTS: u32 = 100;
/// With the number of the array behind it, the name of the run that its tasks are part of (`sweep::shared`).
pub const RUN_PREFIX: &str = "slurm-";

/// What the tasks of an array run, and what they ask Slurm for.
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayScript {
    /// The path of the program `lorhai`.
    pub program: PathBuf,
    /// The folder to run in.
    pub folder: PathBuf,
    /// The Rhai script, as the user named it.
    pub script: PathBuf,
    pub settings: Vec<(String, String)>,
    /// The folder of the sweep, as the user named it.
    pub out: String,
    /// The folder of the tasks' logs.
    pub logs: PathBuf,
    pub resources: Resources,
}

/// What a task asks for; what is `None` is left to the partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    pub tasks: u32,
    /// At most so many tasks at once.
    pub throttle: Option<u32>,
    pub time: Option<String>,
    pub gpus: Option<String>,
    pub cpus: Option<u32>,
    pub mem: Option<String>,
    pub partition: Option<String>,
    /// Further options of `sbatch`, each as on its command line.
    pub sbatch: Vec<String>,
}

impl Resources {
    /// GPUs of a task, of `4` or `a100:4`.
    fn gpu_count(&self) -> u32 {
        let count = self.gpus.as_deref().and_then(|gpus| gpus.rsplit(':').next()?.trim().parse().ok());
        count.unwrap_or(0)
    }
}

impl ArrayScript {
    /// The name of the job, and of the script's file: that of the Rhai script.
    pub fn name(&self) -> String {
        let stem = self.script.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        let is_plain = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
        let name: String = stem.chars().map(|letter| if is_plain(letter) { letter } else { '_' }).collect();
        // A file that begins with a dot is hidden.
        let name = name.trim_start_matches('.');
        if name.is_empty() { "sweep" } else { name }.to_owned()
    }

    /// The text of the script.
    ///
    /// # Errors
    /// A value that would end its line.
    pub fn text(&self) -> Result<String> {
        let directives = self.directives()?;
        let (script, out) = (one_line("FILE", &self.script.display().to_string())?, one_line("out", &self.out)?);
        let (folder, program) = (quoted(&self.folder)?, quoted(&self.program)?);
        Ok(format!(
            "\
#!/bin/bash
# Each task of this array is a worker that takes trials of one sweep until none is left.
#
#   script     {script}
#   results    {out}
#   progress   lorhai status {out_word}
#   end it     lorhai cancel {out_word}
#   run again  sbatch this file: what is finished stays
{directives}
cd {folder} || exit 1

# A trial that failed in one task is not tried again by the others. As many workers as run at once divide the trials.
export LORHAI_SWEEP_RUN={RUN_PREFIX}$SLURM_ARRAY_JOB_ID
export LORHAI_WORKERS={workers}

# On USR1 and TERM the worker saves a checkpoint, and exits with status 138 or 143.
signal= interrupted= worker=
pass_on() {{ signal=$1; interrupted=1; kill -\"$1\" $worker 2>/dev/null; }}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
{program} {arguments} &
worker=$!
# A signal may have come before, and one also ends `wait`.
if [ -n \"$signal\" ]; then kill -\"$signal\" $worker; fi
while wait $worker; status=$?; [ -n \"$interrupted\" ]; do interrupted=; done

# A task that had to stop goes back to the queue, and goes on from there: one that runs still, or has come to its limit. Not
# one that somebody cancelled, or that Slurm requeues by itself because another job needs the place.
task=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
if [ $status = 138 ] || [ $status = 143 ]; then
    if [ \"${{SLURM_RESTART_COUNT:-0}}\" -ge {MOST_RESTARTS} ]; then
        echo \"$task: not requeued again after {MOST_RESTARTS} times\" >&2
    elif scontrol show job \"$task\" | grep -qE 'JobState=RUNNING|Reason=TimeLimit'; then
        scontrol requeue \"$task\"
    fi
fi
exit $status
",
            out_word = word(&self.out)?,
            workers = self.resources.throttle.map_or(self.resources.tasks, |most| most.min(self.resources.tasks)),
            arguments = self.arguments()?,
        ))
    }

    fn directives(&self) -> Result<String> {
        let Resources { tasks, throttle, time, gpus, cpus, mem, partition, sbatch } = &self.resources;
        let throttle = throttle.map(|throttle| format!("%{throttle}")).unwrap_or_default();
        let mut lines =
            vec![format!("--job-name={}", self.name()), format!("--array=0-{}{throttle}", tasks.saturating_sub(1))];
        let named = [
            ("partition", partition.clone()),
            ("time", time.clone()),
            ("gpus", gpus.clone()),
            ("cpus-per-task", cpus.map(|cpus| cpus.to_string())),
            ("mem", mem.clone()),
        ];
        for (name, value) in named {
            let Some(value) = value else { continue };
            lines.push(format!("--{name}={}", one_line(&format!("--{name}"), &value)?));
        }
        lines.push("--requeue".to_owned());
        lines.push(format!("--signal=B:USR1@{NOTICE}"));
        // `%` begins what Slurm replaces.
        let logs = self.logs.display().to_string().replace('%', "%%");
        let logs = format!("{}/%A_%a.log", one_line("out", &logs)?);
        let needs_quotes = logs.contains(|letter: char| letter.is_whitespace() || letter == '#');
        lines.push(if needs_quotes { format!("--output=\"{logs}\"") } else { format!("--output={logs}") });
        lines.push("--open-mode=append".to_owned());
        for option in sbatch {
            lines.push(one_line("--sbatch", option)?);
        }
        Ok(lines.iter().map(|line| format!("#SBATCH {line}\n")).collect())
    }

    /// The arguments of `lorhai`.
    fn arguments(&self) -> Result<String> {
        let mut arguments = vec!["run".to_owned(), quoted(&self.script)?];
        match (self.resources.gpu_count(), self.resources.cpus) {
            // They divide the processors of the task.
            (count, _) if count > 1 => arguments.push(format!("--workers {count}")),
            // Sums depend on the number of threads, and all tasks must compute the same.
            (_, Some(cpus)) => arguments.push(format!("--shared --threads {cpus}")),
            (_, None) => arguments.push("--shared".to_owned()),
        }
        for (key, value) in &self.settings {
            arguments.push(format!("--set {}", word(&format!("{key}={value}"))?));
        }
        Ok(arguments.join(" "))
    }
}

fn quoted(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => word(text),
        None => bail!(Kind::Input, "`{}`: expected a path in UTF-8", path.display(); hint: "rename it"),
    }
}

/// A text as one word of a shell.
fn word(text: &str) -> Result<String> {
    match shlex::try_quote(text) {
        Ok(word) => Ok(word.into_owned()),
        Err(_) => bail!(Kind::Input, "expected text without a zero byte, found {text:?}"),
    }
}

fn one_line(name: &str, value: &str) -> Result<String> {
    if value.contains(['\n', '\r']) {
        bail!(Kind::Input, "{name}: expected one line, found {value:?}"; hint: "give each option of sbatch by its own --sbatch");
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn array() -> ArrayScript {
        ArrayScript {
            program: "/opt/lorhai/bin/lorhai".into(),
            folder: "/home/ada/my work".into(),
            script: "scripts/rank_sweep.rhai".into(),
            settings: vec![("ranks".into(), "2,4".into()), ("note".into(), "it's $HOME".into())],
            out: "runs/rank-sweep".into(),
            logs: "/home/ada/my work/runs/100%/slurm".into(),
            resources: Resources {
                tasks: 4,
                throttle: Some(2),
                time: Some("02:00:00".into()),
                gpus: Some("a100:1".into()),
                cpus: Some(8),
                mem: Some("32G".into()),
                partition: Some("gpu".into()),
                sbatch: vec!["--account=lab --qos=low".into(), "--nice".into()],
            },
        }
    }

    #[test]
    fn options_become_directives() {
        let text = array().text().unwrap();
        let directives: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("#SBATCH ")).collect();
        let expected = [
            "--job-name=rank_sweep",
            "--array=0-3%2",
            "--partition=gpu",
            "--time=02:00:00",
            "--gpus=a100:1",
            "--cpus-per-task=8",
            "--mem=32G",
            "--requeue",
            "--signal=B:USR1@120",
            "--output=\"/home/ada/my work/runs/100%%/slurm/%A_%a.log\"",
            "--open-mode=append",
            "--account=lab --qos=low",
            "--nice",
        ];
        assert_eq!(directives, expected);
        // sbatch reads no directive behind the first command.
        let first_command = text.lines().position(|line| !line.starts_with('#')).unwrap();
        assert!(text.lines().skip(first_command).all(|line| !line.starts_with("#SBATCH")));
    }

    #[test]
    fn what_is_not_asked_for_is_left_to_slurm() {
        let resources = Resources {
            tasks: 1,
            throttle: None,
            time: None,
            gpus: None,
            cpus: None,
            mem: None,
            partition: None,
            sbatch: Vec::new(),
        };
        let text = ArrayScript { resources, ..array() }.text().unwrap();
        assert!(text.contains("#SBATCH --array=0-0\n"));
        for name in ["partition", "time", "gpus", "cpus-per-task", "mem=", "--threads"] {
            assert!(!text.contains(&format!("--{}", name.trim_start_matches("--"))), "{name}: {text}");
        }
    }

    /// Runs the script with a program that writes its arguments and ends as `ending` says.
    fn run(ending: &str, state: &str, restarts: &str) -> (i32, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let write_program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&path, executable).unwrap();
            path
        };
        let record = folder.path().join("record");
        let variables = "$LORHAI_SWEEP_RUN $LORHAI_WORKERS";
        let program = write_program("lorhai", &format!("printf '%s\\n' {variables} \"$@\" > arguments\n{ending}"));
        let requeue = format!("[ $1 = show ] && echo '{state}' || echo $@ >> '{}'", record.display());
        write_program("scontrol", &requeue);
        let array = ArrayScript { program, folder: folder.path().into(), ..array() };
        let script = write_program("job.sh", &array.text().unwrap());
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.arg(script).env("PATH", path).env("SLURM_ARRAY_JOB_ID", "7").env("SLURM_ARRAY_TASK_ID", "3");
        let output = command.env("SLURM_RESTART_COUNT", restarts).output().unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        (output.status.code().unwrap(), read("record"), read("arguments"))
    }

    #[test]
    fn the_worker_gets_its_arguments_unchanged() {
        let (status, requeued, arguments) = run("exit 3", "JobState=RUNNING Reason=None", "0");
        assert_eq!((status, requeued.as_str()), (3, ""));
        let expected = "slurm-7\n2\nrun\nscripts/rank_sweep.rhai\n--shared\n--threads\n8\n--set\nranks=2,4\n--set\nnote=it's $HOME\n";
        assert_eq!(arguments, expected);
    }

    #[test]
    fn a_task_with_several_gpus_has_a_worker_for_each() {
        for (gpus, expected) in [("4", "--workers 4"), ("a100:2", "--workers 2"), ("a100:1", "--shared --threads 8")] {
            let resources = Resources { gpus: Some(gpus.into()), ..array().resources };
            let text = ArrayScript { resources, ..array() }.text().unwrap();
            assert!(text.contains(&format!(" run scripts/rank_sweep.rhai {expected} --set ")), "{text}");
        }
    }

    /// The task alone, by its own number: the array's would requeue all tasks.
    const REQUEUE: &str = "requeue 7_3\n";

    #[test]
    fn a_task_that_had_to_stop_is_requeued() {
        for (ending, status) in [("exit 138", 138), ("exit 143", 143)] {
            for state in ["JobState=RUNNING Reason=None", "JobState=COMPLETING Reason=TimeLimit"] {
                let (code, requeued, _) = run(ending, state, "5");
                assert_eq!((code, requeued.as_str()), (status, REQUEUE), "{state}");
            }
        }
    }

    #[test]
    fn no_other_is_requeued() {
        for ending in ["exit 0", "exit 1", "exit 3", "exit 130", "kill -KILL $$"] {
            assert_eq!(run(ending, "JobState=RUNNING Reason=None", "0").1, "", "{ending}");
        }
        for state in
            ["JobState=COMPLETING Reason=None", "JobState=CANCELLED Reason=None", "JobState=PENDING Reason=BeginTime"]
        {
            assert_eq!(run("exit 143", state, "0").1, "", "{state}");
        }
        assert_eq!(run("exit 138", "JobState=RUNNING Reason=None", "100").1, "", "too often");
    }

    #[test]
    fn signals_reach_the_worker_and_its_status_counts() {
        for (signal, status) in [("USR1", 138), ("TERM", 143)] {
            // The worker signals the script, as Slurm does, and goes on for a while.
            let worker =
                format!("trap 'sleep 0.3; exit {status}' {signal}\nkill -{signal} $PPID\nwhile :; do sleep 0.05; done");
            let (code, requeued, _) = run(&worker, "JobState=RUNNING Reason=None", "0");
            assert_eq!((code, requeued.as_str()), (status, REQUEUE), "{signal}");
        }
        // One that ends by itself meanwhile is not requeued.
        let (code, requeued, _) =
            run("trap : USR1; kill -USR1 $PPID; sleep 0.3; exit 0", "JobState=RUNNING Reason=None", "0");
        assert_eq!((code, requeued.as_str()), (0, ""));
    }

    #[test]
    fn a_value_of_several_lines_is_refused() {
        let mut array = array();
        array.resources.sbatch = vec!["--nice\nrm -r /".into()];
        let error = array.text().unwrap_err();
        assert_eq!(error.message, "--sbatch: expected one line, found \"--nice\\nrm -r /\"");
    }

    #[test]
    fn the_name_is_that_of_the_script() {
        for (script, name) in [("a/rank sweep.rhai", "rank_sweep"), ("..rhai", "sweep"), ("x.y.rhai", "x.y")] {
            assert_eq!(ArrayScript { script: script.into(), ..array() }.name(), name);
        }
    }
}
