//! A session used line by line, as the REPL does: variables, functions and imports of one
//! line are there in the next, and a line that fails takes nothing away.
//!
//! All lines count through one numbering (`State::add_chunk`), so that an error inside a
//! function of an earlier line shows that line.

use crate::files;
use crate::script::catalogue::docs::{Catalog, Form, Function};
use crate::script::catalogue::option_list::{self, ListedOption};
use crate::script::engine::session::Session;
use crate::script::language::render::Failure;
use crate::script::values::from_script::type_name;
use crate::script::values::value::{Reader, Value};
use rhai::{Dynamic, Expr, ModuleResolver, ParseErrorType, Position, Stmt, AST};
use std::path::{Path, PathBuf};

/// The variable that holds the value of the last input.
pub const IT: &str = "it";

/// A variable, or a part of one, with what can stand behind its dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// As scripts know it: `int`, `Model`.
    pub kind: String,
    pub constant: bool,
    /// The keys of a map.
    pub keys: Vec<Variable>,
    /// The first element of an array.
    pub element: Option<Box<Variable>>,
}

impl Session {
    /// Runs input number `number` of a conversation and gives the value of its last expression,
    /// which later inputs know as [`IT`].
    pub fn run_input(&mut self, number: usize, text: &str) -> Result<Value, Failure> {
        let value = self.run_chunk(&format!("input {number}"), text, PathBuf::from("."))?;
        Ok(self.kept_as_it(value))
    }

    /// Runs a file as if its text was typed: its variables and functions stay.
    pub fn load_file(&mut self, path: &Path) -> Result<Value, Failure> {
        let text = files::read_text(path).map_err(Failure::from)?;
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let value = self.run_chunk(&path.display().to_string(), text.trim_start_matches('\u{feff}'), folder)?;
        Ok(self.kept_as_it(value))
    }

    /// Nothing is no value to go on with, and a variable of the user's own stays theirs.
    fn kept_as_it(&mut self, value: Dynamic) -> Value {
        let value = value.flatten();
        let shown = Reader::new(&self.engine).read(&value);
        if !self.it_is_taken && !value.is_unit() {
            self.scope.set_or_push(IT, value);
        }
        shown
    }

    /// Did an input make a variable by the name [`IT`]?
    pub fn has_own_it(&self) -> bool {
        self.it_is_taken
    }

    /// The keys of `--set` values where no input has called `args(#{…})` yet.
    pub fn settings_unasked(&self) -> Vec<String> {
        let settings = self.state.set_values().into_iter().filter(|_| !self.state.has_read_args());
        settings.map(|(key, _)| key).collect()
    }

    fn run_chunk(&mut self, name: &str, text: &str, folder: PathBuf) -> Result<Dynamic, Failure> {
        let first = self.state.add_chunk(name, text, &folder);
        let placed = format!("{}{text}", "\n".repeat(first - 1));
        let compiled = self.engine.compile_with_scope(&self.scope, &placed);
        if compiled.is_ok() {
            self.warn(&placed);
        }
        let mut ast = compiled.map_err(|error| self.failure(&error.into()))?;
        ast.set_source(name);
        self.it_is_taken |= declares_it(&ast);
        let whole = self.functions.merge(&ast);
        self.functions = whole.clone_functions_only();
        let outcome = self.eval(&whole)?;
        self.keep_imports(&ast, name);
        Ok(outcome)
    }

    /// Imports do not live in the scope: for later lines they become modules of the engine.
    fn keep_imports(&mut self, ast: &AST, source: &str) {
        for statement in ast.statements() {
            let Stmt::Import(import, _) = statement else { continue };
            let (Expr::StringConstant(path, place), name) = (&import.0, import.1.name.as_str()) else { continue };
            if let Ok(module) = self.modules.resolve(&self.engine, Some(source), path, *place) {
                if !name.is_empty() {
                    self.engine.register_static_module(name, module);
                }
            }
        }
    }

    /// Does the text break off where more must follow: an open bracket, a missing operand?
    pub fn ends_early(&self, text: &str) -> bool {
        let Err(error) = self.engine.compile_with_scope(&self.scope, text) else { return false };
        // What more input could mend is found missing behind all that was written.
        matches!(error.err_type(), ParseErrorType::UnexpectedEOF) || is_behind(error.position(), text)
    }

    /// The variables, the newest first; of two with one name the one that counts.
    pub fn variables(&self) -> Vec<Variable> {
        let mut variables: Vec<Variable> = Vec::new();
        let mut entries: Vec<_> = self.scope.iter().collect();
        entries.reverse();
        for (name, constant, value) in entries {
            if !variables.iter().any(|known| known.name == name) {
                variables.push(variable(name, constant, &value, 0));
            }
        }
        variables
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<Value> {
        Some(Reader::new(&self.engine).read(&self.scope.get(name)?.flatten_clone()))
    }

    /// The type of what an expression gives; the expression is run.
    pub fn type_of(&mut self, number: usize, text: &str) -> Result<String, Failure> {
        let name = self.run_chunk(&format!("input {number}"), &format!("type_of({text})"), PathBuf::from("."))?;
        Ok(type_name(&name.into_string().unwrap_or_default()))
    }

    /// The functions that the lines themselves define, with their comments.
    pub fn own_functions(&self) -> Vec<Function> {
        let named = self.functions.iter_functions().filter(|function| !function.name.starts_with("anon$"));
        let functions = named.map(|function| Function {
            form: Form::Function,
            name: function.name.to_string(),
            parameters: function.params.iter().map(|name| (name.to_string(), String::new())).collect(),
            returns: String::new(),
            doc: function
                .comments
                .iter()
                .map(|line| line.trim_start_matches('/').trim())
                .collect::<Vec<_>>()
                .join("\n"),
        });
        functions.collect()
    }

    /// Every function that can be called, but for those of the lines.
    pub fn catalog(&self) -> Catalog {
        Catalog::of(&self.engine)
    }

    /// The options of a function, or of the map at `path` inside its options.
    pub fn options_of(catalog: &Catalog, function: &str, path: &[String]) -> Vec<ListedOption> {
        option_list::of(catalog, function, path)
    }

    /// Modules are read anew at their next `import`.
    pub fn forget_modules(&mut self) {
        self.modules.forget();
    }
}

/// Does the input declare a variable of the name [`IT`]?
fn declares_it(ast: &AST) -> bool {
    ast.statements().iter().any(|statement| matches!(statement, Stmt::Var(declared, ..) if declared.0.name == IT))
}

/// Is the place at the end of the text, or behind it?
fn is_behind(position: Position, text: &str) -> bool {
    let Some(line) = position.line() else { return false };
    let column = position.position().unwrap_or(1);
    let rest = text.lines().skip(line - 1).enumerate();
    rest.map(|(at, line)| line.chars().skip(if at == 0 { column - 1 } else { 0 }).collect::<String>())
        .all(|line| line.trim().is_empty())
}

/// How deep maps and arrays are looked into, and how many keys.
const DEEPEST: usize = 4;
const KEYS: usize = 200;

fn variable(name: &str, constant: bool, value: &Dynamic, depth: usize) -> Variable {
    let kind = type_name(value.type_name());
    let mut known = Variable { name: name.to_string(), kind, constant, keys: Vec::new(), element: None };
    if depth >= DEEPEST {
        return known;
    }
    if let Ok(map) = value.as_map_ref() {
        known.keys = map.iter().take(KEYS).map(|(key, value)| variable(key, false, value, depth + 1)).collect();
    } else if let Ok(items) = value.as_array_ref() {
        known.element = items.first().map(|first| Box::new(variable("", false, first, depth + 1)));
    }
    known
}
