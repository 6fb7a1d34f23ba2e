//! What editors know of the functions: definitions as the Rhai language server reads them (`.d.rhai`),
//! and the same as JSON for anything else. Made from the documentation, as the reference is.

use crate::script::api;
use crate::script::catalogue::docs::{functions, Form, Function};
use crate::script::catalogue::option_list::{self, ListedOption};
use serde_json::{json, Value};
use std::collections::BTreeSet;

/// All functions as declarations with their documentation; the same bytes for the same functions.
pub fn definitions() -> String {
    let mut text = String::from(
        "// Made by `lorhai docs` from the comments in `src/script/api/`; do not edit it by hand.\n\
         module static;\n",
    );
    for area in api::AREAS {
        text.push_str(&format!("\n// {}: {}\n", area.title, area.about));
        let mut shown = BTreeSet::new();
        for function in functions(area) {
            let declared = declaration(&function);
            // What begins with a letter is a name, `+` an operator; `index$get$` can be neither.
            if !function.name.contains('$') && shown.insert(declared.clone()) {
                let doc: String = documented(&function)
                    .trim()
                    .lines()
                    .map(|line| format!("/// {line}").trim_end().to_string() + "\n")
                    .collect();
                text.push_str(&format!("\n{doc}{declared}\n"));
            }
        }
    }
    text
}

/// The documentation with its options as a list, which editors show as it is.
fn documented(function: &Function) -> String {
    let options = option_list::declared_of(function);
    if options.is_empty() {
        return function.doc.clone();
    }
    let (doc, examples) = function.parts();
    let lines: Vec<String> =
        options.iter().map(|option| format!("- `{}`: {}", option.name, option.summary())).collect();
    format!("{doc}\n\nOptions:\n{}\n\n{examples}", lines.join("\n"))
}

fn declaration(function: &Function) -> String {
    let returns = if function.returns.is_empty() { "()" } else { kind(&function.returns) };
    let is_operator = !function.name.starts_with(|first: char| first.is_alphabetic() || first == '_');
    let typed =
        |(name, of): &(String, String)| if is_operator { kind(of).to_owned() } else { format!("{name}: {}", kind(of)) };
    let parameters: Vec<String> = function.parameters.iter().map(typed).collect();
    let (word, name) = match function.form {
        Form::Getter => ("fn get", &function.name),
        Form::Setter => ("fn set", &function.name),
        _ if is_operator => ("op", &function.name),
        _ => ("fn", &function.name),
    };
    format!("{word} {name}({}) -> {returns};", parameters.join(", "))
}

/// The name that definition files have for a type.
fn kind(name: &str) -> &str {
    match name {
        "string" => "String",
        "array" => "Array",
        "map" => "Map",
        "function" => "FnPtr",
        "any" | "" => "?",
        other => other,
    }
}

/// All functions with signatures, documentation, options and examples, in the order of the reference.
pub fn json() -> Value {
    let mut all = Vec::new();
    for area in api::AREAS {
        all.extend(functions(area).iter().map(|function| described(function, area.title)));
    }
    json!({ "lorhai": env!("CARGO_PKG_VERSION"), "functions": all })
}

fn described(function: &Function, area: &str) -> Value {
    let parameters: Vec<Value> =
        function.parameters.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect();
    json!({
        "name": function.name,
        "form": match function.form {
            Form::Function => "function",
            Form::Method => "method",
            Form::Getter => "property",
            Form::Setter => "setter",
        },
        "area": area,
        "signature": function.signature(),
        "of": function.receiver(),
        "parameters": parameters,
        "returns": (!function.returns.is_empty()).then_some(&function.returns),
        "summary": function.summary(),
        "description": function.doc.split("```").next().unwrap_or_default().trim(),
        "options": option_list::declared_of(function).iter().map(typed).collect::<Vec<Value>>(),
        "examples": function.examples(),
    })
}

fn typed(option: &ListedOption) -> Value {
    let ListedOption { name, type_text, default, about, .. } = option;
    let mut described = json!({ "name": name, "type": type_text, "default": default, "about": about });
    if !option.aliases.is_empty() {
        described["aliases"] = json!(option.aliases);
    }
    if !option.inner.is_empty() {
        described["options"] = option.inner.iter().map(typed).collect();
    }
    described
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_declare_functions_methods_properties_and_operators() {
        let text = definitions();
        for expected in [
            "\nmodule static;\n",
            "\n/// A learning-rate schedule: \"constant\", \"linear\" or \"cosine\".\n///\n/// \"constant\" warms up too",
            "\n/// - `steps`: int, required: The steps of the run.\n",
            "\nfn lr_schedule(name: String, options: Map) -> Schedule;\n",
            "\nfn get lr(optimizer: AdamWOptimizer) -> float;\n",
            "\nfn set lr(optimizer: AdamWOptimizer, lr: float) -> ();\n",
            "\nop +(Tensor, Tensor) -> Tensor;\n",
        ] {
            assert!(text.contains(expected), "{expected}");
        }
        let code = text.lines().filter(|line| !line.starts_with("//") && !line.is_empty());
        assert!(code.clone().count() > 100 && code.clone().all(|line| line.ends_with(';') && !line.contains('$')));
    }

    #[test]
    fn json_has_options_with_their_defaults() {
        let all = json();
        let functions = all["functions"].as_array().unwrap();
        let named = |name: &str| functions.iter().find(|function| function["name"] == name).unwrap();
        let schedule = named("lr_schedule");
        let steps = json!({ "name": "steps", "type": "int", "default": "required", "about": "The steps of the run." });
        assert_eq!(schedule["options"][0], steps);
        assert_eq!(schedule["parameters"][1], json!({ "name": "options", "type": "map" }));
        assert!(!schedule["description"].as_str().unwrap().contains("```"));
        let counted: Vec<&str> = named("count_parameters")["options"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|o| o["name"].as_str())
            .collect();
        assert!(counted.contains(&"target_modules"), "{counted:?}");
    }
}
