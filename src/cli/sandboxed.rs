//! `--sandbox` and what it lets a script do after all.

use crate::error::Result;
use crate::sandbox;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Sandboxed {
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
    /// The arguments that say the same.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        arguments.extend(self.sandbox.then(|| "--sandbox".into()));
        self.allow_read.iter().for_each(|path| arguments.extend(["--allow-read".into(), path.into()]));
        self.allow_write.iter().for_each(|path| arguments.extend(["--allow-write".into(), path.into()]));
        arguments.extend(self.allow_hub.then(|| "--allow-hub".into()));
        arguments
    }

    /// Enters the sandbox if there is to be one. `script` is run in it.
    pub fn enter(&self, script: Option<&Path>) -> Result<()> {
        if !self.sandbox {
            return Ok(());
        }
        let folder = script.and_then(Path::parent).unwrap_or(Path::new("."));
        let (read, write, hub) = (self.allow_read.clone(), self.allow_write.clone(), self.allow_hub);
        sandbox::enter(folder, &sandbox::Grants { read, write, hub })
    }
}
