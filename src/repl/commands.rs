//! The commands: inputs that are not Rhai, but begin with `:` or `?`.

use super::complete::{self, Candidate};
use super::known::{is_word, Known};
use crate::error::{Error, Result};
use crate::suggest;
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Help,
    Doc(String),
    Type(String),
    Vars,
    Time(String),
    Load(PathBuf),
    Reload,
    Edit,
    Save(PathBuf),
    History(String),
    Quit,
}

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    None,
    Name,
    Expression,
    File,
    Text,
}

struct Entry {
    name: &'static str,
    argument: Argument,
    about: &'static str,
}

const fn entry(name: &'static str, argument: Argument, about: &'static str) -> Entry {
    Entry { name, argument, about }
}

const COMMANDS: [Entry; 11] = [
    entry(":help", Argument::None, "show this list"),
    entry(":doc", Argument::Name, "explain a function, with its options and an example; ?NAME does the same"),
    entry(":type", Argument::Expression, "show the type of a value"),
    entry(":vars", Argument::None, "list the variables with their types and values"),
    entry(":time", Argument::Expression, "run it, and show how long it took"),
    entry(":load", Argument::File, "run a script; its variables and functions stay"),
    entry(":reload", Argument::None, "run the loaded scripts again, and read their modules again"),
    entry(":edit", Argument::None, "edit the last input with $EDITOR, and run it"),
    entry(":save", Argument::File, "write the inputs that ran without error into a new script"),
    entry(":history", Argument::Text, "list earlier inputs, or those that contain TEXT; Ctrl-R searches as you type"),
    entry(":quit", Argument::None, "quit; Ctrl-D does the same"),
];

impl Argument {
    fn shown(self) -> &'static str {
        match self {
            Argument::None => "",
            Argument::Name => " NAME",
            Argument::Expression => " EXPRESSION",
            Argument::File => " FILE",
            Argument::Text => " [TEXT]",
        }
    }
}

/// Reads a command; `None` if the input is Rhai.
pub fn parse(input: &str) -> Option<Result<Command>> {
    let input = input.trim();
    if let Some(name) = input.strip_prefix('?').or_else(|| input.strip_suffix('?').filter(|name| is_path(name))) {
        return Some(match name.trim() {
            "" => Ok(Command::Help),
            name => Ok(Command::Doc(name.to_string())),
        });
    }
    let (name, argument) = input.split_once(char::is_whitespace).unwrap_or((input, ""));
    input.starts_with(':').then(|| command(name, argument.trim()))
}

fn is_path(name: &str) -> bool {
    is_word(name) && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
}

fn command(name: &str, argument: &str) -> Result<Command> {
    let Some(entry) = COMMANDS.iter().find(|entry| entry.name == name) else {
        let error = Error::input(format!("unknown command `{name}`"));
        return Err(match suggest::nearest(name, COMMANDS.iter().map(|entry| entry.name)) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint("`:help` lists the commands"),
        });
    };
    match (entry.argument, argument.is_empty()) {
        (Argument::None, false) => {
            let message = format!("{name}: expected no argument, found `{argument}`");
            return Err(Error::input(message));
        }
        (Argument::Name | Argument::Expression | Argument::File, true) => {
            let wanted = entry.argument.shown().trim();
            return Err(Error::input(format!("{name}: expected {wanted}, found nothing"))
                .with_hint(format!("{name} {wanted}: {}", entry.about)));
        }
        _ => {}
    }
    let text = argument.to_string();
    // Paths may be quoted, as they are in scripts.
    let path = || PathBuf::from(argument.trim_matches('"'));
    Ok(match name {
        ":doc" => Command::Doc(text),
        ":type" => Command::Type(text.trim_end_matches(';').to_string()),
        ":vars" => Command::Vars,
        ":time" => Command::Time(text),
        ":load" => Command::Load(path()),
        ":reload" => Command::Reload,
        ":edit" => Command::Edit,
        ":save" => Command::Save(path()),
        ":history" => Command::History(text),
        ":quit" => Command::Quit,
        _ => Command::Help,
    })
}

pub fn help() -> String {
    let lines = COMMANDS
        .iter()
        .map(|entry| format!("  {:<18} {}\n", format!("{}{}", entry.name, entry.argument.shown()), entry.about));
    format!(
        "Anything else is run as Rhai code, and the value of its last expression is shown.\n{}\
         Keys: Tab completes, Right accepts the grey suggestion, Ctrl-R searches earlier inputs,\n      \
         Ctrl-C drops the input or stops what is running, Ctrl-D quits.\n",
        lines.collect::<String>()
    )
}

/// Completes commands and their arguments; `None` where the completion of Rhai applies.
pub fn complete(known: &Known, text: &str) -> Option<(usize, Vec<Candidate>)> {
    if let Some(name) = text.strip_prefix('?') {
        return Some((1, names(known, name)));
    }
    if !text.starts_with(':') || text.contains('\n') {
        return None;
    }
    let Some((name, argument)) = text.split_once(' ') else {
        let fitting = COMMANDS.iter().filter(|entry| entry.name.starts_with(text));
        let line = |entry: &Entry| format!("{}{}", entry.name, if entry.argument == Argument::None { "" } else { " " });
        let candidates = fitting.map(|entry| Candidate { shown: entry.name.to_string(), text: line(entry) });
        return Some((0, candidates.collect()));
    };
    let start = text.len() - argument.len();
    match COMMANDS.iter().find(|entry| entry.name == name)?.argument {
        Argument::Name => Some((start, names(known, argument))),
        Argument::File => {
            let typed = argument.trim_start_matches('"');
            let folder = typed.rfind('/').map_or(0, |slash| slash + 1);
            Some((text.len() - typed.len() + folder, complete::paths(typed)))
        }
        Argument::Expression => None,
        Argument::None | Argument::Text => Some((start, Vec::new())),
    }
}

/// Functions and methods that begin with `typed`.
fn names(known: &Known, typed: &str) -> Vec<Candidate> {
    let all = known.user_functions.iter().chain(known.catalog.functions()).map(|function| function.name.as_str());
    let mut names: Vec<&str> = all.filter(|name| is_word(name) && name.starts_with(typed)).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| Candidate { shown: name.to_string(), text: name.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::complete::tests::known;
    use super::*;

    #[test]
    fn commands_are_read_with_their_arguments() {
        let read = |text: &str| parse(text).map(|command| command.map_err(|error| error.to_string()));
        assert_eq!(read("?train"), Some(Ok(Command::Doc("train".into()))));
        assert_eq!(read("model.forward?"), Some(Ok(Command::Doc("model.forward".into()))));
        assert_eq!(read(" :load \"a b.rhai\" "), Some(Ok(Command::Load("a b.rhai".into()))));
        assert_eq!(read(":history let"), Some(Ok(Command::History("let".into()))));
        assert_eq!(read(":type 1 + 1;"), Some(Ok(Command::Type("1 + 1".into()))));
        assert_eq!(read("let x = 1"), None);
        assert_eq!(read("a ?? b"), None);
    }

    #[test]
    fn every_command_of_the_list_is_one() {
        for entry in &COMMANDS {
            let text = format!("{}{}", entry.name, entry.argument.shown().replace(['[', ']'], ""));
            let command = parse(&text).unwrap().unwrap();
            assert!(entry.name == ":help" || command != Command::Help, "{text}");
        }
    }

    #[test]
    fn wrong_commands_say_what_was_expected() {
        let message = |text: &str| {
            let error = parse(text).unwrap().unwrap_err();
            format!("{} = {}", error.message, error.hint.unwrap_or_default())
        };
        assert_eq!(message(":laod x"), "unknown command `:laod` = did you mean `:load`?");
        assert_eq!(message(":frobnicate"), "unknown command `:frobnicate` = `:help` lists the commands");
        assert!(message(":load").starts_with(":load: expected FILE, found nothing = :load FILE: run a script"));
        assert_eq!(message(":vars x"), ":vars: expected no argument, found `x` = ");
    }

    #[test]
    fn tab_completes_commands_names_and_files() {
        let known = known(&[]);
        let texts = |text: &str| {
            complete(&known, text).map(|(at, all)| (at, all.into_iter().map(|one| one.text).collect::<Vec<_>>()))
        };
        assert_eq!(texts(":re"), Some((0, vec![":reload".to_string()])));
        assert_eq!(texts(":loa"), Some((0, vec![":load ".to_string()])));
        assert_eq!(texts(":load Cargo.to"), Some((6, vec!["Cargo.toml".to_string()])));
        assert_eq!(texts("?add_l"), Some((1, vec!["add_lora".to_string()])));
        assert_eq!(texts(":time loa"), None);
        assert_eq!(texts("loa"), None);
    }
}
