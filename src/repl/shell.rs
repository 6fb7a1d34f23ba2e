//! The shell: a session, the inputs so far, and what happens with the next one.

use super::commands::{self, Command};
use super::known::Known;
use super::show::{self, Protocol, Screen};
use super::syntax::{words, Kind, Word};
use super::{documentation, history::History};
use crate::error::{Error, Result};
use crate::script::{Failure, Session, Value, IT};
use crate::table::{table, truncate, Align};
use crate::{files, interrupt, stderr, stdout};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::rc::Rc;
use std::time::Instant;

/// What the shell and the line editor's helper both use.
pub struct Shared {
    pub session: RefCell<Session>,
    pub known: RefCell<Known>,
}

pub struct Shell {
    pub shared: Rc<Shared>,
    pub screen: Screen,
    pub history: History,
    /// The number of the next input.
    pub number: usize,
    /// Inputs that ran without an error, for `:save`.
    succeeded: Vec<String>,
    loaded_files: Vec<PathBuf>,
    /// Whether an input failed, for the exit code of a pipe.
    pub failed: bool,
    /// The exit code where the last input was stopped.
    pub stopped: Option<i32>,
    /// The exit code where a signal ends the program, not only the input.
    pub quits: Option<i32>,
}

/// Whether the shell reads another input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Continue,
    Quit,
}

impl Shell {
    pub fn new(session: Session, at_terminal: bool) -> Shell {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let colours =
            at_terminal && variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb");
        let images = Protocol::of_terminal(variable).filter(|_| at_terminal);
        let known = RefCell::new(Known::of(&session));
        Shell {
            shared: Rc::new(Shared { session: RefCell::new(session), known }),
            screen: Screen { columns: 80, rows: 24, colours, images },
            history: if at_terminal { History::open() } else { History::default() },
            number: 1,
            succeeded: Vec::new(),
            loaded_files: Vec::new(),
            failed: false,
            stopped: None,
            quits: None,
        }
    }

    /// Runs an input or a command, and prints the result.
    pub fn handle(&mut self, input: &str) -> Next {
        interrupt::clear();
        self.stopped = None;
        let outcome = match commands::parse(input) {
            None if input.trim().is_empty() => return Next::Continue,
            None => self.run(input),
            Some(Ok(Command::Quit)) => return Next::Quit,
            Some(command) => command.map_err(Failure::from).and_then(|command| self.execute(command)),
        };
        self.number += 1;
        self.conclude(outcome);
        Next::Continue
    }

    /// Runs a file as `:load` does.
    pub fn load(&mut self, file: &Path) {
        interrupt::clear();
        let outcome = self.load_file(file);
        self.conclude(outcome);
    }

    /// A setting from the command line that no `args` reads would otherwise be ignored silently.
    pub fn report_unused_settings(&self, status: &str) {
        let keys = self.shared.session.borrow().settings_unasked();
        if let Some(key) = keys.first() {
            let all: Vec<String> = keys.iter().map(|key| format!("--set {key}")).collect();
            let names = all.join(", ");
            stderr::line(&format!("note: {names}: {status}; a script reads settings by args(#{{ {key}: default }})"));
        }
    }

    fn conclude(&mut self, outcome: std::result::Result<(), Failure>) {
        if let Err(failure) = outcome {
            stderr::line(&failure.to_string());
            self.failed = true;
            if failure.stopped() {
                self.stopped = Some(interrupt::exit_code());
            }
        }
        if interrupt::must_quit() {
            self.quits = Some(interrupt::exit_code());
        }
        interrupt::clear();
        self.shared.known.borrow_mut().refresh(&self.shared.session.borrow());
    }

    fn run(&mut self, input: &str) -> std::result::Result<(), Failure> {
        let value = self.shared.session.borrow_mut().run_input(self.number, input)?;
        self.succeeded.push(input.trim_end().to_string());
        if !ends_in_semicolon(input) {
            self.show(&value);
        }
        Ok(())
    }

    fn show(&self, value: &Value) {
        if let Some(text) = show::show(value, &self.screen) {
            stdout::line(&text);
        }
    }

    fn execute(&mut self, command: Command) -> std::result::Result<(), Failure> {
        match command {
            Command::Help => stdout::write(&commands::help()),
            Command::Doc(name) => self.document(&name)?,
            Command::Type(text) => stdout::line(&self.shared.session.borrow_mut().type_of(self.number, &text)?),
            Command::Vars => self.list_variables(),
            Command::Time(text) => {
                let start = Instant::now();
                self.run(&text)?;
                stdout::line(&format!("took {:.3} s", start.elapsed().as_secs_f64()));
            }
            Command::Load(file) => self.load_file(&file)?,
            Command::Reload => self.reload()?,
            Command::Edit => self.edit()?,
            Command::Save(file) => self.save(&file)?,
            Command::History(text) => self.list_history(&text),
            Command::Quit => {}
        }
        Ok(())
    }

    fn document(&self, name: &str) -> Result<()> {
        let known = self.shared.known.borrow();
        if let Some(value) = self.shared.session.borrow().variable(name) {
            stdout::line(&format!("variable {name}"));
            self.show(&value);
            return Ok(());
        }
        stdout::write(&documentation::of(&known, name, &self.screen)?);
        Ok(())
    }

    fn list_variables(&self) {
        let session = self.shared.session.borrow();
        let variables = session.variables();
        if variables.is_empty() {
            stdout::line("no variables yet; `let x = 1` makes one");
            return;
        }
        let row = |variable: &crate::script::Variable| {
            let value = session.variable(&variable.name).map(|value| show::summary(&value, self.screen.columns));
            let constant = if variable.constant { "const " } else { "" };
            vec![variable.name.clone(), format!("{constant}{}", variable.kind), value.unwrap_or_default()]
        };
        let header = ["name", "type", "value"].map(str::to_string).to_vec();
        let text = table(header, variables.iter().rev().map(row).collect(), &[Align::Left; 3]);
        text.lines().for_each(|line| stdout::line(&truncate(line, self.screen.columns)));
    }

    fn load_file(&mut self, file: &Path) -> std::result::Result<(), Failure> {
        // Recorded before it runs, so that `:reload` also works after an error in the file.
        self.loaded_files.retain(|known| known != file);
        self.loaded_files.push(file.to_path_buf());
        let value = self.shared.session.borrow_mut().load_file(file)?;
        self.succeeded.push(format!("// the contents of {}:\n{}", file.display(), files::read_text(file)?.trim_end()));
        self.show(&value);
        Ok(())
    }

    fn reload(&mut self) -> std::result::Result<(), Failure> {
        if self.loaded_files.is_empty() {
            return Err(Error::input("no file has been loaded yet").with_hint("load one first: :load FILE").into());
        }
        self.shared.session.borrow_mut().forget_modules();
        self.loaded_files.clone().iter().try_for_each(|file| {
            stdout::line(&format!("loading {}", file.display()));
            self.load_file(file)
        })
    }

    /// Opens the last input in the user's editor, and runs what it was changed to.
    fn edit(&mut self) -> std::result::Result<(), Failure> {
        let failed = |error: std::io::Error| Error::new(crate::Kind::File, format!("cannot edit: {error}"));
        let file = tempfile::Builder::new().prefix("lorhai-").suffix(".rhai").tempfile().map_err(failed)?;
        let last = self.history.entries().iter().rev().find(|entry| commands::parse(entry).is_none());
        let before = last.cloned().unwrap_or_default();
        std::fs::write(file.path(), format!("{before}\n")).map_err(failed)?;
        let editor =
            ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "vi".into());
        // The variable may hold options: `code --wait`.
        let status = Process::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status();
        if !status.map_err(failed)?.success() {
            let message = format!("the editor `{editor}` failed: nothing was run");
            return Err(Error::input(message).with_hint("set EDITOR to the command of your editor").into());
        }
        let text = files::read_text(file.path())?;
        if text.trim() == before.trim() {
            stdout::line("the input is unchanged: nothing was run");
            return Ok(());
        }
        stdout::line(text.trim_end());
        self.history.add(text.trim_end());
        self.run(&text)
    }

    fn save(&self, file: &Path) -> Result<()> {
        if file.exists() {
            return Err(Error::new(
                crate::Kind::File,
                format!("`{}` already exists: nothing was written", file.display()),
            )
            .with_hint("choose another name, or remove the file first"));
        }
        if self.succeeded.is_empty() {
            return Err(Error::input("there is nothing to save: no input has run without an error yet"));
        }
        let inputs: String = self.succeeded.iter().map(|input| as_statement(input)).collect();
        files::write_atomic(file, format!("// Saved from lorhai repl.\n\n{inputs}").as_bytes())?;
        stdout::line(&format!("{} inputs saved to {}", self.succeeded.len(), file.display()));
        if self.uses_it() {
            stderr::line(&format!("note: `{IT}` works only here: give that value a name in the script"));
        }
        Ok(())
    }

    /// Whether a saved input uses the value of the one before it.
    fn uses_it(&self) -> bool {
        let names_it = |input: &String| words(input).iter().any(|word| word.kind == Kind::Name && word.text == IT);
        !self.shared.session.borrow().has_own_it() && self.succeeded.iter().any(names_it)
    }

    fn list_history(&self, text: &str) {
        const MOST: usize = 30;
        let matches: Vec<(usize, &String)> =
            self.history.entries().iter().enumerate().filter(|(_, entry)| entry.contains(text)).collect();
        for (at, entry) in &matches[matches.len().saturating_sub(MOST)..] {
            let indented = entry.replace('\n', "\n       ");
            stdout::line(&format!("{:>5}  {indented}", at + 1));
        }
    }
}

/// The last word that is code.
fn last_word(input: &str) -> Option<Word<'_>> {
    words(input).into_iter().rev().find(|word| !matches!(word.kind, Kind::Space | Kind::Comment))
}

/// The value of an input that ends in a semicolon is not printed.
fn ends_in_semicolon(input: &str) -> bool {
    last_word(input).is_some_and(|last| last.text == ";")
}

/// An input as a part of a script, where statements need a `;` between them.
fn as_statement(input: &str) -> String {
    match last_word(input) {
        Some(last) if last.text != ";" && last.text != "}" => {
            let (before, after) = input.split_at(last.end());
            format!("{before};{after}\n")
        }
        _ => format!("{input}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_become_statements() {
        assert_eq!(as_statement("let a = 1 // one"), "let a = 1; // one\n");
        assert_eq!(as_statement("let a = 1;"), "let a = 1;\n");
        assert_eq!(as_statement("fn f() { 1 }"), "fn f() { 1 }\n");
        assert_eq!(as_statement("// nothing"), "// nothing\n");
    }
}
