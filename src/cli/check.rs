//! `lorhai check`.

use super::outcome::{exit_code, FAILED};
use crate::script::{on_large_stack, Failure, Session};
use crate::{stderr, stdout};
use std::path::Path;

/// Fails if the script has an error; warnings alone are no failure.
pub fn check(file: &Path) -> i32 {
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
