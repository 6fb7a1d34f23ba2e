//! `lorhai check`.

use super::outcome::{exit_code, FAILED};
use crate::script::{on_large_stack, Failure, Session};
use crate::{stderr, stdout};
use std::path::Path;

/// Fails if the script has an error; warnings alone are no failure.
pub fn check(file: &Path) -> i32 {
    let problems = match problems(file) {
        Ok(problems) => problems,
        Err(failure) => return exit_code(Err(failure)),
    };
    if problems.is_empty() {
        stdout::line(&format!("{}: no problems found", file.display()));
        return 0;
    }
    stderr::line(&report(file, &problems));
    if problems.iter().all(Failure::is_warning) {
        0
    } else {
        FAILED
    }
}

/// What `check` would say of a script that has an error; `None` if it has none.
pub fn errors(file: &Path) -> Result<Option<String>, Failure> {
    let problems = problems(file)?;
    Ok((!problems.iter().all(Failure::is_warning)).then(|| report(file, &problems)))
}

fn problems(file: &Path) -> Result<Vec<Failure>, Failure> {
    on_large_stack(|| Session::new().check_file(file))?
}

fn report(file: &Path, problems: &[Failure]) -> String {
    let warnings = problems.iter().filter(|problem| problem.is_warning()).count();
    let counts = [counted(problems.len() - warnings, "problem"), counted(warnings, "warning")];
    let counts: Vec<String> = counts.into_iter().flatten().collect();
    let text: Vec<String> = problems.iter().map(Failure::to_string).collect();
    format!("{}\n\n{}: {}", text.join("\n\n"), file.display(), counts.join(", "))
}

/// "1 problem", "2 warnings"; `None` for 0.
fn counted(count: usize, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    }
}
