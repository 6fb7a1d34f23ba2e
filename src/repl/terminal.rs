//! Inputs from a person at a terminal, by the line editor.

use super::helper::LineHelper;
use super::shell::{Next, Shell};
use crate::{interrupt, stderr, stdout};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, Editor};
use std::cell::RefCell;

type LineEditor = Editor<LineHelper, MemHistory>;

/// Reads and runs inputs until the last one, and returns the exit code.
pub fn run(shell: &mut Shell) -> i32 {
    let mut editor = match editor(shell) {
        Ok(editor) => editor,
        Err(error) => {
            stderr::line(&format!("error: cannot use this terminal: {error}"));
            return 1;
        }
    };
    let version = env!("CARGO_PKG_VERSION");
    stdout::line(&format!("lorhai {version}: :help lists the commands, ?NAME explains a function, Ctrl-D quits"));
    loop {
        fit_screen(shell, &mut editor);
        interrupt::set_idle(true);
        let input = editor.readline(&format!("{}> ", shell.number));
        interrupt::set_idle(false);
        let input = match input {
            Ok(input) => input,
            // Ctrl-C drops the input.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return 0,
            Err(error) => {
                stderr::line(&format!("error: cannot read from the terminal: {error}"));
                return 1;
            }
        };
        remember(shell, &mut editor, &input);
        if shell.handle(&input) == Next::Quit {
            return 0;
        }
        if let Some(code) = shell.quits {
            return code;
        }
    }
}

fn editor(shell: &Shell) -> rustyline::Result<LineEditor> {
    let config = Config::builder().completion_type(CompletionType::List).completion_show_all_if_ambiguous(true);
    let config = config.completion_prompt_limit(200).build();
    let history = MemHistory::with_config(&config);
    let mut editor = LineEditor::with_history(config, history)?;
    let entries = shell.history.entries();
    for entry in entries {
        editor.add_history_entry(entry)?;
    }
    editor.set_helper(Some(LineHelper {
        shared: shell.shared.clone(),
        colours: shell.screen.colours,
        history: RefCell::new(entries.to_vec()),
    }));
    Ok(editor)
}

fn remember(shell: &mut Shell, editor: &mut LineEditor, input: &str) {
    if shell.history.add(input) {
        // In memory: it cannot fail.
        let _ = editor.add_history_entry(input.trim_end());
        if let Some(helper) = editor.helper() {
            helper.history.borrow_mut().push(input.trim_end().to_string());
        }
    }
}

/// The window may have been resized since the last input.
fn fit_screen(shell: &mut Shell, editor: &mut LineEditor) {
    if let Some((columns, rows)) = editor.dimensions() {
        shell.screen.columns = usize::from(columns).max(20);
        shell.screen.rows = usize::from(rows).max(8);
    }
}
