//! `lorhai repl`.

use super::compute::Compute;
use super::outcome::exit_code;
use super::run::key_value;
use super::sandboxed::Sandboxed;
use super::signals::handle_signals;
use crate::repl;
use crate::script::{on_large_stack, Session};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Repl {
    /// A script to run first; its variables and functions stay.
    file: Option<PathBuf>,
    /// Set a setting, for scripts and inputs that call args(#{ … }).
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    sandbox: Sandboxed,
}

impl Repl {
    pub fn dispatch(self) -> i32 {
        if let Err(error) = self.sandbox.enter(self.file.as_deref()).and_then(|()| self.compute.start()) {
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
