//! The names that a script itself declares, to find the one that a misspelt name meant.

use crate::script::language::render::Place;
use rhai::{Dynamic, Engine, Scope, Token};

/// Variables: names after `let`, `const`, `for`, `as`, and between the bars of a closure.
pub fn variables(engine: &Engine, source: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in declared(&tokens(engine, source)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How often the text declares a variable of this name, as parameter of a function too.
pub fn declarations(engine: &Engine, source: &str, name: &str) -> usize {
    let is = |token: &Token| matches!(token, Token::Identifier(found) if found.as_str() == name);
    let tokens = tokens(engine, source);
    let functions = tokens.split(|token| *token == Token::Fn).skip(1);
    // The parameters of a function: behind `fn` and its name, up to the bracket.
    let parameters =
        functions.filter(|rest| rest.iter().take_while(|token| **token != Token::RightParen).skip(1).any(is));
    declared(&tokens).iter().filter(|found| *found == name).count() + parameters.count()
}

/// The names that are declared, as often as they are.
fn declared(tokens: &[Token]) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_bars = false;
    let mut before = &Token::SemiColon;
    for token in tokens {
        match token {
            Token::Pipe => in_bars = !in_bars && !is_operand(before),
            Token::Identifier(name) if in_bars || is_declaring(before) => names.push(name.to_string()),
            _ => {}
        }
        before = token;
    }
    names
}

/// Can it stand left of the operator `|`?
fn is_operand(token: &Token) -> bool {
    let closing = matches!(token, Token::RightParen | Token::RightBracket);
    closing || matches!(token, Token::Identifier(_) | Token::IntegerConstant(_) | Token::True | Token::False)
}

fn is_declaring(token: &Token) -> bool {
    matches!(token, Token::Let | Token::Const | Token::For | Token::As)
}

/// Variables that hold caught errors: the names between the brackets of `catch (…)`.
pub fn caught(text: &str) -> Vec<String> {
    let pieces = text.split("catch").skip(1);
    let inside = pieces.filter_map(|rest| rest.trim_start().strip_prefix('(')?.split(')').next());
    inside.map(|name| name.trim().to_string()).filter(|name| rhai::is_valid_identifier(name)).collect()
}

/// Functions: names after `fn`.
pub fn functions(engine: &Engine, source: &str) -> Vec<String> {
    pairs(engine, source, |before, after| match (before, after) {
        (Token::Fn, Token::Identifier(name)) => Some(name.to_string()),
        _ => None,
    })
}

fn pairs(engine: &Engine, source: &str, name: impl Fn(&Token, &Token) -> Option<String>) -> Vec<String> {
    let tokens = tokens(engine, source);
    let named = tokens.windows(2).filter_map(|pair| match pair {
        [before, after] => name(before, after),
        _ => None,
    });
    named.collect()
}

fn tokens(engine: &Engine, source: &str) -> Vec<Token> {
    let inputs = [source];
    // At the end the lexer gives `EOF` again and again.
    let tokens = engine.lex(&inputs).0.map(|(token, _)| token).take_while(|token| *token != Token::EOF);
    tokens.collect()
}

/// The keys of the map left of the dot at `place`: of `cfg.train` for `cfg.train.stpes`.
pub fn keys_of_owner(place: &Place, scope: &Scope) -> Option<Vec<String>> {
    let before: String = place.text.as_ref()?.chars().take(place.column.checked_sub(1)?).collect();
    let path = before.trim_end().strip_suffix('.')?.trim_end();
    let path = path.rsplit(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '.')).next()?;
    let mut parts = path.split('.');
    let mut value: Dynamic = scope.get(parts.next()?)?.flatten_clone();
    for part in parts {
        let inner = value.as_map_ref().ok()?.get(part)?.flatten_clone();
        value = inner;
    }
    let keys = value.as_map_ref().ok()?.keys().map(|key| key.to_string()).collect();
    Some(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found_in_the_text() {
        let engine = Engine::new();
        let source = "import \"x\" as lib; let a = 1; for row in [1] { } let f = |p| p + 1; fn run(b) { b }";
        assert_eq!(variables(&engine, source), ["lib", "a", "row", "f", "p"]);
        assert_eq!(functions(&engine, source), ["run"]);
        let source = "let f = |a, b, c| other(a) | b; g(|x| x, |y| y); let h = || nothing;";
        assert_eq!(variables(&engine, source), ["f", "a", "b", "c", "x", "y", "h"]);
        let source = "let cfg = 1; fn f(x, cfg) { cfg } let g = |a, cfg, b| cfg; cfg";
        assert_eq!(declarations(&engine, source, "cfg"), 3);
    }

    #[test]
    fn caught_errors_are_named_between_the_brackets() {
        assert_eq!(caught("try { } catch (e) { } try {} catch(err) {} try { } catch { }"), ["e", "err"]);
    }

    #[test]
    fn the_owner_of_a_property_is_read_from_the_line() {
        let mut scope = Scope::new();
        let cfg: Dynamic = Engine::new().eval("#{ train: #{ steps: 1, lr: 2 } }").unwrap();
        scope.push_dynamic("cfg", cfg);
        let place = |text: &str, column| Place { file: String::new(), line: 1, column, text: Some(text.into()) };
        assert_eq!(keys_of_owner(&place("let x = f(cfg.train.stpes);", 21), &scope).unwrap(), ["lr", "steps"]);
        assert_eq!(keys_of_owner(&place("-cfg.trian", 6), &scope).unwrap(), ["train"]);
        assert_eq!(keys_of_owner(&place("f(1).x", 6), &scope), None);
    }
}
