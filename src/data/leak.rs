//! Finds test rows whose prompt is also in the training rows. Their loss shows how well answers were memorised, not how the
//! model does on new prompts.

use super::pace::Pace;
use super::store::RowView;
use super::tokenized::TokenizedDataset;
use crate::format::thousands;
use std::collections::hash_map::DefaultHasher;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

/// How many rows of `test` have the prompt of a row of `train`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPrompts {
    pub rows: usize,
    pub of: usize,
    /// The first such row of `test`.
    pub first: usize,
}

impl std::fmt::Display for SharedPrompts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, of) = (thousands(self.rows as u64), thousands(self.of as u64));
        write!(
            out,
            "warning: {rows} of {of} rows of `test` have a prompt that is also in `train` (first: row {}): the test loss rewards memorised answers\n  \
             hint: split the rows by prompt before tokenizing them: data.split(#{{ test: 0.1, group: \"prompt\" }})",
            self.first
        )
    }
}

/// The rows of `test` with a prompt of `train`. `None` if all rows have the same prompt, which then is the task; and in a
/// rehearsal, where rows stand for others that were not tokenized.
pub fn shared_prompts(train: &TokenizedDataset, test: &TokenizedDataset, pace: Pace) -> Option<SharedPrompts> {
    if !pace.is_full() {
        return None;
    }
    let known: HashSet<u64> = train.iter().flat_map(prompts).collect();
    if known.len() < 2 {
        return None;
    }
    let is_shared = |row: &RowView| prompts(*row).any(|prompt| known.contains(&prompt));
    let rows: Vec<usize> = test.iter().enumerate().filter(|(_, row)| is_shared(row)).map(|(index, _)| index).collect();
    Some(SharedPrompts { rows: rows.len(), of: test.len(), first: *rows.first()? })
}

/// For each document of a row, a hash of the tokens before the first one that is trained on; of the whole document if at
/// most one token is before it.
fn prompts(row: RowView<'_>) -> impl Iterator<Item = u64> + '_ {
    row.documents().map(|document| {
        let before = document.trained().position(|trained| trained).unwrap_or(document.ids().len());
        let length = if before <= 1 { document.ids().len() } else { before };
        let mut hasher = DefaultHasher::new();
        document.ids().get(..length).hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::store::{TokenizedInfo, TokenizedRow};

    fn data(rows: &[(&[u32], usize)]) -> TokenizedDataset {
        let rows = rows.iter().map(|(ids, prompt)| TokenizedRow {
            ids: ids.to_vec(),
            trained: (0..ids.len()).map(|at| at >= *prompt).collect(),
            ..TokenizedRow::default()
        });
        TokenizedDataset::from_rows(rows, TokenizedInfo::default()).unwrap()
    }

    #[test]
    fn prompts_on_both_sides_are_counted() {
        let train = data(&[(&[1, 2, 3, 9], 3), (&[1, 2, 4, 9], 3), (&[1, 7, 7], 1)]);
        let test = data(&[(&[1, 2, 5, 9], 3), (&[1, 2, 4, 8], 3), (&[1, 7, 8], 1), (&[1, 7, 7], 1)]);
        assert_eq!(shared_prompts(&train, &test, Pace::Full), Some(SharedPrompts { rows: 2, of: 4, first: 1 }));
        assert_eq!(shared_prompts(&train, &data(&[(&[1, 2, 6, 9], 3)]), Pace::Full), None);
        assert_eq!(
            shared_prompts(&data(&[(&[1, 2, 3], 2)]), &data(&[(&[1, 2, 4], 2)]), Pace::Full),
            None,
            "one prompt is the task"
        );
    }
}
