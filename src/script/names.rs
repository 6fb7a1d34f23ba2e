//! The names that a script itself declares, to find the one that a misspelt name meant.

use super::render::Place;
use rhai::{Dynamic, Engine, Scope, Token};

/// Variables: names after `let`, `const`, `for`, `as`, and between the bars of a closure.
pub fn variables(engine: &Engine, source: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let found = pairs(engine, source, |before, after| match (before, after) {
        (before, Token::Identifier(name)) if declares(before) => Some(name.to_string()),
        (Token::Identifier(name), Token::Pipe) => Some(name.to_string()),
        _ => None,
    });
    for name in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How often the text declares a variable of this name, as parameter of a function too.
pub fn declarations(engine: &Engine, source: &str, name: &str) -> usize {
    let is = |token: &Token| matches!(token, Token::Identifier(found) if found.as_str() == name);
    let declared = pairs(engine, source, |before, after| (declares(before) && is(after)).then(String::new));
    let inputs = [source];
    let tokens: Vec<Token> =
        engine.lex(&inputs).0.map(|(token, _)| token).take_while(|token| *token != Token::EOF).collect();
    declared.len() + tokens.split(|token| *token == Token::Fn).skip(1).filter(|rest| has_parameter(rest, is)).count()
}

/// `rest` begins behind `fn`.
fn has_parameter(rest: &[Token], is: impl Fn(&Token) -> bool) -> bool {
    rest.iter().take_while(|token| **token != Token::RightParen).skip(1).any(is)
}

/// Does a variable's name stand behind it?
fn declares(token: &Token) -> bool {
    matches!(token, Token::Let | Token::Const | Token::For | Token::As | Token::Pipe)
}

/// Functions: names after `fn`.
pub fn functions(engine: &Engine, source: &str) -> Vec<String> {
    pairs(engine, source, |before, after| match (before, after) {
        (Token::Fn, Token::Identifier(name)) => Some(name.to_string()),
        _ => None,
    })
}

fn pairs(engine: &Engine, source: &str, name: impl Fn(&Token, &Token) -> Option<String>) -> Vec<String> {
    let inputs = [source];
    // At the end the lexer gives `EOF` again and again.
    let tokens = engine.lex(&inputs).0.map(|(token, _)| token).take_while(|token| *token != Token::EOF);
    let tokens: Vec<Token> = tokens.collect();
    let named = tokens.windows(2).filter_map(|pair| match pair {
        [before, after] => name(before, after),
        _ => None,
    });
    named.collect()
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
