//! What the user may have meant by a command line that is wrong.

use super::arguments::Arguments;
use crate::suggest;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::CommandFactory;
use std::path::Path;

/// A suggestion for an unknown command or option.
pub fn suggestion(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand)?;
            let known: Vec<String> = Arguments::command().get_subcommands().map(|one| one.get_name().into()).collect();
            match suggest::nearest(word, known.iter().map(String::as_str)) {
                Some(near) => Some(format!("did you mean 'lorhai {near}'?")),
                None if Path::new(word).is_file() => Some(format!("to run a script, write 'lorhai run {word}'")),
                None => Some("to run a script, write 'lorhai run FILE'".to_string()),
            }
        }
        ErrorKind::UnknownArgument if error.get(ContextKind::SuggestedArg).is_none() => {
            let word = text(ContextKind::InvalidArg)?;
            let setting = word.trim_start_matches('-');
            match setting.split_once('=') {
                Some(_) => Some(format!("to change a setting of the script, write '--set {setting}'")),
                None if word.starts_with("--") => {
                    Some(format!("to change a setting of the script, write '--set {setting}=VALUE'"))
                }
                None => Some("to change a setting, write '--set KEY=VALUE', in quotes if it has spaces".to_string()),
            }
        }
        ErrorKind::ValueValidation if text(ContextKind::InvalidArg)?.starts_with("--set") => {
            Some("write name and value in one word, as in '--set lr=1e-3'".to_string())
        }
        _ => None,
    }
}
