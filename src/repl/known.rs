//! The names that the session knows after the last input, for completion, hints and `?name`; and
//! the types of expressions, derived from these names without running anything.

use crate::script::catalogue::docs::{Catalog, Form, Function};
use crate::script::{ListedOption, Session, Variable};

pub struct Known {
    pub variables: Vec<Variable>,
    pub catalog: Catalog,
    /// Functions that the inputs define.
    pub user_functions: Vec<Function>,
}

/// A part of a chain such as `model.forward(batch).loss`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A variable or, after a dot, a property.
    Name(String),
    /// A call of a function or, after a dot, of a method.
    Call(String),
    /// `[…]` after a value.
    Element,
    /// A literal of this type.
    Literal(&'static str),
}

/// The type of an expression and, if it is a variable or a part of one, that variable.
#[derive(Debug, Clone)]
pub struct Typed<'a> {
    pub kind: String,
    pub variable: Option<&'a Variable>,
}

impl Known {
    pub fn of(session: &Session) -> Known {
        Known { variables: session.variables(), catalog: session.catalog(), user_functions: session.own_functions() }
    }

    /// Updates what an input can change; the catalog stays.
    pub fn refresh(&mut self, session: &Session) {
        self.variables = session.variables();
        self.user_functions = session.own_functions();
    }

    /// All functions and methods of this name, those that inputs define first.
    pub fn callable<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        let all =
            self.user_functions.iter().filter(move |function| function.name == name).chain(self.catalog.named(name));
        all.filter(|known| matches!(known.form, Form::Function | Form::Method))
    }

    pub fn options(&self, function: &str, path: &[String]) -> Vec<ListedOption> {
        Session::options_of(&self.catalog, function, path)
    }

    /// The type of a chain, if its names determine it.
    pub fn typed(&self, chain: &[Step]) -> Option<Typed<'_>> {
        let (first, rest) = chain.split_first()?;
        let start = match first {
            Step::Name(name) => of(self.variables.iter().find(|variable| variable.name == *name)?),
            Step::Call(name) => by_type(&self.callable(name).find(|known| !known.returns.is_empty())?.returns),
            Step::Literal(kind) => by_type(kind),
            Step::Element => return None,
        };
        rest.iter().try_fold(start, |owner, step| self.part(&owner, step))
    }

    fn part<'a>(&'a self, owner: &Typed<'a>, step: &Step) -> Option<Typed<'a>> {
        match step {
            Step::Name(name) => {
                let key = owner.variable.and_then(|owner| owner.keys.iter().find(|key| key.name == *name));
                key.map(of).or_else(|| self.returned(&owner.kind, name, Form::Getter))
            }
            Step::Call(name) => self.returned(&owner.kind, name, Form::Method),
            Step::Element => match (owner.variable.and_then(|owner| owner.element.as_deref()), owner.kind.as_str()) {
                (Some(element), _) => Some(of(element)),
                (None, "Dataset") => Some(by_type("map")),
                (None, "string") => Some(by_type("char")),
                _ => None,
            },
            Step::Literal(_) => None,
        }
    }

    fn returned(&self, kind: &str, name: &str, form: Form) -> Option<Typed<'_>> {
        let mut functions =
            self.catalog.named(name).filter(|known| known.form == form && known.receiver() == Some(kind));
        Some(by_type(&functions.find(|known| !known.returns.is_empty())?.returns))
    }

    /// The functions and properties that can follow the dot of a value of this type.
    pub fn members<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Function> {
        // Rhai's functions for simple values are methods too: "ab".len().
        let simple = ["string", "int", "float", "char", "array", "map", "function"].contains(&kind);
        let fits = move |known: &&Function| match known.form {
            Form::Function => simple && known.parameters.first().is_some_and(|(_, first)| first == kind),
            Form::Setter => false,
            Form::Getter | Form::Method => known.receiver() == Some(kind),
        };
        self.catalog.functions().iter().filter(fits).filter(|known| is_word(&known.name))
    }
}

pub fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic()) && !name.contains('$')
}

fn of(variable: &Variable) -> Typed<'_> {
    Typed { kind: variable.kind.clone(), variable: Some(variable) }
}

fn by_type(kind: &str) -> Typed<'static> {
    Typed { kind: kind.to_string(), variable: None }
}
