//! Inputs from a pipe or file: no prompt, no editing. After an error the next input still runs;
//! the exit code reports it.

use super::completeness;
use super::shell::{Next, Shell};
use crate::{interrupt, stderr};
use std::io::BufRead;

/// Runs inputs until the last one or until the user stops one, and returns the exit code.
pub fn run(shell: &mut Shell, lines: impl BufRead) -> i32 {
    let mut input = String::new();
    let mut lines = lines.split(b'\n');
    loop {
        interrupt::set_idle(true);
        let line = lines.next();
        interrupt::set_idle(false);
        let Some(line) = line else { break };
        let line = match line {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(error) => {
                stderr::line(&format!("error: cannot read the input: {error}"));
                return 1;
            }
        };
        input.push_str(line.trim_end_matches('\r'));
        if completeness::is_complete(&shell.shared.session.borrow(), &input) {
            if shell.handle(&std::mem::take(&mut input)) == Next::Quit {
                break;
            }
        } else {
            input.push('\n');
        }
        if let Some(code) = shell.quits.or(shell.stopped) {
            return code;
        }
    }
    shell.handle(&input);
    shell.quits.or(shell.stopped).unwrap_or(i32::from(shell.failed))
}
