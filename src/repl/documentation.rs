//! `?name`: finds the function that is meant; in `?owner.name` the type of the variable `owner` decides.
//! Leaves to others: the page itself (`script::catalogue::pages`).

use super::cursor;
use super::known::Known;
use super::show::Screen;
use super::syntax::{words, Kind};
use crate::error::{Error, Result};
use crate::script::catalogue::docs::Function;
use crate::script::catalogue::pages;
use crate::suggest;

/// All functions, methods and properties of this name; of `owner.name` those of the owner's type.
pub fn of(known: &Known, name: &str, screen: &Screen) -> Result<String> {
    let (owner, bare) = pages::parts(name);
    let kind = owner.and_then(|owner| kind_of(known, owner));
    let fits = |function: &&Function| kind.is_none() || function.receiver() == kind.as_deref();
    let all = || known.user_functions.iter().chain(known.catalog.named(bare)).filter(|function| function.name == bare);
    let mut functions: Vec<&Function> = all().filter(fits).collect();
    if functions.is_empty() {
        functions = all().collect();
    }
    if functions.is_empty() {
        return Err(unknown(known, bare));
    }
    Ok(pages::pages(&functions, screen.colours))
}

fn kind_of(known: &Known, owner: &str) -> Option<String> {
    let words: Vec<_> = words(owner).into_iter().filter(|word| word.kind != Kind::Space).collect();
    Some(known.typed(&cursor::chain(&words)?)?.kind)
}

fn unknown(known: &Known, name: &str) -> Error {
    let error = Error::input(format!("there is no function, method or variable called `{name}`"));
    let user_functions = known.user_functions.iter().map(|function| function.name.as_str());
    let variables = known.variables.iter().map(|variable| variable.name.as_str());
    match suggest::nearest(name, known.catalog.names().chain(user_functions).chain(variables)) {
        Some(near) => error.with_hint(format!("did you mean `{near}`?")),
        None => error.with_hint("write ? and the beginning of a name, then press Tab"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::complete::tests::known;
    use super::super::show::Screen;

    #[test]
    fn documentation_of_functions_methods_and_those_of_the_user() {
        let known = known(&["/// Twice as much.\nfn twice(x) { 2 * x }", "let t = tensor([1.0]);"]);
        let screen = Screen { columns: 80, rows: 24, colours: false, images: None };
        let of = |name: &str| super::of(&known, name, &screen).map_err(|error| error.to_string());
        let page = of("lr_schedule").unwrap();
        assert!(page.starts_with("lr_schedule(name: string, options: map) -> Schedule\n  A learning-rate"), "{page}");
        assert!(page.contains("\n      let cosine = ") && !page.contains("```"), "{page}");
        assert_eq!(of("twice").unwrap(), "twice(x)\n  Twice as much.\n");
        assert!(of("t.sum").unwrap().lines().next().unwrap().starts_with("tensor.sum("));
        let error = super::of(&known, "trian", &screen).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean `train`?"));
    }
}
