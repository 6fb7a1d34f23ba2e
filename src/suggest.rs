//! "Did you mean": the known name nearest to a mistyped one.

use std::path::Path;

/// The nearest of `known` to `name`, if it is near enough to be a slip of the hand.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.into_iter().collect();
    let limit = match name.chars().count() {
        0..=4 => 1,
        5..=7 => 2,
        length => length / 3 + 1,
    };
    let measured =
        known.iter().map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), *candidate));
    let near = measured.filter(|(steps, candidate)| *steps <= limit && *steps < candidate.chars().count().max(2));
    let nearest = near.min_by_key(|(steps, _)| *steps).map(|(_, candidate)| candidate);
    nearest
        .or_else(|| known.iter().copied().find(|candidate| has_its_words(name, candidate)))
        .or_else(|| only_with_word(name, &known))
}

/// The one name with `name` as a word: `add_lora` for `lora`.
fn only_with_word<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let mut with_word =
        known.iter().filter(|candidate| name.len() > 3 && candidate.split('_').any(|word| word == name));
    match (with_word.next(), with_word.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Does `candidate` have all words of `name`, in their order: `max_new_tokens` those of `max_token`?
/// Or `name` those of `candidate` and more: `heatmap` and `heat`?
fn has_its_words(name: &str, candidate: &str) -> bool {
    if candidate.len() > 3 && name.starts_with(candidate) {
        return true;
    }
    let mut words = candidate.split('_');
    name.matches('_').count() > 0
        && name.split('_').all(|wanted| wanted.len() > 1 && words.any(|word| word.starts_with(wanted)))
}

/// The path with the name nearest to that of `path`, among those beside it that are `wanted`.
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

/// As [`hint`], where one of `others` may have been meant too; they are not listed.
pub fn hint_beside<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
    others: impl IntoIterator<Item = &'a str>,
) -> String {
    /// A list as long as that hides the one name that was meant.
    const MANY: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied().chain(others)) {
        Some(near) if known.len() > MANY => format!("did you mean `{near}`?"),
        Some(near) => format!("did you mean `{near}`? (known: {})", known.join(", ")),
        None => format!("known: {}", known.join(", ")),
    }
}

/// Edit distance that counts a swap of neighbours as one step (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let changed = usize::from(left[i - 1] != right[j - 1]);
            row[j] = (last[j - 1] + changed).min(last[j] + 1).min(row[j - 1] + 1);
            let swapped = i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if swapped {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_do_not() {
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
    }
}
