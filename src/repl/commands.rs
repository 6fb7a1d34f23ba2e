//! The commands: what is not the language's, and begins with `:` or `?`.

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

/// What stands behind a command.
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

const fn known(name: &'static str, argument: Argument, about: &'static str) -> Entry {
    Entry { name, argument, about }
}

const COMMANDS: [Entry; 11] = [
    known(":help", Argument::None, "this list"),
    known(":doc", Argument::Name, "what a function does, its options, an example; ?NAME does the same"),
    known(":type", Argument::Expression, "the type of a value"),
    known(":vars", Argument::None, "the variables with their types and values"),
    known(":time", Argument::Expression, "run it, and tell how long it took"),
    known(":load", Argument::File, "run a script here; its variables and functions stay"),
    known(":reload", Argument::None, "run the loaded scripts again, modules read anew"),
    known(":edit", Argument::None, "change the last input in the editor that EDITOR names, and run it"),
    known(":save", Argument::File, "write the inputs that ran into a new script"),
    known(":history", Argument::Text, "earlier inputs, those with TEXT in them; Ctrl-R searches as you type"),
    known(":quit", Argument::None, "leave; Ctrl-D does the same"),
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

/// The command that an input is; `None` if it is the language's.
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
    is_word(name) && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_' || letter == '.')
}

fn command(name: &str, argument: &str) -> Result<Command> {
    let Some(known) = COMMANDS.iter().find(|known| known.name == name) else {
        let error = Error::input(format!("unknown command `{name}`"));
        return Err(match suggest::nearest(name, COMMANDS.iter().map(|known| known.name)) {
            Some(near) => error.with_hint(format!("did you mean `{near}`?")),
            None => error.with_hint("`:help` lists the commands"),
        });
    };
    match (known.argument, argument.is_empty()) {
        (Argument::None, false) => {
            let message = format!("{name}: expected nothing behind the command, found `{argument}`");
            return Err(Error::input(message));
        }
        (Argument::Name | Argument::Expression | Argument::File, true) => {
            let wanted = known.argument.shown().trim();
            return Err(Error::input(format!("{name}: expected {wanted}, found nothing"))
                .with_hint(format!("{name} {wanted}: {}", known.about)));
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
        .map(|known| format!("  {:<18} {}\n", format!("{}{}", known.name, known.argument.shown()), known.about));
    format!(
        "Everything else is run as script code; the value of its last expression is shown.\n{}\
         Keys: Tab completes, Right takes the grey suggestion, Ctrl-R searches earlier inputs,\n      \
         Ctrl-C drops the input or stops what runs, Ctrl-D leaves.\n",
        lines.collect::<String>()
    )
}

/// Completion of commands and of their names and files; `None` where the language's applies.
pub fn complete(known: &Known, text: &str) -> Option<(usize, Vec<Candidate>)> {
    if let Some(name) = text.strip_prefix('?') {
        return Some((1, names(known, name)));
    }
    if !text.starts_with(':') || text.contains('\n') {
        return None;
    }
    let Some((name, argument)) = text.split_once(' ') else {
        let fitting = COMMANDS.iter().filter(|known| known.name.starts_with(text));
        let whole =
            |known: &Entry| format!("{}{}", known.name, if known.argument == Argument::None { "" } else { " " });
        let found = fitting.map(|known| Candidate { shown: known.name.to_string(), text: whole(known) });
        return Some((0, found.collect()));
    };
    let start = text.len() - argument.len();
    match COMMANDS.iter().find(|known| known.name == name)?.argument {
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
    let all = known.own.iter().chain(known.catalog.functions()).map(|function| function.name.as_str());
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
        for known in &COMMANDS {
            let text = format!("{}{}", known.name, known.argument.shown().replace(['[', ']'], ""));
            let command = parse(&text).unwrap().unwrap();
            assert!(known.name == ":help" || command != Command::Help, "{text}");
        }
    }

    #[test]
    fn wrong_commands_say_what_was_expected() {
        let told = |text: &str| {
            let error = parse(text).unwrap().unwrap_err();
            format!("{} = {}", error.message, error.hint.unwrap_or_default())
        };
        assert_eq!(told(":laod x"), "unknown command `:laod` = did you mean `:load`?");
        assert_eq!(told(":frobnicate"), "unknown command `:frobnicate` = `:help` lists the commands");
        assert!(told(":load").starts_with(":load: expected FILE, found nothing = :load FILE: run a script"));
        assert_eq!(told(":vars x"), ":vars: expected nothing behind the command, found `x` = ");
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
