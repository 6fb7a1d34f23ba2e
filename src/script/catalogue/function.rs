//! Functions as plain data: one as it is documented, and the catalog of all that a session knows.
//!
//! Where the catalog comes from is `docs`'s: those that look names up in it are handed one.

use crate::format::lower_first;
use crate::script::values::from_script::type_name;
use rhai::{Engine, FuncMetadata};
use std::collections::BTreeSet;

/// One overload of a script function, as documented.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function {
    pub form: Form,
    pub name: String,
    /// Name and script type of each parameter; the first is the receiver of a method.
    pub parameters: Vec<(String, String)>,
    /// Script type; empty if the function returns nothing.
    pub returns: String,
    /// Markdown, without the comment marks.
    pub doc: String,
}

/// How a function is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    Function,
    Method,
    Getter,
    Setter,
}

impl Function {
    fn new(info: &FuncMetadata) -> Function {
        let by_reference = info.params_info.first().is_some_and(|first| first.contains("&mut"));
        let (form, name) = match (info.name.strip_prefix("get$"), info.name.strip_prefix("set$")) {
            (Some(property), _) => (Form::Getter, property),
            (_, Some(property)) => (Form::Setter, property),
            _ if by_reference => (Form::Method, info.name.as_str()),
            _ => (Form::Function, info.name.as_str()),
        };
        let doc: Vec<&str> = info.comments.iter().flat_map(|comment| comment.lines()).map(uncommented).collect();
        Function {
            form,
            name: name.to_string(),
            parameters: info.params_info.iter().map(|parameter| parsed(parameter)).collect(),
            returns: returned(&info.return_type),
            doc: doc.join("\n"),
        }
    }

    /// How a script writes it: `model.forward(batch: Batch) -> Output`.
    pub fn signature(&self) -> String {
        let shown = |(name, kind): &(String, String)| {
            if kind.is_empty() {
                name.clone()
            } else {
                format!("{name}: {kind}")
            }
        };
        let receiver = self.receiver().map(lower_first).unwrap_or_default();
        let receivers = usize::from(self.form != Form::Function);
        let rest: Vec<String> = self.parameters.iter().skip(receivers).map(shown).collect();
        let rest = rest.join(", ");
        let returns = if self.returns.is_empty() { String::new() } else { format!(" -> {}", self.returns) };
        match self.form {
            Form::Function => format!("{}({rest}){returns}", self.name),
            Form::Method => format!("{receiver}.{}({rest}){returns}", self.name),
            Form::Getter => format!("{receiver}.{}{returns}", self.name),
            Form::Setter => format!("{receiver}.{} = {rest}", self.name),
        }
    }

    /// The name with its receiver, as before the brackets of a call: `train`, `model.forward`, `output.loss`.
    pub fn path(&self) -> String {
        match self.receiver() {
            Some(receiver) => format!("{}.{}", lower_first(receiver), self.name),
            None => self.name.clone(),
        }
    }

    /// The type it is a method or property of.
    pub fn receiver(&self) -> Option<&str> {
        match self.form {
            Form::Function => None,
            _ => self.parameters.first().map(|(_, kind)| kind.as_str()),
        }
    }

    /// The first line, which must say it all.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default().trim()
    }

    /// The documentation before the examples, and the examples.
    pub fn parts(&self) -> (&str, &str) {
        let at = self.doc.find("```rhai").unwrap_or(self.doc.len());
        (self.doc[..at].trim_end(), &self.doc[at..])
    }

    /// The ```` ```rhai ```` blocks.
    pub fn examples(&self) -> Vec<String> {
        let blocks = self.doc.split("```rhai\n").skip(1);
        blocks.filter_map(|block| block.split("```").next()).map(str::to_string).collect()
    }
}

/// `"mut path: &str"` is the name `path` and the type `string`.
fn parsed(parameter: &str) -> (String, String) {
    let (name, kind) = parameter.split_once(':').unwrap_or((parameter, ""));
    let name = name.trim().trim_start_matches("mut ").trim_start_matches('_');
    let kind = if kind.trim().is_empty() { String::new() } else { type_name(kind) };
    (if name.is_empty() { kind.clone() } else { name.to_string() }, kind)
}

fn uncommented(line: &str) -> &str {
    let line = line.trim_start();
    let line = line.strip_prefix("///").unwrap_or(line);
    line.strip_prefix(' ').unwrap_or(line)
}

/// `RhaiResultOf<Model>` and `core::result::Result<Model, …>` are `Model`; `()` is nothing.
fn returned(name: &str) -> String {
    let name = name.replace(' ', "");
    let (outer, inner) = name.split_once('<').unwrap_or((&name, ""));
    let is_result = matches!(outer.rsplit("::").next(), Some("Result" | "RhaiResultOf"));
    match if is_result { value_type(inner.strip_suffix('>').unwrap_or(inner)) } else { name.as_str() } {
        "" | "()" => String::new(),
        other => type_name(other),
    }
}

/// What stands before the type of the error, if one follows: `(A,B),Error` is `(A,B)`.
fn value_type(parameters: &str) -> &str {
    let mut depth = 0;
    let end = parameters.find(|character| {
        match character {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    });
    &parameters[..end.unwrap_or(parameters.len())]
}

/// The functions that an engine knows, as their registration describes them.
pub(super) fn collect(engine: &Engine) -> Vec<Function> {
    engine.collect_fn_metadata(None, |info| Some(Function::new(info.metadata)), true)
}

/// Numbers are ints and floats here; the language has others for programs that embed it.
fn is_odd_number(kind: &str) -> bool {
    let bits = kind.trim_start_matches(['i', 'u', 'f']);
    bits.len() + 1 == kind.len() && matches!(bits, "8" | "16" | "32" | "64" | "128")
}

/// All functions that a session knows: lorhai's, the language's, and the embedder's.
pub struct Catalog {
    pub(super) functions: Vec<Function>,
}

impl Catalog {
    /// The names of functions and methods.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let callable = self.functions.iter().filter(|known| matches!(known.form, Form::Function | Form::Method));
        callable.map(|known| known.name.as_str()).filter(|name| name.starts_with(char::is_alphabetic))
    }

    /// How the functions of this name are called; a few at most.
    pub fn signatures(&self, name: &str) -> Vec<String> {
        let callable = self.functions.iter().filter(|known| matches!(known.form, Form::Function | Form::Method));
        let named: Vec<&Function> = callable.filter(|known| known.name == name).collect();
        // Overloads for number types that no script has would hide the others.
        let is_usual = |known: &&&Function| known.parameters.iter().all(|(_, kind)| !is_odd_number(kind));
        let signatures: BTreeSet<String> = named.iter().filter(is_usual).map(|known| known.signature()).collect();
        signatures.into_iter().take(6).collect()
    }

    /// All of them, sorted.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Those of this name: overloads, and methods of several types.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |known| known.name == name)
    }

    pub fn has_method(&self, of: &str, name: &str) -> bool {
        self.named(name).any(|known| known.form == Form::Method && known.receiver() == Some(of))
    }

    /// How the properties of a type are read: `.loss -> Tensor`.
    pub fn property_signatures(&self, of: &str) -> Vec<String> {
        let getters = self.functions.iter().filter(|known| known.form == Form::Getter && known.receiver() == Some(of));
        getters.map(|getter| format!(".{} -> {}", getter.name, getter.returns)).collect()
    }

    /// The properties of a type.
    pub fn properties(&self, of: &str) -> Vec<String> {
        let getters = self.functions.iter().filter(|known| known.form == Form::Getter && known.receiver() == Some(of));
        getters.map(|known| known.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_the_types_of_their_values() {
        assert_eq!(returned("()"), "");
        assert_eq!(returned("RhaiResultOf<()>"), "");
        assert_eq!(returned("core::result::Result<(), alloc::boxed::Box<rhai::types::error::EvalAltResult>>"), "");
        assert_eq!(returned("core::result::Result<i64, alloc::boxed::Box<rhai::EvalAltResult>>"), type_name("i64"));
        assert_eq!(returned("RhaiResultOf<Model>"), type_name("Model"));
    }
}
