//! The program as a user runs it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// The program with `folder` as its working folder, and its cache there. A closed terminal stops it, even where the
/// tests run below `nohup`.
pub fn lorhai(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorhai"));
    command.current_dir(folder).env("LORHAI_CACHE", folder.join("cache"));
    // SAFETY: between fork and exec one call that is allowed there.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        })
    };
    command
}

/// What a program wrote, and its exit code.
pub struct Finished {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Finished { code: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
    }
}

/// Runs the command to its end.
pub fn finished(command: &mut Command) -> Finished {
    command.output().unwrap().into()
}

/// Everything that a program wrote: stdout, then stderr.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
