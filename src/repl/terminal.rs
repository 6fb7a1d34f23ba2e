//! Inputs from a person at a terminal, by the line editor.

use super::conversation::{Conversation, Next};
use super::helper::Assistant;
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{CompletionType, Config, Editor};
use std::cell::RefCell;

type LineEditor = Editor<Assistant, MemHistory>;

/// Reads and runs inputs until the end; gives the exit code.
pub fn talk(conversation: &mut Conversation) -> i32 {
    let mut editor = match editor(conversation) {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("error: cannot use this terminal: {error}");
            return 1;
        }
    };
    println!(
        "lorhai {}: :help lists the commands, ?NAME explains a function, Ctrl-D leaves",
        env!("CARGO_PKG_VERSION")
    );
    loop {
        fit_screen(conversation, &mut editor);
        let input = match editor.readline(&format!("{}> ", conversation.number)) {
            Ok(input) => input,
            // The input is dropped.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return 0,
            Err(error) => {
                eprintln!("error: cannot read from the terminal: {error}");
                return 1;
            }
        };
        remember(conversation, &mut editor, &input);
        if conversation.take(&input) == Next::Ends {
            return 0;
        }
    }
}

fn editor(conversation: &Conversation) -> rustyline::Result<LineEditor> {
    let config = Config::builder().completion_type(CompletionType::List).completion_show_all_if_ambiguous(true);
    let config = config.completion_prompt_limit(200).build();
    let history = MemHistory::with_config(&config);
    let mut editor = LineEditor::with_history(config, history)?;
    let entries = conversation.history.entries();
    for entry in entries {
        editor.add_history_entry(entry)?;
    }
    editor.set_helper(Some(Assistant {
        shared: conversation.shared.clone(),
        colours: conversation.screen.colours,
        history: RefCell::new(entries.to_vec()),
    }));
    Ok(editor)
}

fn remember(conversation: &mut Conversation, editor: &mut LineEditor, input: &str) {
    if conversation.history.add(input) {
        // In memory: it cannot fail.
        let _ = editor.add_history_entry(input.trim_end());
        if let Some(helper) = editor.helper() {
            helper.history.borrow_mut().push(input.trim_end().to_string());
        }
    }
}

/// The window may have been resized since the last input.
fn fit_screen(conversation: &mut Conversation, editor: &mut LineEditor) {
    if let Some((columns, rows)) = editor.dimensions() {
        conversation.screen.columns = usize::from(columns).max(20);
        conversation.screen.rows = usize::from(rows).max(8);
    }
}
