//! Rolling windows over a text that may be longer than the model can read.
//!
//! As `get_rolling_token_windows` of lm-evaluation-harness: every token is scored exactly
//! once, each window is as full as possible, and the first token is scored after the prefix alone.

use super::likelihood::Request;

/// The windows over `ids`, each of at most `max_length` input tokens. A window after the
/// first scores the next `stride` tokens: with `stride` = `max_length` the windows meet end
/// to end, with less each token has at least `max_length` - `stride` + 1 tokens before it.
///
/// Both are at least 1, `stride` at most `max_length`.
pub fn windows(ids: &[u32], prefix: u32, max_length: usize, stride: usize) -> Vec<Request> {
    if ids.is_empty() {
        return Vec::new();
    }
    let first = ids.len().min(max_length);
    let mut windows = vec![Request { ids: [&[prefix], &ids[..first]].concat(), scored: first }];
    let mut done = first;
    while done < ids.len() {
        let scored = stride.min(ids.len() - done);
        let end = done + scored;
        windows.push(Request { ids: ids[end.saturating_sub(max_length + 1)..end].to_vec(), scored });
        done = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (input, scored tokens) of each window.
    fn shown(length: u32, max_length: usize, stride: usize) -> Vec<(Vec<u32>, Vec<u32>)> {
        let ids: Vec<u32> = (0..length).collect();
        let windows = windows(&ids, 99, max_length, stride).into_iter();
        windows
            .map(|window| {
                let (all, count) = (window.ids, window.scored);
                (all[..all.len() - 1].to_vec(), all[all.len() - count..].to_vec())
            })
            .collect()
    }

    #[test]
    fn the_example_of_lm_evaluation_harness() {
        let expected = [
            (vec![99, 0, 1, 2], vec![0, 1, 2, 3]),
            (vec![3, 4, 5, 6], vec![4, 5, 6, 7]),
            (vec![5, 6, 7, 8], vec![8, 9]),
        ];
        assert_eq!(shown(10, 4, 4), expected);
    }

    #[test]
    fn every_token_is_scored_once_whatever_the_stride() {
        for (length, max_length) in [(1, 4), (4, 4), (5, 4), (23, 5), (7, 1)] {
            for stride in 1..=max_length {
                let windows = shown(length, max_length, stride);
                let scored: Vec<u32> = windows.iter().flat_map(|(_, scored)| scored.clone()).collect();
                assert_eq!(scored, (0..length).collect::<Vec<_>>(), "{length} {max_length} {stride}");
                assert!(windows.iter().all(|(input, _)| input.len() <= max_length));
                assert!(windows.iter().skip(1).all(|(input, _)| input.len() == max_length));
            }
        }
        assert!(shown(0, 4, 4).is_empty());
    }
}
