//! The interactive shell: `lorhai repl [FILE]`, at a terminal or reading from a pipe.
//! The only folder that uses `rustyline`.
//!
//! | file | defines |
//! |---|---|
//! | `shell` | runs an input or a command, and prints the result |
//! | `commands` | `:help` and the others: names, arguments, errors, completion |
//! | `terminal`, `pipe` | where inputs come from |
//! | `helper` | answers the line editor while a line is typed |
//! | `completeness` | whether an input continues on the next line |
//! | `complete`, `hint`, `highlight` | Tab completion; grey suggestions; colours and brackets |
//! | `syntax`, `cursor`, `known` | tokens of a line; what the cursor position calls for; names and types |
//! | `show/` | prints values |
//! | `documentation` | `?name` |
//! | `history` | earlier inputs, kept in a file |

mod commands;
mod complete;
mod completeness;
mod cursor;
mod documentation;
mod helper;
mod highlight;
mod hint;
mod history;
mod known;
mod pipe;
mod shell;
mod show;
mod syntax;
mod terminal;

use crate::script::Session;
use shell::Shell;
use std::io::IsTerminal;
use std::path::Path;

/// Runs inputs until there are no more, and returns the exit code. `session` has its settings
/// already; the script `file`, if there is one, runs first.
pub fn run(session: Session, file: Option<&Path>) -> i32 {
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut shell = Shell::new(session, at_terminal);
    if let Some(file) = file {
        shell.load(file);
    }
    // At a terminal before the first input, since an input may still use them; from a pipe nobody reads along.
    if at_terminal {
        shell.report_unused_settings("not used yet");
        return terminal::run(&mut shell);
    }
    let code = pipe::run(&mut shell, std::io::stdin().lock());
    shell.report_unused_settings("not used");
    code
}
