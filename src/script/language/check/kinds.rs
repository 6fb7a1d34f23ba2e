//! What kind of value an expression has, as far as the text shows: enough to warn where the
//! kind is certain, and to stay silent where it is not.

use crate::script::catalogue::function::{Catalog, Form, Function};
use rhai::{ASTNode, Expr, FnCallExpr, Stmt, AST};
use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Unknown,
    /// With its value where that never changes.
    Int(Option<i64>),
    Float,
    /// Any other type, by the name that scripts know it by.
    Other(String),
}

impl Kind {
    fn named(name: &str) -> Kind {
        match name {
            "int" => Kind::Int(None),
            "float" => Kind::Float,
            "" | "any" => Kind::Unknown,
            other => Kind::Other(other.to_string()),
        }
    }

    pub fn is(&self, name: &str) -> bool {
        matches!(self, Kind::Other(kind) if kind == name)
    }

    pub fn is_int(&self) -> bool {
        matches!(self, Kind::Int(_))
    }

    /// The name of the type, if it is known.
    pub fn name(&self) -> Option<&str> {
        match self {
            Kind::Unknown => None,
            Kind::Int(_) => Some("int"),
            Kind::Float => Some("float"),
            Kind::Other(name) => Some(name),
        }
    }

    /// What is true of both.
    fn joined(self, other: Kind) -> Kind {
        match (self, other) {
            (same, other) if same == other => same,
            (Kind::Int(_), Kind::Int(_)) => Kind::Int(None),
            _ => Kind::Unknown,
        }
    }
}

/// The kinds of a script's variables.
pub struct Kinds<'a> {
    catalog: &'a Catalog,
    variables: HashMap<String, Kind>,
    /// Those of the values in maps that are written out: `cfg.steps`.
    fields: HashMap<String, Kind>,
}

impl<'a> Kinds<'a> {
    pub fn of(ast: &AST, catalog: &'a Catalog) -> Kinds<'a> {
        let mut kinds = Kinds { catalog, variables: HashMap::new(), fields: HashMap::new() };
        // A variable may be made of others: those that are known after one round tell more in the next.
        for _ in 0..3 {
            kinds = kinds.round(ast);
        }
        kinds
    }

    /// Reads all declarations and assignments, with what the last round found.
    fn round(&self, ast: &AST) -> Kinds<'a> {
        let mut variables: HashMap<String, Kind> = HashMap::new();
        let mut fields: HashMap<String, Kind> = HashMap::new();
        let mut note = |name: &str, kind: Kind| {
            let kind = match variables.remove(name) {
                Some(known) => known.joined(kind),
                None => kind,
            };
            variables.insert(name.to_string(), kind);
        };
        let mut note_field = |name: String, kind: Kind| {
            let kind = match fields.remove(&name) {
                Some(known) => known.joined(kind),
                None => kind,
            };
            fields.insert(name, kind);
        };
        for function in ast.iter_fn_def() {
            function.params.iter().for_each(|name| note(name, Kind::Unknown));
        }
        ast.walk(&mut |path| {
            match path.last() {
                Some(ASTNode::Stmt(Stmt::Var(declared, ..))) => {
                    let (name, value, _) = &**declared;
                    note(&name.name, self.kind(value));
                    for (key, kind) in self.entries(value) {
                        note_field(format!("{}.{key}", name.name), kind);
                    }
                }
                Some(ASTNode::Stmt(Stmt::Assignment(assigned))) => {
                    let both = &assigned.1;
                    let value = self.kind(&both.rhs);
                    match &both.lhs {
                        // One more assignment: the value is no longer that of the declaration.
                        Expr::Variable(name, ..) => note(&name.1, without_value(value)),
                        left => drop(field(left).map(|name| note_field(name, Kind::Unknown))),
                    }
                }
                Some(ASTNode::Stmt(Stmt::For(parts, _))) => {
                    let counts = matches!(&parts.2.expr, Expr::FnCall(call, _) if is_range(call));
                    note(&parts.0.name, if counts { Kind::Int(None) } else { Kind::Unknown });
                    parts.1.iter().for_each(|counter| note(&counter.name, Kind::Int(None)));
                }
                Some(ASTNode::Stmt(Stmt::TryCatch(flow, _))) => {
                    if let Expr::Variable(name, ..) = &flow.expr {
                        note(&name.1, Kind::Unknown);
                    }
                }
                _ => {}
            }
            true
        });
        Kinds { catalog: self.catalog, variables, fields }
    }

    /// The kinds in a map that is written out, alone or as the defaults of `args`.
    fn entries(&self, value: &Expr) -> Vec<(String, Kind)> {
        let (map, is_settings) = match value {
            Expr::Map(map, _) => (map, false),
            Expr::FnCall(call, _) if call.name == "args" => match call.args.first() {
                Some(Expr::Map(map, _)) => (map, true),
                _ => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        let kind = |value: &Expr| if is_settings { without_value(self.kind(value)) } else { self.kind(value) };
        map.0.iter().map(|(key, value)| (key.name.to_string(), kind(value))).collect()
    }

    pub fn kind(&self, value: &Expr) -> Kind {
        match value {
            Expr::IntegerConstant(number, _) => Kind::Int(Some(*number)),
            Expr::FloatConstant(..) => Kind::Float,
            Expr::StringConstant(..) | Expr::InterpolatedString(..) => Kind::named("string"),
            Expr::BoolConstant(..) | Expr::And(..) | Expr::Or(..) => Kind::named("bool"),
            Expr::Array(..) => Kind::named("array"),
            Expr::Map(..) => Kind::named("map"),
            Expr::Unit(_) => Kind::named("()"),
            Expr::Variable(name, ..) if name.2.is_empty() => {
                self.variables.get(name.1.as_str()).cloned().unwrap_or(Kind::Unknown)
            }
            Expr::FnCall(call, _) => self.call(call),
            Expr::Dot(both, ..) => match field(value).and_then(|name| self.fields.get(&name).cloned()) {
                Some(kind) => kind,
                None => self.along(self.kind(&both.lhs), &both.rhs),
            },
            Expr::Stmt(block) => match block.statements() {
                [Stmt::Expr(only)] => self.kind(only),
                _ => Kind::Unknown,
            },
            _ => Kind::Unknown,
        }
    }

    /// The kind at the end of a chain that begins with a value of kind `of`.
    fn along(&self, of: Kind, rest: &Expr) -> Kind {
        match rest {
            Expr::Dot(both, ..) => self.along(self.along(of, &both.lhs), &both.rhs),
            Expr::Property(property, _) => self.member(&of, property.2.as_str(), Form::Getter, 1),
            Expr::MethodCall(call, _) => self.member(&of, call.name.as_str(), Form::Method, call.args.len() + 1),
            _ => Kind::Unknown,
        }
    }

    /// What a method or property gives; of a value of unknown kind only where all that have it agree.
    fn member(&self, of: &Kind, name: &str, form: Form, count: usize) -> Kind {
        match name {
            "to_int" => return Kind::Int(None),
            "to_float" => return Kind::Float,
            _ => {}
        }
        let is_property = form == Form::Getter;
        // A map's own key may be called anything but `len`.
        if is_property && (of.is("map") || *of == Kind::Unknown) && name != "len" {
            return Kind::Unknown;
        }
        let fits = |known: &&Function| {
            let is_form = if is_property { known.form == Form::Getter } else { known.form != Form::Getter };
            let is_receiver = match (of.name(), known.parameters.first()) {
                (Some(of), Some((_, kind))) => of == kind || kind == "any",
                _ => true,
            };
            is_form && is_receiver && known.parameters.len() == count
        };
        agreed(self.catalog.named(name).filter(fits).map(|known| known.returns.as_str()))
    }

    fn call(&self, call: &FnCallExpr) -> Kind {
        let kinds: Vec<Kind> = call.args.iter().map(|value| self.kind(value)).collect();
        if call.is_operator_call() {
            return operator(&call.name, &kinds);
        }
        match (call.name.as_str(), kinds.as_slice()) {
            ("to_int" | "parse_int", _) => return Kind::Int(None),
            ("to_float" | "parse_float", _) => return Kind::Float,
            ("abs", [one]) => return without_value(one.clone()),
            ("min" | "max", [one, other]) => return without_value(one.clone()).joined(without_value(other.clone())),
            _ => {}
        }
        let fits = |known: &&Function| {
            let takes = |(kind, (_, wanted)): (&Kind, &(String, String))| match kind.name() {
                Some(name) => name == wanted || wanted == "any",
                None => true,
            };
            known.parameters.len() == kinds.len() && kinds.iter().zip(&known.parameters).all(takes)
        };
        agreed(self.catalog.named(&call.name).filter(fits).map(|known| known.returns.as_str()))
    }
}

/// `variable.key`, where the chain is no longer than that.
fn field(value: &Expr) -> Option<String> {
    let Expr::Dot(both, ..) = value else { return None };
    match (&both.lhs, &both.rhs) {
        (Expr::Variable(name, ..), Expr::Property(property, _)) if name.2.is_empty() => {
            Some(format!("{}.{}", name.1, property.2))
        }
        _ => None,
    }
}

fn without_value(kind: Kind) -> Kind {
    match kind {
        Kind::Int(_) => Kind::Int(None),
        other => other,
    }
}

pub fn is_range(call: &FnCallExpr) -> bool {
    ["..", "..=", "range"].contains(&call.name.as_str())
}

fn operator(name: &str, kinds: &[Kind]) -> Kind {
    let is_arithmetic = ["+", "-", "*", "/", "%", "**"].contains(&name);
    match kinds {
        _ if !is_arithmetic => match name {
            "==" | "!=" | "<" | "<=" | ">" | ">=" | "!" => Kind::named("bool"),
            _ => Kind::Unknown,
        },
        [one] => one.clone(),
        [one, other] if one.is("Tensor") || other.is("Tensor") => Kind::named("Tensor"),
        [Kind::Int(_), Kind::Int(_)] => Kind::Int(None),
        [Kind::Float, Kind::Int(_) | Kind::Float] | [Kind::Int(_), Kind::Float] => Kind::Float,
        _ => Kind::Unknown,
    }
}

/// The one type that all of them give.
fn agreed<'n>(mut returns: impl Iterator<Item = &'n str>) -> Kind {
    match returns.next() {
        Some(first) if returns.all(|other| other == first) => Kind::named(first),
        _ => Kind::Unknown,
    }
}

/// Does a function of the script have this name? It may give anything.
pub fn is_own(ast: &AST, name: &str) -> bool {
    ast.iter_fn_def().any(|function| function.name == name)
}
