//! Inputs from a pipe or file: no prompt, no editing. An error costs its input alone; the
//! exit code tells of it.

use super::completeness;
use super::conversation::{Conversation, Next};
use crate::interrupt;
use std::io::BufRead;

/// Runs inputs until the end, or until the user stops one; gives the exit code.
pub fn read(conversation: &mut Conversation, lines: impl BufRead) -> i32 {
    let mut input = String::new();
    for line in lines.split(b'\n') {
        let line = match line {
            Ok(line) => String::from_utf8_lossy(&line).into_owned(),
            Err(error) => {
                eprintln!("error: cannot read the input: {error}");
                return 1;
            }
        };
        input.push_str(line.trim_end_matches('\r'));
        if completeness::is_complete(&conversation.shared.session.borrow(), &input) {
            if conversation.take(&std::mem::take(&mut input)) == Next::Ends {
                break;
            }
        } else {
            input.push('\n');
        }
        if conversation.stopped {
            return interrupt::EXIT_CODE;
        }
    }
    conversation.take(&input);
    i32::from(conversation.failed)
}
