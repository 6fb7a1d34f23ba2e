//! Calls: unknown functions, a wrong number of arguments, unknown options.

use super::problem::Problem;
use crate::error::Error;
use crate::script::catalogue::function::{Catalog, Form};
use crate::script::catalogue::option_list::{self, ListedOption};
use crate::script::engine::state::State;
use crate::script::language::python;
use crate::script::language::unknown::{unknown_name, ErrorContext};
use rhai::{ASTNode, Engine, Expr, FnCallExpr, Ident, Position, Scope, Stmt, AST};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Functions that the language itself reads, which no list of functions has.
const KEYWORDS: [&str; 9] = ["Fn", "call", "curry", "type_of", "is_shared", "is_def_var", "is_def_fn", "eval", "this"];

pub fn problems(ast: &AST, engine: &Engine, catalog: &Catalog, state: &State) -> Vec<Problem> {
    let known = Known::of(ast, engine, catalog, state);
    let mut problems = Vec::new();
    ast.walk(&mut |path| {
        if let Some(call) = Call::of(path.last()) {
            problems.extend(known.judge(&call));
        }
        true
    });
    problems
}

/// A call as it is written.
struct Call<'a> {
    called: &'a FnCallExpr,
    is_method: bool,
    position: Position,
}

impl<'a> Call<'a> {
    /// Operators and calls into modules are none of these.
    fn of(node: Option<&'a ASTNode<'a>>) -> Option<Call<'a>> {
        let (called, is_method, position) = match node? {
            ASTNode::Expr(Expr::FnCall(called, position)) => (called, false, *position),
            ASTNode::Expr(Expr::MethodCall(called, position)) => (called, true, *position),
            ASTNode::Stmt(Stmt::FnCall(called, position)) => (called, false, *position),
            _ => return None,
        };
        let is_name = called.name.starts_with(|letter: char| letter.is_alphabetic() || letter == '_');
        let is_call = is_name && !called.name.contains('$') && !called.is_operator_call() && !called.is_qualified();
        (is_call && !KEYWORDS.contains(&called.name.as_str())).then_some(Call { called, is_method, position })
    }

    fn name(&self) -> &str {
        &self.called.name
    }

    /// The number of values handed over, with the one left of the dot.
    fn values(&self) -> usize {
        self.called.args.len() + usize::from(self.is_method)
    }
}

/// What calls are judged by.
struct Known<'a> {
    engine: &'a Engine,
    state: &'a State,
    catalog: &'a Catalog,
    /// How many values each native function takes, a method's own value among them.
    natives: HashMap<String, BTreeSet<usize>>,
    /// The parameters of each function of the script: what it takes between its brackets.
    functions: HashMap<String, Vec<Vec<String>>>,
    /// Keys of maps: `map.key(…)` calls a closure that the map holds.
    keys: HashSet<String>,
}

impl<'a> Known<'a> {
    fn of(ast: &AST, engine: &'a Engine, catalog: &'a Catalog, state: &'a State) -> Known<'a> {
        let counted =
            |function: rhai::FuncInfo| Some((function.metadata.name.to_string(), function.metadata.num_params));
        let mut natives: HashMap<String, BTreeSet<usize>> = HashMap::new();
        for (name, count) in engine.collect_fn_metadata(None, counted, true) {
            natives.entry(name).or_default().insert(count);
        }
        let mut functions: HashMap<String, Vec<Vec<String>>> = HashMap::new();
        for function in ast.iter_functions() {
            functions
                .entry(function.name.to_string())
                .or_default()
                .push(function.params.iter().map(|name| name.to_string()).collect());
        }
        Known { engine, state, catalog, natives, functions, keys: keys(ast) }
    }

    fn judge(&self, call: &Call) -> Vec<Problem> {
        let overloads = self.functions.get(call.name());
        let natives = self.natives.get(call.name());
        let is_defined = overloads.is_some_and(|all| all.iter().any(|one| one.len() == call.called.args.len()));
        let is_native = natives.is_some_and(|takes| takes.contains(&call.values()));
        let problem = |error| vec![Problem::error(error, call.position)];
        match (is_defined, is_native) {
            (true, _) => Vec::new(),
            (_, true) => self.unknown_options(call),
            _ if call.is_method && self.keys.contains(call.name()) => Vec::new(),
            _ if overloads.is_none() && natives.is_none() => problem(self.unknown(call)),
            _ => problem(self.wrong_count(call)),
        }
    }

    fn unknown(&self, call: &Call) -> Error {
        let Known { engine, catalog, state, .. } = self;
        let context = ErrorContext { engine, catalog, scope: &Scope::new(), state, place: None };
        unknown_name(call.name(), call.name(), catalog, &context)
    }

    fn wrong_count(&self, call: &Call) -> Error {
        let name = call.name();
        // Between the brackets: a method's own value stands left of the dot.
        let defined = self.functions.get(name).into_iter().flatten().map(Vec::len);
        let natives = self.natives.get(name).into_iter().flatten();
        let natives = natives.filter_map(|takes| takes.checked_sub(usize::from(call.is_method)));
        let takes: BTreeSet<usize> = defined.chain(natives).collect();
        let count = call.called.args.len();
        let plural = if takes.iter().all(|count| *count == 1) { "argument" } else { "arguments" };
        let error = Error::input(format!("`{name}`: expected {} {plural}, found {count}", counts(&takes)));
        if let (true, Some(advice)) = (!self.functions.contains_key(name), python::name(name)) {
            return error.with_hint(advice);
        }
        let defined =
            self.functions.get(name).into_iter().flatten().map(|names| format!("fn {name}({})", names.join(", ")));
        let known: Vec<String> = defined.chain(self.catalog.signatures(name)).collect();
        error.with_hint(format!("there is\n{}", known.join("\n")))
    }

    /// In the map that is written out as the last argument.
    fn unknown_options(&self, call: &Call) -> Vec<Problem> {
        let Some(Expr::Map(entries, _)) = call.called.args.last() else { return Vec::new() };
        if !self.takes_options(call) {
            return Vec::new();
        }
        let mut problems = Vec::new();
        self.compare(call.name(), &mut Vec::new(), &entries.0, &mut problems);
        problems
    }

    fn takes_options(&self, call: &Call) -> bool {
        let mut alike = self.catalog.named(call.name()).filter(|known| known.parameters.len() == call.values());
        alike.any(|known| {
            let callable = matches!(known.form, Form::Function | Form::Method);
            callable && known.parameters.last().is_some_and(|(name, _)| name == "options")
        })
    }

    fn compare(&self, function: &str, path: &mut Vec<String>, entries: &[(Ident, Expr)], problems: &mut Vec<Problem>) {
        let known = option_list::of(self.catalog, function, path);
        // The keys of any other map are free.
        if known.is_empty() {
            return;
        }
        for (key, value) in entries {
            let Some(name) = known.iter().find(|option| option.is_called(&key.name)) else {
                problems.push(unknown_option(function, path, key, &known));
                continue;
            };
            // The axes of experiments that are no trainings have any name.
            let is_free = key.name == "grid" && entries.iter().any(|(key, _)| key.name == "trial");
            if let (Expr::Map(inner, _), false) = (value, is_free) {
                path.push(name.name.clone());
                self.compare(function, path, &inner.0, problems);
                path.pop();
            }
        }
    }
}

fn unknown_option(function: &str, path: &[String], key: &Ident, known: &[ListedOption]) -> Problem {
    let full: Vec<&str> = path.iter().map(String::as_str).chain([key.name.as_str()]).collect();
    let error = Error::input(format!("{function}: unknown option `{}`", full.join(".")));
    let names = known.iter().map(|option| option.name.as_str());
    // Python's name may be the one that was meant, but ours are those to list.
    let aliases = known.iter().flat_map(|option| &option.aliases).map(String::as_str);
    let innermost = path.last().map_or(function, String::as_str);
    Problem::error(error.with_hint(python::unknown_option(innermost, &key.name, names, aliases)), key.pos)
}

/// "2", "2 or 3", "1, 2 or 3".
fn counts(takes: &BTreeSet<usize>) -> String {
    let words: Vec<String> = takes.iter().map(usize::to_string).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "none".to_string(),
    }
}

pub fn keys(ast: &AST) -> HashSet<String> {
    let mut keys = HashSet::new();
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Expr(Expr::Map(entries, _))) => {
                keys.extend(entries.0.iter().map(|(key, _)| key.name.to_string()));
            }
            Some(ASTNode::Stmt(Stmt::Assignment(assigned))) => keys.extend(last_property(&assigned.1.lhs)),
            _ => {}
        }
        true
    });
    keys
}

/// `c` of `a.b.c = …`.
fn last_property(left: &Expr) -> Option<String> {
    match left {
        Expr::Dot(both, ..) => last_property(&both.rhs),
        Expr::Property(property, _) => Some(property.2.to_string()),
        Expr::Index(both, ..) => match &both.rhs {
            Expr::StringConstant(name, _) => Some(name.to_string()),
            _ => None,
        },
        _ => None,
    }
}
