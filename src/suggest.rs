//! "Did you mean": the known name nearest to a mistyped one.
//!
//! A swap of two neighbours counts as one typo (optimal string alignment).

use std::path::Path;
use strsim::osa_distance;

/// The nearest of `known` to `name`, if it is near enough to be a typo.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known.iter().filter_map(|candidate| Some((typo_distance(name, candidate)?, *candidate)));
    // Ties go to the most similar length, then alphabetically, so that the order of `known` does not matter.
    let order =
        |(steps, candidate): &(usize, &str)| (*steps, candidate.len().abs_diff(name.len()), candidate.to_string());
    let nearest = near.min_by_key(order).map(|(_, candidate)| candidate);
    nearest
        .or_else(|| known.iter().copied().find(|candidate| has_its_words(name, candidate)))
        .or_else(|| only_with_word(name, &known))
}

/// The edits from one name to the other, if each word has few enough to be a typo. A different word has a
/// different meaning: `eval_accumulation_steps` is no typo of `gradient_accumulation_steps`.
fn typo_distance(name: &str, candidate: &str) -> Option<usize> {
    let (name, candidate) = (name.to_lowercase(), candidate.to_lowercase());
    let (left, right): (Vec<&str>, Vec<&str>) = (name.split('_').collect(), candidate.split('_').collect());
    let steps = if left.len() == right.len() {
        let each = left.iter().zip(&right).map(|(left, right)| {
            let steps = osa_distance(left, right);
            (steps <= limit(left)).then_some(steps)
        });
        each.sum::<Option<usize>>()?
    } else {
        // A missing or an extra underscore.
        let steps = osa_distance(&left.concat(), &right.concat());
        (steps <= 1).then_some(steps + 1)?
    };
    (steps < candidate.chars().count().max(2)).then_some(steps)
}

/// How many edits still make a typo of a word.
fn limit(word: &str) -> usize {
    match word.chars().count() {
        0..=6 => 1,
        7..=9 => 2,
        _ => 3,
    }
}

/// The only name that has `name` as a word: `add_lora` for `lora`.
fn only_with_word<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // One word of a long name says little: `model` of `load_best_model_at_end`.
    let mut with_word = known.iter().filter(|candidate| {
        name.len() > 3 && candidate.split('_').count() <= 2 && candidate.split('_').any(|word| word == name)
    });
    match (with_word.next(), with_word.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Whether `candidate` has all words of `name` in order, as `max_new_tokens` has those of `max_token`, or
/// `name` begins with `candidate`, as `heatmap` with `heat`.
fn has_its_words(name: &str, candidate: &str) -> bool {
    if candidate.len() > 3 && name.strip_prefix(candidate).is_some_and(|rest| !rest.contains('_')) {
        return true;
    }
    let mut words = candidate.split('_');
    name.matches('_').count() > 0
        && name.split('_').all(|wanted| wanted.len() > 1 && words.any(|word| word.starts_with(wanted)))
}

/// The path beside `path` with the nearest name, of those that `wanted` accepts.
pub fn nearest_path(path: &Path, wanted: impl Fn(&Path) -> bool) -> Option<String> {
    let parent = path.parent()?;
    let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let beside = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| wanted(&entry.path()));
    let names: Vec<String> = beside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let near = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(parent.join(near).display().to_string())
}

/// A hint that names the nearest known name, or lists them all.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    hint_beside(name, known, [])
}

/// As [`hint`], but also suggests names of `others`, which are not listed.
pub fn hint_beside<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    others: impl IntoIterator<Item = &'a str>,
) -> String {
    /// A longer list would hide the suggestion.
    const MANY: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied().chain(others)) {
        Some(near) if known.len() > MANY => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{near}`? (known: {})", known.join(", ")),
        None => format!("known: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_find_their_name_and_other_words_do_not() {
        let known = ["rank", "alpha", "target_modules", "dropout"];
        assert_eq!(nearest("rnak", known), Some("rank"));
        assert_eq!(nearest("targets_modules", known), Some("target_modules"));
        assert_eq!(nearest("Alpha", known), Some("alpha"));
        assert_eq!(nearest("learning_rate", known), None);
        assert_eq!(nearest("str", ["sin", "len"]), None);
        assert_eq!(nearest("max_token", ["top_k", "max_new_tokens"]), Some("max_new_tokens"));
        assert_eq!(nearest("heatmap", ["lines", "heat"]), Some("heat"));
        assert_eq!(nearest("lora", ["add_lora", "train"]), Some("add_lora"));
        assert_eq!(nearest("adapter", ["load_adapter", "save_adapter"]), None);
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("x", ["exp", "y"]), Some("y"));
        assert_eq!(nearest("weightdecay", ["weight_decay"]), Some("weight_decay"));
        assert_eq!(nearest("resume", ["reduce", "rename"]), None);
        assert_eq!(nearest("eval_accumulation_steps", ["gradient_accumulation_steps"]), None);
        assert_eq!(nearest("lr_scheduler_kwargs", ["lr_scheduler_type"]), None);
        assert_eq!(nearest("train_on_inputs", ["train"]), None);
        assert_eq!(nearest("model", ["load_best_model_at_end"]), None);
    }
}
