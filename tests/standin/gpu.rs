//! A folder in which the program runs scripts with the stand-in as its GPU, or without it.

use super::common::files::{folder_with_scripts, root};
use super::common::program::{finished, lorhai, Finished};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// The libraries, built on the first call: `make test` has done so before.
pub fn libraries() -> &'static Path {
    static LIBRARIES: OnceLock<PathBuf> = OnceLock::new();
    LIBRARIES.get_or_init(|| {
        let python = std::env::var_os("PYTHON").unwrap_or("python3".into());
        let built = Command::new(python).arg(root().join(".cargo/standin.py")).status().unwrap();
        assert!(built.success(), "the stand-in is not built: make standin");
        root().join("target/standin")
    })
}

/// What the program asked of the device, by name.
pub type Counts = BTreeMap<String, i64>;

pub struct Machine {
    pub folder: TempDir,
    libraries: PathBuf,
    switches: Vec<(&'static str, String)>,
}

impl Machine {
    /// A machine with one GPU.
    pub fn new() -> Machine {
        Machine { folder: folder_with_scripts(), libraries: libraries().to_owned(), switches: Vec::new() }
    }

    /// The same folder, with all switches as they are by default.
    pub fn without_switches(self) -> Machine {
        Machine { switches: Vec::new(), ..self }
    }

    /// Sets a switch of the stand-in.
    pub fn with(mut self, switch: &'static str, value: impl ToString) -> Machine {
        self.switches.push((switch, value.to_string()));
        self
    }

    /// Takes the libraries of NVIDIA and libtorch from another folder.
    pub fn with_libraries(mut self, folder: PathBuf) -> Machine {
        self.libraries = folder;
        self
    }

    pub fn command(&self) -> Command {
        let mut command = lorhai(self.folder.path());
        command.env("LD_LIBRARY_PATH", &self.libraries);
        // The order of sums in libtorch depends on it.
        command.env("OMP_NUM_THREADS", "1");
        command.env("STANDIN_REPORT", self.folder.path().join("counts"));
        command.envs(self.switches.iter().map(|(switch, value)| (switch, value)));
        command
    }

    /// Runs a script with `--set` and these words.
    pub fn run(&self, script: &str, settings: &[&str]) -> Finished {
        std::fs::write(self.folder.path().join("case.rhai"), format!("// A test.\n{script}")).unwrap();
        let mut command = self.command();
        command.args(["run", "case.rhai"]).args(settings.iter().flat_map(|setting| ["--set", setting]));
        finished(&mut command)
    }

    /// Runs a script that must succeed; returns what it prints.
    #[track_caller]
    pub fn prints(&self, script: &str, settings: &[&str]) -> String {
        let Finished { code, output, errors } = self.run(script, settings);
        assert_eq!(code, Some(0), "{errors}\n{output}");
        // What only a GPU would show in its own way: the stand-in says so.
        assert!(!errors.contains("stand-in:"), "{errors}");
        output
    }

    /// The counts of the last run.
    pub fn counts(&self) -> Counts {
        let text = std::fs::read_to_string(self.folder.path().join("counts")).unwrap();
        let entries = text.lines().map(|line| {
            let (name, count) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), count.parse().unwrap())
        });
        entries.collect()
    }
}

/// The function `train_as` of a script: trains on few tokens, and prints a line for each step.
pub const TRAINING: &str = include_str!("training.rhai");
