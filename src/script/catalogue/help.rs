//! The help text of a script: `lorhai run FILE --help`.
//!
//! The settings are those of the script's call `args(#{ … })`, in the order written there,
//! with the comment at the end of a setting's line.

use crate::script::values::from_script::type_name;
use crate::table::{pad, width, Align};
use rhai::{ASTNode, Dynamic, Expr, Map, Stmt, AST};

/// The part of a script that ends with its first call of `args`, or all of it where the
/// call is in a function; `None` if there is no such call.
pub fn up_to_args(ast: &AST) -> Option<AST> {
    if ast.walk(&mut |path| args_call(path.last()).is_none()) {
        return None;
    }
    let calls_args = |statement: &Stmt| !statement.walk(&mut Vec::new(), &mut |path| args_call(path.last()).is_none());
    let Some(last) = ast.statements().iter().position(calls_args) else {
        return Some(ast.clone());
    };
    let opening = ast.statements().iter().take(last + 1).cloned().collect::<Vec<_>>();
    let mut opening = AST::new(opening, ast.shared_lib().clone());
    opening.set_source(ast.source().unwrap_or_default());
    Some(opening)
}

/// The argument of a call of `args`, if this node is one.
fn args_call<'a>(node: Option<&'a ASTNode>) -> Option<&'a Expr> {
    let call = match node {
        Some(ASTNode::Expr(Expr::FnCall(call, _))) => call,
        Some(ASTNode::Stmt(Stmt::FnCall(call, _))) => call,
        _ => return None,
    };
    match call.args.as_slice() {
        [argument] if call.name == "args" => Some(argument),
        _ => None,
    }
}

/// A setting as the script writes it: its name and the comment at the end of its line.
pub struct Written {
    name: String,
    comment: String,
}

/// The settings in the order written. `ast` must not be optimised: constants lose their order.
pub fn written(ast: &AST, source: &str) -> Vec<Written> {
    let mut places = Vec::new();
    ast.walk(&mut |path| match args_call(path.last()) {
        Some(argument) => {
            key_places(argument, "", &mut places);
            false
        }
        None => true,
    });
    let line_of = |index: usize| places.get(index).map(|(_, line): &(String, usize)| *line);
    // A comment behind several settings on a line could be about any of them.
    let alone =
        |index: usize| line_of(index) != line_of(index + 1) && (index == 0 || line_of(index) != line_of(index - 1));
    let comment = |index: usize| trailing_comment(source.lines().nth(line_of(index)?.checked_sub(1)?)?);
    let settings = places.iter().enumerate().map(|(index, (name, _))| Written {
        name: name.clone(),
        comment: comment(index).filter(|_| alone(index)).unwrap_or_default(),
    });
    settings.collect()
}

fn key_places(value: &Expr, prefix: &str, places: &mut Vec<(String, usize)>) {
    let Expr::Map(entries, _) = value else { return };
    for (key, value) in &entries.0 {
        let name = format!("{prefix}{}", key.name);
        match value {
            Expr::Map(..) => key_places(value, &format!("{name}."), places),
            _ => places.push((name, key.pos.line().unwrap_or(0))),
        }
    }
}

/// The text after `//` that is not inside a string.
fn trailing_comment(line: &str) -> Option<String> {
    let mut quote = None;
    let mut characters = line.char_indices().peekable();
    while let Some((at, letter)) = characters.next() {
        match (letter, quote) {
            ('\\', Some(_)) => drop(characters.next()),
            ('"' | '`' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if letter == open => quote = None,
            ('/', None) if characters.peek().is_some_and(|(_, next)| *next == '/') => {
                return Some(line[at..].trim_start_matches('/').trim().to_string());
            }
            _ => {}
        }
    }
    None
}

/// The opening comment of the script, its usage and its settings.
pub fn text(file: &str, source: &str, defaults: Option<&Map>, written: &[Written]) -> String {
    let mut text = opening_comment(source);
    text.push_str(&format!("usage: lorhai run {file}"));
    let Some(defaults) = defaults.filter(|defaults| !defaults.is_empty()) else {
        return text + "\n\nThis script has no settings.\n";
    };
    text.push_str(" [--set KEY=VALUE]...\n\nsettings and their defaults:\n");
    let mut rows = Vec::new();
    collect_rows(defaults, "", written, &mut rows);
    rows.sort_by_key(|row| row.order);
    text + aligned(&rows).as_str()
}

/// The `//` lines that a script opens with.
fn opening_comment(source: &str) -> String {
    let lines = source.lines().skip_while(|line| line.trim().is_empty());
    let comment = lines.map_while(|line| line.trim().strip_prefix("//"));
    let text: Vec<&str> = comment.map(|line| line.trim_start_matches(['/', '!']).trim()).collect();
    if text.is_empty() {
        return String::new();
    }
    text.join("\n") + "\n\n"
}

struct Row {
    name: String,
    default: String,
    remark: String,
    order: usize,
}

fn collect_rows(defaults: &Map, prefix: &str, written: &[Written], rows: &mut Vec<Row>) {
    for (key, value) in defaults {
        let name = format!("{prefix}{key}");
        if let Ok(inner) = value.as_map_ref() {
            collect_rows(&inner, &format!("{name}."), written, rows);
            continue;
        }
        let order = written.iter().position(|setting| setting.name == name).unwrap_or(usize::MAX);
        let comment = written.get(order).map(|setting| setting.comment.as_str()).unwrap_or_default();
        let parts = [kind(value), comment.to_string()];
        let remark = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        rows.push(Row { name, default: shown(value), remark, order });
    }
}

fn shown(value: &Dynamic) -> String {
    if value.is_unit() {
        return "not set".to_string();
    }
    format!("{value:?}")
}

fn kind(value: &Dynamic) -> String {
    match value.as_array_ref() {
        Ok(items) => match items.first() {
            Some(first) => format!("{}s, comma-separated", type_name(first.type_name())),
            None => "comma-separated".to_string(),
        },
        Err(_) if value.is_unit() => String::new(),
        Err(_) => type_name(value.type_name()),
    }
}

fn aligned(rows: &[Row]) -> String {
    let name_width = rows.iter().map(|row| width(&row.name)).max().unwrap_or(0);
    let default_width = rows.iter().map(|row| width(&row.default)).max().unwrap_or(0).min(32);
    let line = |Row { name, default, remark, .. }: &Row| {
        let (name, default) = (pad(name, name_width, Align::Left), pad(default, default_width, Align::Left));
        format!("  {name} = {default}  {remark}").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_told_from_strings() {
        assert_eq!(trailing_comment("a: 1, // the rank").as_deref(), Some("the rank"));
        assert_eq!(trailing_comment(r#"a: "http://x\"//", b: 2"#), None);
        assert_eq!(trailing_comment(r#"a: "http://x", // a link"#).as_deref(), Some("a link"));
    }

    #[test]
    fn settings_keep_their_order_and_comments() {
        let source = "// Sweeps ranks.\n// Takes a minute.\nlet x = 1;\n\
                      let cfg = args(#{ zeta: 1, // the last\n  alpha: [2], beta: \"b\", // of two\n  \
                      train: #{ lr: 0.5 } });\nboom();";
        let mut engine = rhai::Engine::new();
        engine.set_optimization_level(rhai::OptimizationLevel::None);
        let ast = engine.compile(source).unwrap();
        assert_eq!(up_to_args(&ast).unwrap().statements().len(), 2);
        let defaults: Map = engine.eval("#{ zeta: 1, alpha: [2], beta: \"b\", train: #{ lr: 0.5 } }").unwrap();
        let text = text("x.rhai", source, Some(&defaults), &written(&ast, source));
        let expected = "Sweeps ranks.\nTakes a minute.\n\nusage: lorhai run x.rhai [--set KEY=VALUE]...\n\n\
                        settings and their defaults:\n\
                        \x20 zeta     = 1    int; the last\n\
                        \x20 alpha    = [2]  ints, comma-separated\n\
                        \x20 beta     = \"b\"  string\n\
                        \x20 train.lr = 0.5  float\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_script_without_settings_says_so() {
        let ast = rhai::Engine::new().compile("print(1)").unwrap();
        assert!(up_to_args(&ast).is_none());
        assert!(text("x.rhai", "print(1)", None, &[]).contains("no settings"));
    }
}
