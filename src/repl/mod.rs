//! The conversation with a person: `lorhai repl [FILE]`, at a terminal or through a pipe.
//! The only folder that names `rustyline`.
//!
//! | file | defines |
//! |---|---|
//! | `conversation` | what happens with an input: it is run, or it is a command |
//! | `commands` | `:help` and its like: their names, arguments and mistakes |
//! | `terminal`, `pipe` | where inputs come from |
//! | `helper` | what the line editor asks while a line is written |
//! | `completeness` | whether an input goes on in the next line |
//! | `complete`, `hint`, `highlight` | Tab; what could follow; colours and brackets |
//! | `syntax`, `around`, `known` | words of a line; where the cursor stands; names and types |
//! | `show/` | values on the screen |
//! | `documentation` | `?name` |
//! | `history` | inputs of earlier conversations |

mod around;
mod commands;
mod complete;
mod completeness;
mod conversation;
mod documentation;
mod helper;
mod highlight;
mod hint;
mod history;
mod known;
mod pipe;
mod show;
mod syntax;
mod terminal;

use crate::script::Session;
use conversation::Conversation;
use std::io::IsTerminal;
use std::path::Path;

/// Talks until the input ends; gives the exit code. `session` has its settings already; the
/// script `file`, if there is one, runs first.
pub fn run(session: Session, file: Option<&Path>) -> i32 {
    let at_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut conversation = Conversation::new(session, at_terminal);
    if let Some(file) = file {
        conversation.load(file);
    }
    // At a terminal before the first input, which may still ask; elsewhere nobody reads along.
    if at_terminal {
        conversation.tell_unasked("not used yet");
        return terminal::talk(&mut conversation);
    }
    let code = pipe::read(&mut conversation, std::io::stdin().lock());
    conversation.tell_unasked("not used");
    code
}
