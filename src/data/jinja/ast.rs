//! The syntax tree of a template. It has no runtime values, so threads can use one compiled template.

use std::sync::Arc;

pub(super) type Name = Arc<str>;
pub(super) type Body = Vec<Statement>;

#[derive(Debug, Clone)]
pub(super) enum Constant {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Arc<str>),
}

#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub line: u32,
    pub node: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Const(Constant),
    Name(Name),
    Tuple(Vec<Expr>),
    List(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Cond {
        test: Box<Expr>,
        then: Box<Expr>,
        other: Option<Box<Expr>>,
    },
    Or(Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Attr(Box<Expr>, Name),
    Item(Box<Expr>, Box<Expr>),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Box<Expr>, Arguments),
    /// Without a value in `{% filter %}` and `{% set %}` blocks.
    Filter(Option<Box<Expr>>, Name, Arguments),
    Test(Box<Expr>, Name, Arguments),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Expr>,
    pub named: Vec<(Name, Expr)>,
    pub rest: Option<Box<Expr>>,
    pub named_rest: Option<Box<Expr>>,
}

#[derive(Debug, Clone)]
pub(super) enum Target {
    Name(Name),
    Attr(Name, Name),
    Tuple(Vec<Target>),
}

#[derive(Debug, Clone)]
pub(super) enum Piece {
    Text(Arc<str>),
    Expr(Expr),
}

#[derive(Debug)]
pub(super) struct For {
    pub target: Target,
    pub iterable: Expr,
    pub body: Body,
    pub otherwise: Body,
    pub test: Option<Expr>,
    pub recursive: bool,
}

#[derive(Debug)]
pub(super) struct MacroDefinition {
    pub name: Name,
    pub parameters: Vec<(Name, Option<Expr>)>,
    pub body: Body,
    /// Whether the body mentions `caller`, `varargs` and `kwargs`.
    pub takes_caller: bool,
    pub takes_rest: bool,
    pub takes_named_rest: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub line: u32,
    pub kind: StatementKind,
}

#[derive(Debug, Clone)]
pub(super) enum StatementKind {
    Output(Vec<Piece>),
    For(Arc<For>),
    If(Vec<(Expr, Body)>, Body),
    Macro(Arc<MacroDefinition>),
    Call(Expr, Arc<MacroDefinition>),
    Filter(Expr, Body),
    Set(Target, Expr),
    SetBlock(Target, Option<Expr>, Body),
    With(Vec<(Target, Expr)>, Body),
    Block {
        name: Name,
        scoped: bool,
    },
    AutoEscape(Expr, Body),
    Generation(Body),
    /// `include`, `import`, `from` and `extends`, which need another template.
    OtherTemplate(&'static str),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct Program {
    pub body: Body,
    pub blocks: Vec<(Name, Body)>,
    pub has_generation_tags: bool,
}
