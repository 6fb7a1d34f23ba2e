//! Which trials of a sweep train side by side, kept in `groups.json` until the sweep is finished.
//!
//! The company of a trial changes its numbers by rounding. A sweep that was cut off forms the same groups again, so that
//! it ends with the very numbers of one that was not.

use super::trial::Trial;
use crate::error::Result;
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const GROUPS: &str = "groups.json";

/// Trials that train side by side, spread over so many threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub workers: usize,
    /// The names of the trials.
    pub trials: Vec<String>,
    /// The rung that they train to; `None` to their ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<i64>,
}

impl Group {
    pub fn new(workers: usize, trials: &[&Trial], stage: Option<i64>) -> Self {
        Group { workers, trials: trials.iter().map(|trial| trial.name.clone()).collect(), stage }
    }
}

/// The groups of the sweep in `out`; none where they are not known.
pub fn read(out: &Path) -> Vec<Group> {
    let path = out.join(GROUPS);
    if !path.is_file() {
        return Vec::new();
    }
    files::read_json(&path).ok().and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}

pub fn write(out: &Path, groups: impl Iterator<Item = Group>) -> Result<()> {
    files::write_json(&out.join(GROUPS), &groups.collect::<Vec<_>>())
}

pub fn remove(out: &Path) {
    let _ = std::fs::remove_file(out.join(GROUPS));
}

/// The groups of `known` that are to be formed again for the trials that are `pending`. A
/// group is, if none of its trials is finished, or some of them are saved: then the others were finished beside them.
/// Each comes with the number of its workers.
pub fn formed_again<'a>(
    known: &[Group],
    pending: &[&'a Trial],
    is_saved: impl Fn(&Trial) -> bool,
) -> Vec<(usize, Vec<&'a Trial>)> {
    let mut rest: Vec<&Trial> = pending.to_vec();
    let mut groups = Vec::new();
    for group in known {
        let members: Vec<&Trial> =
            group.trials.iter().filter_map(|name| rest.iter().find(|trial| trial.name == *name).copied()).collect();
        let is_whole = members.len() == group.trials.len();
        if members.is_empty() || !(is_whole || members.iter().any(|trial| is_saved(trial))) {
            continue;
        }
        rest.retain(|trial| !members.iter().any(|member| member.index == trial.index));
        groups.push((group.workers, members));
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Point;
    use serde_json::json;

    fn trials(names: &[&str]) -> Vec<Trial> {
        let trial = |(index, name): (usize, &&str)| Trial {
            index,
            name: name.to_string(),
            point: Point::default(),
            settings: json!({}),
            dir: name.into(),
            origin: None,
        };
        names.iter().enumerate().map(trial).collect()
    }

    #[test]
    fn groups_are_formed_again_unless_their_trials_are_over() {
        let group = |workers, names: &[&str]| Group {
            workers,
            trials: names.iter().map(|n| n.to_string()).collect(),
            stage: None,
        };
        let known = [group(2, &["a", "b"]), group(1, &["c", "d"]), group(3, &["e", "f"]), group(1, &["gone"])];
        // `a` finished alone in the end; `d` failed and is tried again; `g` is new.
        let all = trials(&["b", "d", "f", "e", "g"]);
        let pending: Vec<&Trial> = all.iter().collect();
        let groups = formed_again(&known, &pending, |trial| trial.name == "b");
        let names = |trials: &[&Trial]| trials.iter().map(|trial| trial.name.clone()).collect::<Vec<_>>().join(" ");
        let shown: Vec<(usize, String)> = groups.iter().map(|(workers, trials)| (*workers, names(trials))).collect();
        assert_eq!(shown, [(2, "b".to_owned()), (3, "e f".to_owned())]);
    }

    #[test]
    fn damaged_groups_are_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        let groups = [Group { workers: 2, trials: vec!["a".into()], stage: Some(-1) }];
        write(folder.path(), groups.iter().cloned()).unwrap();
        assert_eq!(read(folder.path()), groups);
        std::fs::write(folder.path().join(GROUPS), "[{").unwrap();
        assert!(read(folder.path()).is_empty());
    }
}
