//! The documentation of functions for a terminal: the page of one, for `lorhai doc NAME` and `?name`,
//! and the list of all, for `lorhai doc`.

use crate::error::{Error, Result};
use crate::script::api;
use crate::script::catalogue::docs::{functions, Catalog, Form, Function};
use crate::script::catalogue::option_list::{self, ListedOption};
use crate::script::language::python;
use crate::suggest;
use anstyle::Style;
use std::collections::{BTreeMap, HashSet};

/// Signature, text, options and example of a function. Code blocks are indented instead of fenced.
pub fn page(function: &Function, bold: bool) -> String {
    page_with(function, &option_list::declared_of(function), bold)
}

fn page_with(function: &Function, listed: &[ListedOption], bold: bool) -> String {
    let style = if bold { Style::new().bold() } else { Style::new() };
    let mut text = format!("{style}{}{style:#}\n", function.signature());
    let (doc, examples) = function.parts();
    indented(doc, &mut text);
    options(listed, &mut text);
    if !examples.is_empty() {
        text.push('\n');
        indented(examples, &mut text);
    }
    text
}

/// Markdown as lines of a terminal: code further in, headings without their marks.
fn indented(markdown: &str, text: &mut String) {
    let mut in_code = false;
    for line in markdown.trim().lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        } else if line.is_empty() {
            text.push('\n');
        } else if in_code {
            text.push_str(&format!("      {line}\n"));
        } else {
            // Headings stand in the language's own documentation.
            let heading = line.strip_prefix('#').map(|rest| format!("{}:", rest.trim_start_matches(['#', ' '])));
            text.push_str(&format!("  {}\n", heading.unwrap_or_else(|| line.to_owned())));
        }
    }
}

/// Options as a list: names, then type, default and meaning.
fn options(options: &[ListedOption], page: &mut String) {
    if options.is_empty() {
        return;
    }
    page.push_str("\n  Options:\n");
    for option in options {
        let aliases =
            if option.aliases.is_empty() { String::new() } else { format!(" ({})", option.aliases.join(", ")) };
        page.push_str(&format!("    {}{aliases}: {}\n", option.name, option.summary()));
    }
}

/// The pages of several, one under another. Overloads take the same options, which the first of them lists.
pub fn pages(functions: &[&Function], bold: bool) -> String {
    let mut paths = HashSet::new();
    let mut pages = Vec::new();
    for function in functions {
        let listed = option_list::declared_of(function);
        let is_first = !listed.is_empty() && paths.insert(function.path());
        pages.push(page_with(function, if is_first { &listed } else { &[] }, bold));
    }
    pages.join("\n")
}

/// `model.forward(batch)` is the owner `model` and the name `forward`.
pub fn parts(name: &str) -> (Option<&str>, &str) {
    let name = name.split('(').next().unwrap_or(name);
    name.rsplit_once('.').map_or((None, name), |(owner, bare)| (Some(owner), bare))
}

/// All functions, methods and properties of this name; of `type.name` those of that type; of a type
/// all that it has, a line each.
///
/// # Errors
/// A name that nothing has.
pub fn about(catalog: &Catalog, name: &str) -> Result<String> {
    let (owner, bare) = parts(name);
    let fits = |function: &&Function| owner.is_none_or(|owner| is_of(function, owner));
    let named: Vec<&Function> = catalog.named(bare).filter(fits).collect();
    if !named.is_empty() {
        return Ok(pages(&named, false));
    }
    let members: Vec<&Function> = catalog.functions().iter().filter(|function| is_of(function, name)).collect();
    if !members.is_empty() {
        return Ok(lines(&members));
    }
    let text = option_pages(catalog, bare);
    if !text.is_empty() {
        return Ok(text);
    }
    let by_words = search(catalog, name);
    if by_words.is_empty() {
        return Err(unknown(catalog, bare));
    }
    Ok(lines(&by_words))
}

/// In lower case; `held-out` and `eval_loss` are two words each.
fn words_of(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The functions whose name, documentation or options have all of these words.
fn search<'a>(catalog: &'a Catalog, text: &str) -> Vec<&'a Function> {
    let words: Vec<String> = words_of(text).collect();
    let has_all = |function: &&Function| {
        let options = option_list::declared_of(function);
        let options = options.iter().map(|option| format!("{} {}", option.name, option.about));
        let about = format!("{} {} {}", function.name, function.parts().0, options.collect::<Vec<_>>().join(" "));
        let known: HashSet<String> = words_of(&about).collect();
        words.iter().all(|word| known.contains(word))
    };
    catalog.functions().iter().filter(|function| is_word(&function.name)).filter(has_all).collect()
}

/// The functions that have an option of this name, or of the name that Python has for it.
fn option_pages(catalog: &Catalog, name: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for function in catalog.functions() {
        let option = option_list::declared_of(function).into_iter().find(|option| option.is_called(name));
        let line = option
            .map(|option| format!("`{}` is an option of `{}`: {}\n", option.name, function.path(), option.summary()));
        lines.extend(line.filter(|line| !lines.contains(line)));
    }
    lines.concat()
}

fn is_of(function: &Function, kind: &str) -> bool {
    function.receiver().is_some_and(|receiver| receiver.eq_ignore_ascii_case(kind))
}

/// More would be a list, not a hint.
const MOST: usize = 6;

fn unknown(catalog: &Catalog, name: &str) -> Error {
    let error = Error::input(format!("there is no function, method or property called `{name}`"));
    let names = || catalog.functions().iter().map(|function| function.name.as_str()).filter(|name| is_word(name));
    let mut near: Vec<&str> = names().filter(|known| name.len() > 2 && known.contains(name)).collect();
    near.sort_unstable();
    near.extend(suggest::nearest(name, names()));
    let mut seen = HashSet::new();
    near.retain(|name| seen.insert(*name));
    near.truncate(MOST);
    match near.split_last() {
        None => match python::name(name).or_else(|| python::option("", name)) {
            Some(hint) => error.with_hint(hint),
            None => error.with_hint("`lorhai doc` lists all functions"),
        },
        Some((only, [])) => error.with_hint(format!("did you mean `{only}`?")),
        Some((last, others)) => error.with_hint(format!("did you mean `{}` or `{last}`?", others.join("`, `"))),
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_alphabetic()) && !name.contains('$')
}

/// All of lorhai's functions by area, a line each.
pub fn overview() -> String {
    let mut text = String::new();
    for area in api::AREAS {
        let functions = functions(area);
        text.push_str(&format!("{}: {}\n", area.title, area.about));
        text.push_str(&lines(&functions.iter().collect::<Vec<_>>()));
        text.push('\n');
    }
    text.push_str(
        "`lorhai doc NAME` shows the page of a function, also of one that the language has itself, such as `push`.\n",
    );
    text
}

/// Overloads share a line, as do reading and setting a property.
fn lines(functions: &[&Function]) -> String {
    let mut named: BTreeMap<(bool, String), &Function> = BTreeMap::new();
    for function in functions.iter().filter(|function| is_word(&function.name)) {
        let shown = named.entry((function.form != Form::Function, function.path())).or_insert(function);
        if shown.form == Form::Setter {
            *shown = function;
        }
    }
    let longest = named.keys().map(|(_, path)| path.len()).max().unwrap_or(0);
    let line =
        |((_, path), function): (&(bool, String), &&Function)| format!("  {path:longest$}  {}\n", function.summary());
    named.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Session;

    #[test]
    fn a_name_has_its_pages_and_a_type_its_members() {
        let catalog = Session::new().catalog();
        let page = about(&catalog, "lr_schedule").unwrap();
        assert!(page.starts_with("lr_schedule(name: string, options: map) -> Schedule\n  A learning-rate"), "{page}");
        assert!(page.contains("\n  Options:\n    steps: int, required: The steps of the run.\n"), "{page}");
        assert!(page.contains("\n      let cosine = ") && !page.contains("```"), "{page}");
        assert!(about(&catalog, "model.forward").unwrap().starts_with("model.forward("));
        let all = about(&catalog, "train").unwrap();
        assert_eq!(all.matches("  Options:\n").count(), 1, "{all}");
        assert!(all.contains("data: Tokenized,") && all.contains("data: TokenizedSplit,"), "{all}");
        let members = about(&catalog, "Schedule").unwrap();
        assert_eq!(members.lines().count(), 1, "{members}");
        assert!(members.starts_with("  schedule.factor  What"), "{members}");
    }

    #[test]
    fn unknown_names_get_near_ones() {
        let catalog = Session::new().catalog();
        let hint = |name: &str| about(&catalog, name).unwrap_err().hint.unwrap();
        assert_eq!(hint("trian"), "did you mean `train`?");
        assert!(about(&catalog, "footprint").unwrap().contains("model.get_memory_footprint"));
        assert_eq!(hint("zzzzzzzz"), "`lorhai doc` lists all functions");
        assert!(hint("ignore_data_skip").contains("goes on"), "{}", hint("ignore_data_skip"));
    }

    #[test]
    fn words_find_the_functions_whose_documentation_has_them_all() {
        let catalog = Session::new().catalog();
        let text = about(&catalog, "held-out rows loss").unwrap();
        assert!(text.lines().any(|line| line.trim_start().starts_with("train ")), "{text}");
        assert!(about(&catalog, "held-out zzzz").is_err());
    }

    #[test]
    fn an_option_names_the_functions_that_have_it() {
        let catalog = Session::new().catalog();
        for name in ["early_stopping", "early_stopping_patience"] {
            let text = about(&catalog, name).unwrap();
            assert!(text.contains("`early_stopping` is an option of `train`: int, default 0: Stop after"), "{text}");
        }
        assert!(about(&catalog, "max_length").unwrap().contains("`dataset.tokenize`"));
    }

    #[test]
    fn the_list_has_every_function_once() {
        let text = overview();
        for area in api::AREAS {
            assert!(text.contains(area.title), "{}", area.title);
            for function in functions(area).iter().filter(|function| is_word(&function.name)) {
                let path = format!("  {} ", function.path());
                let count = text.lines().filter(|line| line.starts_with(&path)).count();
                assert_eq!(count, 1, "{path}");
            }
        }
    }
}
