//! The options of functions as documents, completion and `lorhai check` list them.
//!
//! They come from the declarations ([`options!`](crate::options!)) that each area lists by function.

use crate::options::{Declared, Table};
use crate::script::api::AREAS;
use crate::script::catalogue::function::{Catalog, Function};

/// The default of an option that has none.
pub const REQUIRED: &str = "required";

/// One option of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedOption {
    pub name: String,
    /// Python's names for it.
    pub aliases: Vec<String>,
    /// With its range or choices.
    pub type_text: String,
    pub default: String,
    /// Whether the default is in words, with values among them.
    pub has_worded_default: bool,
    /// What it does.
    pub about: String,
    /// The options inside, where it is a map of options.
    pub inner: Vec<ListedOption>,
}

impl From<&Declared> for ListedOption {
    fn from(option: &Declared) -> Self {
        ListedOption {
            name: option.name.to_owned(),
            aliases: option.aliases.iter().map(ToString::to_string).collect(),
            type_text: option.type_text(),
            default: option.default_text(),
            has_worded_default: option.default_words.is_some() && !option.is_required,
            about: option.about_text(),
            inner: (option.inner)().map(declared).unwrap_or_default(),
        }
    }
}

impl ListedOption {
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// The default with its values as code: `` `2e-4` (TRL `2e-5`) ``.
    pub fn default_markdown(&self) -> String {
        if self.has_worded_default {
            return code_values(&self.default);
        }
        let is_value = ![REQUIRED, "none"].contains(&self.default.as_str());
        if is_value {
            format!("`{}`", self.default)
        } else {
            self.default.clone()
        }
    }

    /// Type, default and meaning in one line.
    pub fn summary(&self) -> String {
        let ListedOption { type_text, default, about, .. } = self;
        let word = if default == REQUIRED { "" } else { "default " };
        format!("{type_text}, {word}{default}: {about}")
    }
}

/// Numbers, bools and quoted texts among words, between code marks.
fn code_values(words: &str) -> String {
    let is_value = |word: &str| word.parse::<f64>().is_ok() || word.parse::<bool>().is_ok();
    let marked = |word: &str| {
        let value = word.trim_matches(|mark| "(),;".contains(mark));
        if is_value(value) {
            word.replacen(value, &format!("`{value}`"), 1)
        } else {
            word.to_owned()
        }
    };
    // Every second part stands between quotes.
    let parts = words.split('"').enumerate().map(|(number, part)| match number % 2 {
        0 => part.split(' ').map(marked).collect::<Vec<_>>().join(" "),
        _ => format!("`\"{part}\"`"),
    });
    parts.collect()
}

fn declared(table: &'static Table) -> Vec<ListedOption> {
    table.options().into_iter().map(ListedOption::from).collect()
}

/// The options of a function; none where it takes no map of options.
pub fn declared_of(function: &Function) -> Vec<ListedOption> {
    if !function.parameters.iter().any(|(name, _)| name == "options") {
        return Vec::new();
    }
    let path = function.path();
    let all = AREAS.iter().flat_map(|area| area.options.iter().copied().flatten());
    let table = all.filter(|(of, _)| *of == path).map(|(_, table)| table()).next();
    table.map(declared).unwrap_or_default()
}

/// The options of the functions called `name`, or of the map at `path` inside them.
pub fn of(catalog: &Catalog, name: &str, path: &[String]) -> Vec<ListedOption> {
    let mut options: Vec<ListedOption> = Vec::new();
    for option in catalog.named(name).flat_map(declared_of) {
        if !options.iter().any(|known| known.name == option.name) {
            options.push(option);
        }
    }
    for name in path {
        let map = options.into_iter().find(|option| option.is_called(name));
        options = map.map(|option| option.inner).unwrap_or_default();
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use rhai::Engine;

    fn names(function: &str, path: &[&str]) -> Vec<String> {
        let path: Vec<String> = path.iter().map(|part| part.to_string()).collect();
        of(&Catalog::of(&Engine::new()), function, &path).into_iter().map(|option| option.name).collect()
    }

    #[test]
    fn options_have_the_types_defaults_and_aliases_of_their_declarations() {
        assert_eq!(names("random_model", &[]), ["seed", "dtype", "device"]);
        assert_eq!(names("evaluate", &[]), ["batch"]);
        let lora = names("add_lora", &[]);
        assert!(lora.contains(&"exclude_modules".to_string()) && !lora.contains(&"lora_alpha".to_string()), "{lora:?}");
        let all = of(&Catalog::of(&Engine::new()), "lr_schedule", &[]);
        assert_eq!((all[0].default.as_str(), all[1].default.as_str()), ("required", "0.0"));
        assert!(
            all[1].summary().starts_with("float of at least 0, default 0.0: Steps in which"),
            "{}",
            all[1].summary()
        );
    }

    #[test]
    fn only_the_values_of_a_default_in_words_are_code() {
        for (words, markdown) in [
            ("2e-4 (TrainingArguments 5e-5, TRL 2e-5)", "`2e-4` (TrainingArguments `5e-5`, TRL `2e-5`)"),
            ("false; true for `chat`", "`false`; `true` for `chat`"),
            ("\"seed\", where the grid has it", "`\"seed\"`, where the grid has it"),
            ("the active one", "the active one"),
        ] {
            assert_eq!(code_values(words), markdown);
        }
        let options = of(&Catalog::of(&Engine::new()), "perplexity", &[]);
        let column = options.iter().find(|option| option.name == "column").map(ListedOption::default_markdown);
        assert_eq!(column.as_deref(), Some("`\"text\"`"));
    }

    #[test]
    fn maps_of_options_list_what_is_inside() {
        let add_lora = names("add_lora", &[]);
        let spec: Vec<String> =
            add_lora.iter().filter(|name| !["name", "seed"].contains(&name.as_str())).cloned().collect();
        assert_eq!((names("count_parameters", &[]), spec.len() + 2), (spec.clone(), add_lora.len()));
        assert!(names("memory_plan", &[]).ends_with(&spec));
        let compare = names("compare", &[]);
        assert!(compare.contains(&"references".to_string()) && compare.contains(&"top_k".to_string()), "{compare:?}");
        assert!(!compare.contains(&"stream".to_string()), "{compare:?}");
        assert_eq!(names("sweep", &["lora"]), spec);
        let train = names("sweep", &["train"]);
        assert!(train.contains(&"seed".to_string()) && !train.contains(&"out".to_string()), "{train:?}");
        assert_eq!(train.last().map(String::as_str), Some("loss"));
        let of_sweeps = vec!["base".to_owned(), "data".to_owned()];
        assert_eq!(names("sweep", &["grid"]), [spec, train, of_sweeps].concat());
        assert!(names("sweep", &["out"]).is_empty() && names("sweep", &["lora", "r"]).is_empty());
    }
}
