//! Results as a table: a line for each, a column for each number.

use crate::table::{table, Align};
use serde_json::{Map, Value};

/// The suffix of the standard error of a number, which is shown after ±.
const ERROR: &str = "_stderr";

/// The first columns, most important first; other numbers follow in the order in which they appear.
const ORDER: [&str; 17] = [
    "perplexity",
    "word_perplexity",
    "byte_perplexity",
    "bits_per_byte",
    "loss",
    "loglikelihood",
    "tokens",
    "words",
    "bytes",
    "texts",
    "acc",
    "acc_norm",
    "acc_bytes",
    "f1",
    "exact_match",
    "score",
    "n",
];

/// A result is a map that holds a number; maps of results may hold it by task and by adapter,
/// whose names begin its line. Empty where there is no result.
pub fn results_table(results: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    collect(results, &mut Vec::new(), &mut lines);
    let depth = lines.iter().map(|(path, _)| path.len()).max().unwrap_or(0);
    let columns = columns(&lines);
    let rows = lines.iter().map(|(path, result)| {
        let names = (0..depth).map(|at| path.get(at).cloned().unwrap_or_default());
        names.chain(columns.iter().map(|column| cell(result, column))).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = (0..depth).map(|_| String::new()).chain(columns.iter().map(|column| (*column).to_owned()));
    let align: Vec<Align> =
        (0..depth + columns.len()).map(|at| if at < depth { Align::Left } else { Align::Right }).collect();
    table(header.collect(), rows, &align)
}

fn collect<'a>(
    map: &'a Map<String, Value>,
    path: &mut Vec<String>,
    lines: &mut Vec<(Vec<String>, &'a Map<String, Value>)>,
) {
    if map.values().any(Value::is_number) {
        return lines.push((path.clone(), map));
    }
    for (name, inner) in map {
        if let Some(inner) = inner.as_object() {
            path.push(name.clone());
            collect(inner, path, lines);
            path.pop();
        }
    }
}

/// The numbers of all results but standard errors, in their order.
fn columns<'a>(lines: &[(Vec<String>, &'a Map<String, Value>)]) -> Vec<&'a str> {
    let mut columns: Vec<&str> = Vec::new();
    let numbers = lines.iter().flat_map(|(_, result)| result.iter().filter(|(_, value)| value.is_number()));
    for (name, _) in numbers.filter(|(name, _)| !name.ends_with(ERROR)) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    columns.sort_by_key(|name| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len()));
    columns
}

fn cell(result: &Map<String, Value>, column: &str) -> String {
    let number = |name: &str| result.get(name).filter(|value| value.is_number()).map(shown);
    match (number(column), number(&format!("{column}{ERROR}"))) {
        (Some(value), Some(error)) => format!("{value} ± {error}"),
        (value, _) => value.unwrap_or_default(),
    }
}

fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(float) if value.is_f64() && float.abs() < 1e6 => format!("{float:.4}"),
        Some(float) if value.is_f64() => format!("{float:.4e}"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_by_adapter_and_task_line_up() {
        let results = json!({
            "base": {"boolq": {"acc": 0.5, "acc_stderr": 0.25, "n": 4, "scores": {"acc": [1.0]}},
                     "copa": {"acc": 1.0, "f1": 0.125, "n": 40}},
            "tuned": {"boolq": {"acc": 0.75, "n": 4}},
        });
        let text = results_table(results.as_object().unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "                          acc      f1   n");
        assert_eq!(lines[2], "base   boolq  0.5000 ± 0.2500           4");
        assert_eq!(lines[3], "base   copa            1.0000  0.1250  40");
        assert_eq!(lines[4], "tuned  boolq           0.7500           4");
        assert_eq!(results_table(&Map::new()), "");
    }
}
