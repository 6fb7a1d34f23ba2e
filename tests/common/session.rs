//! Scripts run in this process, without the program.

use lorhai::script::{on_large_stack, Session};

/// What a script prints, or the error that ends it.
pub fn prints(script: &str) -> Result<String, String> {
    let script = script.to_owned();
    let run = move || {
        let mut session = Session::new();
        session.set_quiet(true);
        session.capture_prints();
        session.run_source("test", &script).map(|_| session.printed()).map_err(|failure| failure.to_string())
    };
    on_large_stack(run).unwrap()
}
